package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"questdb-ilp-proxy/config"
)

const (
	// folderLimit is how long another proxy that opens its socket in the same folder is
	// waited for; that takes it a millisecond.
	folderLimit = 2 * time.Second
	folderEvery = 5 * time.Millisecond
)

// unixListener removes its socket when it is closed, if that is still its own.
type unixListener struct {
	*net.UnixListener
	path  string
	own   fs.FileInfo
	close func() error // once: whoever has the path after that keeps it
}

// Close implements [net.Listener].
func (l *unixListener) Close() error { return l.close() }

// listenUnix makes a socket at path, in place of one that nobody listens on any
// more, as a proxy leaves it that was killed.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	// Of two proxies that find the same old socket, the second must not remove the first
	// one's new one.
	defer lockFolder(ctx, filepath.Dir(path))()
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// The file gets this mode when it is made, less the umask: at no moment
		// may more connect than should. Where the system knows no such thing,
		// there is the chmod below.
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	opened, err := lc.Listen(ctx, config.NetUnix, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(ctx, path); err != nil {
			return nil, fmt.Errorf("ILP_LISTEN: cannot listen for writers on unix://%s: %w", path, err)
		}
		opened, err = lc.Listen(ctx, config.NetUnix, path)
	}
	if err != nil {
		return nil, fmt.Errorf("ILP_LISTEN: cannot listen for writers on unix://%s: %w; check that its folder exists, and that the proxy may write there", path, err)
	}
	l := &unixListener{UnixListener: opened.(*net.UnixListener), path: path}
	l.SetUnlinkOnClose(false)
	l.close = sync.OnceValue(func() error {
		l.remove()
		return l.UnixListener.Close()
	})
	if l.own, err = os.Lstat(path); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("ILP_LISTEN: the socket %s is gone at once: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("ILP_UNIX_MODE: cannot set the mode of %s: %w", path, err)
	}
	return l, nil
}

// remove removes the socket, unless another one has its place: somebody may have
// removed it, and another proxy listen there now.
func (l *unixListener) remove() {
	if now, err := os.Lstat(l.path); err == nil && l.own != nil && os.SameFile(now, l.own) {
		_ = os.Remove(l.path) // the next one finds that nobody listens on it
	}
}

// lockFolder keeps other proxies from opening sockets in the folder until unlock. Where
// that cannot be had it does nothing.
func lockFolder(ctx context.Context, path string) (unlock func()) {
	folder, err := os.Open(path)
	if err != nil {
		return func() {} // whoever listens there says why
	}
	ctx, cancel := context.WithTimeout(ctx, folderLimit)
	defer cancel()
	tick := time.NewTicker(folderEvery)
	defer tick.Stop()
	for errors.Is(syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return func() { _ = folder.Close() }
		}
	}
	return func() { _ = folder.Close() } // and with it the lock
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone meanwhile
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket; remove it, or choose another path")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, config.NetUnix, path)
	if err == nil {
		_ = conn.Close()
		return errors.New("someone listens on it already; end that one, or choose another path")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("it cannot be told whether someone listens there already: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the socket that nobody listens on: %w", err)
	}
	return nil
}
