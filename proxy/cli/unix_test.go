package cli

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestUnixTogether has several open the same path at the same time, in place of a
// socket that nobody listens on: one gets it, and is reached there.
func TestUnixTogether(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		_ = old.Close()
		var wg sync.WaitGroup
		listeners := make(chan net.Listener, 8)
		for range cap(listeners) {
			wg.Go(func() {
				if l, err := listenUnix(t.Context(), path, 0o660); err == nil {
					listeners <- l
				}
			})
		}
		wg.Wait()
		if n := len(listeners); n != 1 {
			t.Errorf("%d listen on one path", n)
		}
		close(listeners)
		for l := range listeners {
			_ = l.Close()
		}
	}
}

// TestUnixReplaced has the socket removed, and another proxy listen in its place: that
// one's stays when the first ends.
func TestUnixReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := listenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the second one's socket: %v", err)
	}
	_ = conn.Close()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket was left: %v", err)
	}
}
