package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"questdb-ilp-proxy/config"
)

// openListeners opens everything that ILP_LISTEN names, or nothing.
func (p *instance) openListeners(ctx context.Context) (err error) {
	var opened []net.Listener
	var packets []*net.UDPConn
	defer func() {
		if err != nil {
			for _, l := range opened {
				_ = l.Close()
			}
			for _, conn := range packets {
				_ = conn.Close()
			}
		}
	}()
	// Taken even if nobody asked for them: they are not for others.
	passed, err := passedFiles()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range passed {
			_ = f.Close() // the listeners have copies
		}
	}()
	used := make(map[*os.File]bool, len(passed))
	var lc net.ListenConfig
	for _, at := range p.cfg.Listen {
		var l net.Listener
		switch at.Network {
		case config.NetSystemd:
			some, err := passedListeners(at, passed, used)
			opened = append(opened, some...)
			if err != nil {
				return err
			}
			continue
		case config.NetUDP:
			conn, err := lc.ListenPacket(ctx, at.Network, at.Addr)
			if err != nil && at.MayBeAbsent(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("ILP_LISTEN: cannot listen for datagrams on %s: %w; check that nothing else does, and that the address is this machine's", at.Addr, err)
			}
			packets = append(packets, conn.(*net.UDPConn))
			continue
		case config.NetUnix:
			l, err = listenUnix(ctx, at.Addr, fs.FileMode(p.cfg.UnixMode))
		default:
			l, err = lc.Listen(ctx, at.Network, at.Addr)
			if err != nil && at.MayBeAbsent(err) {
				p.log.Debug("this machine has no IPv6 loopback address; not listening there", "address", at.Addr)
				continue
			}
			if err != nil {
				err = fmt.Errorf("ILP_LISTEN: cannot listen for writers on %s: %w; check that nothing else does, and that the address is this machine's", at.Addr, err)
			}
		}
		if err != nil {
			return err
		}
		opened = append(opened, l)
	}
	for _, f := range passed {
		if !used[f] {
			p.log.Warn("systemd passed a socket that ILP_LISTEN does not name; it is closed. systemd:// takes all, systemd://NAME those with this name", "name", f.Name())
		}
	}
	p.listeners = append(p.listeners, opened...)
	p.packets = append(p.packets, packets...)
	return nil
}

// passedListeners makes listeners of the sockets that systemd passed and at names.
func passedListeners(at config.Listen, passed []*os.File, used map[*os.File]bool) (some []net.Listener, err error) {
	for _, f := range passed {
		if at.Addr != "" && f.Name() != at.Addr {
			continue
		}
		used[f] = true
		listening, err := syscall.GetsockoptInt(int(f.Fd()), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		if err != nil || listening == 0 {
			return some, fmt.Errorf("ILP_LISTEN: %s: what systemd passed as %s is no listening stream socket; its unit needs ListenStream= and Accept=no", at, f.Name())
		}
		l, err := net.FileListener(f)
		if err != nil {
			return some, fmt.Errorf("ILP_LISTEN: %s: cannot listen on what systemd passed as %s: %w", at, f.Name(), err)
		}
		some = append(some, l)
	}
	if len(some) == 0 {
		names := make([]string, len(passed))
		for i, f := range passed {
			names[i] = f.Name()
		}
		return nil, fmt.Errorf("ILP_LISTEN: %s: systemd passed no such socket (it passed %d: %s); start the socket unit, and let it name this service",
			at, len(passed), strings.Join(names, ", "))
	}
	return some, nil
}

// listenUnix makes a socket at path, in place of one that nobody listens on any
// more, as a proxy leaves it that was killed. Its listener removes it when it is
// closed.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// The file gets this mode when it is made, less the umask: at no moment
		// may more connect than should. Where the system knows no such thing,
		// there is the chmod below.
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	l, err := lc.Listen(ctx, config.NetUnix, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(ctx, path); err != nil {
			return nil, fmt.Errorf("ILP_LISTEN: cannot listen for writers on unix://%s: %w", path, err)
		}
		l, err = lc.Listen(ctx, config.NetUnix, path)
	}
	if err != nil {
		return nil, fmt.Errorf("ILP_LISTEN: cannot listen for writers on unix://%s: %w; check that its folder exists, and that the proxy may write there", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("ILP_UNIX_MODE: cannot set the mode of %s: %w", path, err)
	}
	return l, nil
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
