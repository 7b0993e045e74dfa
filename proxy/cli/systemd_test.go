package cli

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"questdb-ilp-proxy/config"
)

// TestWatchdogEnds has systemd not read what it is told, so that each word takes as long
// as it may: the end waits for none that is begun after it.
func TestWatchdogEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1")
	cfg, err := config.Load([]string{"ILP_UPSTREAM=127.0.0.1:1", "ILP_AUTH_JWK=" + docJWK, "ILP_ADMIN=off"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newInstance(cfg, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	done := make(chan struct{})
	close(done)
	for range 20 { // what is told is chosen by chance, where there is a choice
		p.watchdog(done)
	}
	_ = systemd.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := systemd.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("still told something after the end: %d bytes, %v", n, err)
	}
}
