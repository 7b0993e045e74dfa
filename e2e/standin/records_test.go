package standin

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
)

func refuseBad(record []byte) bool { return bytes.Contains(record, []byte("bad")) }

// withRecords starts a server that refuses records with "bad" in them.
func withRecords(t *testing.T, how Records) (*Server, *auth.Key) {
	t.Helper()
	key := newKey(t, "k1")
	s := New(t, key.AuthLine())
	how.Refuse = refuseBad
	s.Behave(func(b *Behaviour) { b.Records = &how })
	return s, key
}

func rows(n int) []byte {
	var b []byte
	for i := range n {
		b = fmt.Appendf(b, "t f=%di\n", i)
	}
	return b
}

func send(t *testing.T, nc net.Conn, parts ...[]byte) {
	t.Helper()
	if _, err := nc.Write(bytes.Join(parts, nil)); err != nil {
		t.Fatal(err)
	}
}

func halfClose(t *testing.T, nc net.Conn) {
	t.Helper()
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		t.Fatal(err)
	}
}

func lfs(n int) []byte { return bytes.Repeat([]byte{'\n'}, n) }

func TestRecordsAtTheEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		how       Records
		send      [][]byte
		committed []byte
		refused   int
		reset     bool
	}{
		"good":                {send: [][]byte{rows(1000)}, committed: rows(1000)},
		"blank lines":         {send: [][]byte{lfs(3), rows(2), []byte("\r\n=\n")}, committed: rows(2)},
		"a fragment":          {send: [][]byte{rows(2), []byte("t f=9")}, committed: rows(2)},
		"escaped LF":          {send: [][]byte{[]byte("t f=\"a\\\nb\"\n")}, committed: []byte("t f=\"a\\\nb\"\n")},
		"refused, no padding": {send: [][]byte{rows(1000), []byte("t f=bad\n"), rows(1000)}, committed: rows(1000), refused: 1},
		"malformed":           {send: [][]byte{rows(10), []byte("t f=\n= \n"), rows(10)}, committed: append(rows(10), "t f=\n"...), refused: 1},
		"good, padded":        {send: [][]byte{rows(1000), lfs(131072)}, committed: rows(1000)},
		"refused, padded":     {send: [][]byte{rows(1000), []byte("t f=bad\n"), rows(1000), lfs(131072)}, committed: rows(1000), refused: 1, reset: true},
		"last one refused, padded": {send: [][]byte{rows(1000), []byte("t f=bad\n"), lfs(131072)}, committed: rows(1000),
			refused: 1, reset: true},
		"8.x good, padded": {how: Records{Version8: true}, send: [][]byte{rows(1000), lfs(32768)}, committed: rows(1000)},
		"8.x refused, padded": {how: Records{Version8: true}, send: [][]byte{rows(10), []byte("t f=bad\n"), lfs(32768)},
			committed: rows(10), refused: 1, reset: true},
		"8.x, too many LFs": {how: Records{Version8: true}, send: [][]byte{rows(10), lfs(131072)},
			committed: rows(10), refused: 1, reset: true},
		"8.x, too long": {how: Records{Version8: true}, send: [][]byte{rows(10), []byte("t f="), bytes.Repeat([]byte{'1'}, 40000), rows(1)},
			committed: rows(10), refused: 1, reset: true},
		"9.x, long":   {send: [][]byte{[]byte("t f=\""), bytes.Repeat([]byte{'1'}, 400000), []byte("\"\n")}, committed: append(append([]byte("t f=\""), bytes.Repeat([]byte{'1'}, 400000)...), "\"\n"...)},
		"skip errors": {how: Records{SkipErrors: true}, send: [][]byte{rows(5), []byte("t f=bad\n"), rows(5)}, committed: append(rows(5), rows(5)...), refused: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, key := withRecords(t, tc.how)
			nc := login(t, s, key)
			s.Wait(t, "the login", func(st Stats) bool { return st.OK == 1 })
			// All at once, so that the server finds it there, as a busy one does.
			s.Pause()
			send(t, nc, tc.send...)
			halfClose(t, nc)
			s.Resume()
			err := readEnd(t, nc)
			if reset := errors.Is(err, syscall.ECONNRESET); reset != tc.reset || err != nil && !reset {
				t.Errorf("end %v, want a reset: %v", err, tc.reset)
			}
			n := len(bytes.Split(bytes.TrimSpace(tc.committed), []byte("\nt "))) // records, none with that inside
			s.Wait(t, "the commit", func(st Stats) bool { return st.Committed >= n })
			if got := bytes.Join(s.Committed(), nil); !bytes.Equal(got, tc.committed) {
				t.Errorf("committed %d bytes, want %d", len(got), len(tc.committed))
			}
			if st := s.Stats(); st.RefusedRecords != tc.refused {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestCommitsAfterTheFIN(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(s *Server)
		want int
	}{
		"lives on": {func(s *Server) {}, 100},
		"killed at the FIN": {func(s *Server) {
			s.Kill()
			if err := s.Restart(); err != nil {
				t.Error(err)
			}
		}, 0},
		"stopped at the FIN": {func(s *Server) { s.Stop() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, key := withRecords(t, Records{CommitDelay: 200 * time.Millisecond})
			nc := login(t, s, key)
			send(t, nc, rows(100))
			halfClose(t, nc)
			if err := readEnd(t, nc); err != nil {
				t.Fatal(err)
			}
			if n := len(s.Committed()); n != 0 {
				t.Errorf("%d committed at the FIN", n)
			}
			tc.do(s)
			time.Sleep(300 * time.Millisecond)
			if n := len(s.Committed()); n != tc.want {
				t.Errorf("%d committed, want %d", n, tc.want)
			}
		})
	}
}

func TestCommitsOpenConnections(t *testing.T) {
	s, key := withRecords(t, Records{CommitEvery: 10 * time.Millisecond})
	nc := login(t, s, key)
	send(t, nc, rows(10))
	s.Wait(t, "a commit", func(st Stats) bool { return st.Committed == 10 })
	s.Pause()
	send(t, nc, rows(10))
	time.Sleep(50 * time.Millisecond)
	if st := s.Stats(); st.Committed != 10 {
		t.Errorf("a paused server commits: %+v", st)
	}
	s.Resume()
	s.Wait(t, "a commit", func(st Stats) bool { return st.Committed == 20 })
}

func TestKill(t *testing.T) {
	for name, kill := range map[string]func(*Server){"Kill": (*Server).Kill, "KillQuietly": (*Server).KillQuietly, "Stop": (*Server).Stop} {
		t.Run(name, func(t *testing.T) {
			s, key := withRecords(t, Records{})
			nc := login(t, s, key)
			send(t, nc, rows(10))
			s.Wait(t, "the rows", func(st Stats) bool { return st.Parsed == 10 })
			kill(s)
			if err := readEnd(t, nc); errors.Is(err, syscall.ECONNRESET) != (name == "Kill") {
				t.Errorf("end: %v", err)
			}
			if nc, err := net.Dial("tcp", s.Addr()); err == nil {
				nc.Close()
				t.Error("it listens")
			}
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			nc = login(t, s, key)
			send(t, nc, rows(3))
			halfClose(t, nc)
			s.Wait(t, "a commit", func(st Stats) bool { return st.Committed > 0 })
			if got := bytes.Join(s.Committed(), nil); !bytes.Equal(got, rows(3)) {
				t.Errorf("committed %q", got)
			}
		})
	}
}

func TestDiskFull(t *testing.T) {
	s, key := withRecords(t, Records{})
	s.DiskFull(true)
	nc := login(t, s, key)
	send(t, nc, rows(1))
	if err := readEnd(t, nc); err != nil {
		t.Errorf("end: %v", err)
	}
	s.DiskFull(false)
	nc = login(t, s, key)
	send(t, nc, rows(1))
	halfClose(t, nc)
	s.Wait(t, "a commit", func(st Stats) bool { return st.Committed == 1 && st.RefusedRecords == 1 })
}

func TestPausedServerAnswersNoHandshake(t *testing.T) {
	s, key := withRecords(t, Records{})
	s.Pause()
	if _, err := auth.Handshake(t.Context(), dial(t, s), key, 100*time.Millisecond); !errors.Is(err, auth.ErrNoChallenge) {
		t.Errorf("handshake: %v", err)
	}
	s.Kill() // a stopped process can be killed
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	login(t, s, key)
}
