package questdb

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
)

func newKey(t *testing.T, id string) *auth.Key {
	t.Helper()
	key, err := auth.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.ILP())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// login authenticates, and fails the test if the server refuses.
func login(t *testing.T, s *Server, key *auth.Key) net.Conn {
	t.Helper()
	conn := dial(t, s)
	if _, err := auth.Handshake(t.Context(), conn, key, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := auth.Probation(t.Context(), conn, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, ilp string) {
	t.Helper()
	if _, err := io.WriteString(conn, ilp); err != nil {
		t.Fatal(err)
	}
}

// TestHandshake authenticates with each version: the right key is let in and its
// rows arrive, the wrong key and the unknown one are refused.
func TestHandshake(t *testing.T) {
	for _, version := range Versions() {
		t.Run(version, func(t *testing.T) {
			key := newKey(t, "writer")
			s := Start(t, Options{Version: version, Keys: []*auth.Key{key}})

			conn := login(t, s, key)
			send(t, conn, "trades,symbol=A price=1.5 1000000000\ntrades,symbol=B price=2.5 2000000000\n")
			s.WaitCount("trades", 2, 30*time.Second)
			got := s.MustQuery("select symbol, price, timestamp from trades")
			want := [][]string{
				{"A", "1.5", "1970-01-01 00:00:01.000000"},
				{"B", "2.5", "1970-01-01 00:00:02.000000"},
			}
			if !slices.EqualFunc(got, want, slices.Equal) {
				t.Errorf("rows: %q, want %q", got, want)
			}

			for name, bad := range map[string]*auth.Key{
				"wrong key": newKey(t, "writer"), "unknown key id": newKey(t, "stranger"),
			} {
				conn := dial(t, s)
				_, err := auth.Handshake(t.Context(), conn, bad, 5*time.Second)
				if err == nil {
					err = auth.Probation(t.Context(), conn, 5*time.Second)
				}
				if !errors.Is(err, auth.ErrRefused) {
					t.Errorf("%s: %v, want %v", name, err, auth.ErrRefused)
				}
			}
		})
	}
}

// TestLife takes one server through all that can be done to it.
func TestLife(t *testing.T) {
	key := newKey(t, "writer")
	s := Start(t, Options{Keys: []*auth.Key{key}})
	ports := []string{s.ILP(), s.HTTP(), s.PG()}
	if n := s.Count("none such"); n != 0 {
		t.Errorf("a table that does not exist has %d rows", n)
	}

	send(t, login(t, s, key), "t n=1i 1000\n")
	s.WaitCount("t", 1, 30*time.Second)

	s.Pause()
	conn := dial(t, s) // the kernel still accepts
	if _, err := auth.Handshake(t.Context(), conn, key, 200*time.Millisecond); !errors.Is(err, auth.ErrNoChallenge) {
		t.Errorf("handshake with a paused server: %v, want %v", err, auth.ErrNoChallenge)
	}
	s.Resume()
	login(t, s, key)

	s.Kill()
	if _, err := net.Dial("tcp", s.ILP()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling a killed server: %v, want refused", err)
	}
	s.Start()
	send(t, login(t, s, key), "t n=2i 2000\n")
	s.WaitCount("t", 2, 30*time.Second)

	// Paused, then stopped politely, with other keys from the next start on.
	other := newKey(t, "other")
	s.SetKeys(other)
	s.Pause()
	s.Stop()
	if s.Running() {
		t.Error("running after Stop")
	}
	s.Restart()
	send(t, login(t, s, other), "t n=3i 3000\n")
	s.WaitCount("t", 3, 30*time.Second)

	if now := []string{s.ILP(), s.HTTP(), s.PG()}; !slices.Equal(now, ports) {
		t.Errorf("addresses changed from %q to %q", ports, now)
	}
	if n := strings.Count(s.Log(), "QuestDB is shutdown"); n == 0 {
		t.Error("the log does not show the polite stop")
	}
}

func TestNoAuthAndLimits(t *testing.T) {
	s := Start(t, Options{NoAuth: true, Limits: Limits{NoFile: 4000}, Conf: map[string]string{"pg.user": "admin"}})
	send(t, dial(t, s), "t n=1i\n")
	s.WaitCount("t", 1, 30*time.Second)
	limits, err := os.ReadFile("/proc/" + itoa(s.PID()) + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") && (f[3] != "4000" || f[4] != "4000") {
			t.Errorf("limits of the server: %s", line)
		}
	}
}

// TestStartFails shows that a server which cannot start is told apart quickly,
// with its own words.
func TestStartFails(t *testing.T) {
	line := newKey(t, "twice").AuthLine()
	p, err := Run(t.Context(), Options{AuthLines: []string{line, line}})
	if err == nil {
		p.Close()
		t.Fatal("started with a duplicate key id")
	}
	if !strings.Contains(err.Error(), "twice") {
		t.Errorf("the error does not show QuestDB's: %v", err)
	}
}

func TestNothingLeftBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := Run(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	pid := p.PID()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("looking for the server's process group: %v, want none", err)
	}
	left, err := fs.Glob(os.DirFS(os.TempDir()), "*")
	if err != nil || len(left) != 0 {
		t.Errorf("left in the temporary folder: %q, %v", left, err)
	}
}
