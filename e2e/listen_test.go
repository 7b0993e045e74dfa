package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// shortDir is a folder whose name leaves room for a socket's: a test's own is
// often too long.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ilp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestUnix has rows by nc -U beside rows by TCP in QuestDB, from a socket that a
// killed proxy's replaces, and that nobody else may take over.
func TestUnix(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	path := filepath.Join(shortDir(t), "ilp.sock")
	env := proxytest.EnvFor(key, db.ILP()).With("ILP_LISTEN", "tcp://127.0.0.1:0,unix://"+path, "ILP_UNIX_MODE", "0622")

	killed := proxytest.Start(t, env)
	killed.WaitLog(`"address":"`+path+`"`, arrive)
	killed.Kill()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a killed proxy leaves its socket: %v", err)
	}

	p := proxytest.Start(t, env)
	p.WaitLog(`"address":"`+path+`"`, arrive)
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o622 {
		t.Errorf("the socket's mode is %v, %v", info, err)
	}
	second := proxytest.Launch(t, env)
	if code := second.Wait(arrive); code != 1 || !strings.Contains(second.Log(), "someone listens on it already") {
		t.Errorf("a second proxy on the same socket ended with %d", code)
	}

	ctx, cancel := context.WithTimeout(t.Context(), arrive)
	defer cancel()
	nc := exec.CommandContext(ctx, "nc", "-N", "-U", path)
	nc.Stdin = strings.NewReader(numbered("by_unix", 0, 1000) + "unfinished v=1")
	if out, err := nc.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("nc: %v\n%s", err, out)
	}
	p.Send("by_tcp v=1i 1000000000\n")
	db.WaitCount("by_unix", 1000, arrive)
	db.WaitCount("by_tcp", 1, arrive)
	p.WaitLog(`"remote":"unix:`+path+`"`, arrive) // of the unfinished record

	// A writer that stays is told by a half-close, as by TCP.
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "at_the_end v=1i 1000000000\n"); err != nil {
		t.Fatal(err)
	}
	p.WaitMetric(arrive, proxytest.Equal(1), "sessions") // accepted: the listener's end drops who was not
	p.Stop(30 * time.Second)
	db.WaitCount("at_the_end", 1, arrive)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket was not removed: %v", err)
	}
}

// TestUnixNoSocket has a file that is no socket left alone.
func TestUnixNoSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := proxytest.Launch(t, proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1").With("ILP_LISTEN", "unix://"+path))
	if code := p.Wait(arrive); code != 1 || !strings.Contains(p.Log(), "a file that is no socket") {
		t.Errorf("exit code %d", code)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// TestSystemd plays systemd: it passes two sockets and hears what the proxy says
// of its state. A row that was sent before the proxy was started arrives.
func TestSystemd(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	dir := shortDir(t)

	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan string, 10_000)
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := heard.Read(b)
			if err != nil {
				return // closed
			}
			messages <- string(b[:n])
		}
	}()
	defer heard.Close()
	listen := func(network, address string) (string, *os.File) {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return l.Addr().String(), f
	}
	addr, tcp := listen("tcp", "127.0.0.1:0")
	path, unix := listen("unix", filepath.Join(dir, "s"))
	row := func(network, address, table string) {
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := fmt.Fprintf(conn, "%s v=1i 1000000000\n", table); err != nil {
			t.Fatal(err)
		}
	}
	row("tcp", addr, "early")
	datagram, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	udp, err := datagram.File()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	row("udp", datagram.LocalAddr().String(), "by_datagram")

	const watchdog = 200 * time.Millisecond
	p := proxytest.Options{Pass: []proxytest.Passed{{Name: "ilp", File: tcp}, {Name: "local", File: unix}, {Name: "udp", File: udp}}}.Start(t,
		proxytest.EnvFor(key, db.ILP()).With("ILP_LISTEN", "systemd://ilp,systemd://local,systemd://udp",
			"NOTIFY_SOCKET", heard.LocalAddr().String(), "WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10)))
	row("unix", path, "local")
	db.WaitCount("early", 1, arrive)
	db.WaitCount("local", 1, arrive)
	db.WaitCount("by_datagram", 1, arrive)

	message := func() string {
		t.Helper()
		select {
		case m := <-messages:
			return m
		case <-time.After(arrive):
			t.Fatal("nothing more from the proxy")
			return ""
		}
	}
	for ready, alive := 0, 0; ready < 1 || alive < 3; {
		switch m := message(); m {
		case "READY=1":
			ready++
		case "WATCHDOG=1":
			alive++
		default:
			t.Fatalf("the proxy said %q", m)
		}
	}
	p.Stop(30 * time.Second)
	for m := ""; !strings.HasPrefix(m, "STOPPING=1\n"); {
		if m = message(); m == "READY=1" {
			t.Fatal("ready twice")
		}
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("systemd's own socket was removed: %v", err)
	}
}

// TestSystemdDeaf has the proxy start and end where systemd does not listen to it.
func TestSystemdDeaf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "notify")
	deaf, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // far more than it takes to fill
	for err == nil {
		_, err = conn.Write([]byte("x"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("filling the socket: %v", err)
	}
	p := proxytest.Start(t, proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1").With("NOTIFY_SOCKET", path, "WATCHDOG_USEC", "100000"))
	p.WaitLog("cannot tell systemd", arrive)
	p.Stop(30 * time.Second)
}

// TestSystemdPassesNothing says what is wrong where the socket unit was not started.
func TestSystemdPassesNothing(t *testing.T) {
	t.Parallel()
	p := proxytest.Launch(t, proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1").With("ILP_LISTEN", "systemd://"))
	if code := p.Wait(arrive); code != 1 || !strings.Contains(p.Log(), "systemd passed no such socket") {
		t.Errorf("exit code %d", code)
	}
}

// TestUnitFiles has systemd itself look at the unit files.
func TestUnitFiles(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("no systemd-analyze here; on Debian or Ubuntu: apt-get install systemd")
	}
	// What is verified is what is installed, but for the binary's path.
	dir := t.TempDir()
	for _, unit := range []string{"questdb-ilp-proxy.service", "questdb-ilp-proxy.socket"} {
		text, err := os.ReadFile(filepath.Join("..", "systemd", unit))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.Replace(string(text), "/usr/local/bin/questdb-ilp-proxy", "/bin/true", 1))
		if err := os.WriteFile(filepath.Join(dir, unit), text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, unit)).CombinedOutput()
		if err != nil || strings.Contains(string(out), unit) {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
