package upstream

import (
	"bytes"
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/standin"
)

// awaitIdle waits until the pool has n idle connections and makes no more.
func awaitIdle(t *testing.T, p *Pool, n int) {
	t.Helper()
	await(t, p, "idle ones", func(st Status) bool { return st.Idle == n && st.Connecting == 0 })
}

// endConn has the server end its side of c.
func endConn(t *testing.T, s *standin.Server, c *Conn, reset bool) {
	t.Helper()
	for _, sc := range s.Conns() {
		if sc.RemoteAddr().String() == c.nc.LocalAddr().String() {
			if reset {
				sc.Reset()
			} else {
				sc.Close()
			}
			awaitEnd(t, c)
			return
		}
	}
	t.Fatal("the server does not know this connection")
}

// endWell half-closes c and waits for the server's answer.
func endWell(t *testing.T, c *Conn) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if end := awaitEnd(t, c); !end.Clean() {
		t.Errorf("end %+v", end)
	}
}

func TestWitnesses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		minIdle int
		max     int // 0: 6
		between func(t *testing.T, s *standin.Server, p *Pool, not *Conn)
		want    bool
		quick   bool
	}{
		"idle ones":                 {minIdle: 2, want: true, quick: true},
		"none but the one it is of": {minIdle: 0, want: false, quick: true},
		"a killed server": {minIdle: 2, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			s.KillAll()
		}},
		"a stopped server": {minIdle: 2, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			s.CloseAll()
		}},
		"killed and there again": {minIdle: 2, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			ok := s.Stats().OK
			s.KillAll()
			s.Wait(t, "new connections", func(st standin.Stats) bool { return st.OK >= ok+2 })
			awaitIdle(t, p, 2)
		}},
		"a paused server": {minIdle: 2, want: true, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			s.Stall() // its kernel answers: Prove is for that
		}},
		"one of them left": {minIdle: 2, want: true, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			endConn(t, s, acquire(t, p), true)
		}},
		"idle then, handed out now": {minIdle: 2, want: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			acquire(t, p)
			acquire(t, p)
		}},
		"half-closed by us and ended": {minIdle: 1, max: 2, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			endWell(t, acquire(t, p)) // and there is no room for another
		}},
		"half-closed and succeeded": {minIdle: 1, want: true, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			for range 3 {
				c := acquire(t, p)
				awaitIdle(t, p, 1) // one that was not there at first
				endWell(t, c)
			}
		}},
		"half-closed, and another one made afterwards": {minIdle: 1, max: 2, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			c := acquire(t, p)
			endWell(t, c)
			c.Discard()
			awaitIdle(t, p, 1)
		}},
		"succeeded by one of a killed server": {minIdle: 1, quick: true, between: func(t *testing.T, s *standin.Server, p *Pool, not *Conn) {
			c := acquire(t, p)
			awaitIdle(t, p, 1)
			endWell(t, c)
			ok := s.Stats().OK
			s.KillAll()
			s.Wait(t, "a new connection", func(st standin.Stats) bool { return st.OK > ok })
			awaitIdle(t, p, 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, _ := withServer(t, Options{MinIdle: tc.minIdle, Max: cmp.Or(tc.max, 6)})
			not := acquire(t, p)
			awaitIdle(t, p, tc.minIdle)
			w := p.Witnesses(not.Addr(), not)
			if tc.between != nil {
				tc.between(t, s, p, not)
			}
			start := time.Now()
			if got := w.Alive(t.Context()); got != tc.want {
				t.Errorf("alive: %v, want %v", got, tc.want)
			}
			if d := time.Since(start); tc.quick && d > time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestWitnessesOfOtherServersDoNotCount(t *testing.T) {
	t.Parallel()
	_, p, _ := withServer(t, Options{MinIdle: 2, Max: 4})
	awaitIdle(t, p, 2)
	if p.Witnesses("127.0.0.1:1", nil).Alive(t.Context()) {
		t.Error("connections to another server were taken for witnesses")
	}
}

func TestWitnessThatIsHandedOut(t *testing.T) {
	t.Parallel()
	for name, traffic := range map[string]bool{"and silent": false, "and busy": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, _ := withServer(t, Options{MinIdle: 0, Max: 2}, func(b *standin.Behaviour) { b.Forget = true })
			not, c := acquire(t, p), acquire(t, p)
			w := p.Witnesses(not.Addr(), not)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			if traffic {
				wg.Go(func() {
					for ctx.Err() == nil {
						if _, err := c.Write([]byte("t a=1\n")); err != nil {
							t.Error(err)
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			sent := s.Stats().Bytes
			for range 2 { // again: what was changed at the socket is as before
				if !w.Alive(t.Context()) {
					t.Error("not alive")
				}
			}
			cancel()
			wg.Wait()
			if n := s.Stats().Bytes; !traffic && n != sent {
				t.Errorf("%d bytes written to a connection that is handed out", n-sent)
			}
			c.pool.mu.Lock()
			defer c.pool.mu.Unlock()
			if c.nudges != 0 {
				t.Errorf("%d nudges left", c.nudges)
			}
		})
	}
}

func TestWitnessesKeepIdleConnectionsBusy(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 3, Max: 4})
	awaitIdle(t, p, 3)
	addr := p.Status().Addr
	p.Witnesses(addr, nil)
	s.Wait(t, "an LF each", func(st standin.Stats) bool { return st.Bytes == 3 })
	if got := s.Received(); string(got) != "\n\n\n" {
		t.Errorf("received %q", got)
	}
}

// TestOneLFAnswersMany has many ask at the same time.
func TestOneLFAnswersMany(t *testing.T) {
	t.Parallel()
	const many = 50
	s, p, _ := withServer(t, Options{MinIdle: 1, Max: 2})
	awaitIdle(t, p, 1)
	var asking sync.WaitGroup
	for range many {
		w := p.Witnesses(p.Status().Addr, nil)
		asking.Go(func() {
			defer w.Release()
			if !w.Alive(t.Context()) {
				t.Error("not alive")
			}
		})
	}
	asking.Wait()
	if n := s.Stats().Bytes; n > many/2 {
		t.Errorf("%d LFs for %d who asked", n, many)
	}
}

// QuestDB 8.x has no room for many LFs before a record.
func TestPingsAreFew(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 2, Max: 4})
	awaitIdle(t, p, 2)
	addr := p.Status().Addr
	first := p.Witnesses(addr, nil)
	for range 50 {
		p.Witnesses(addr, nil)
	}
	for range 2 * maxPings {
		if !first.Alive(t.Context()) {
			break // both were renewed
		}
		first = p.Witnesses(addr, nil)
	}
	c := acquire(t, p)
	if n := c.Pings(); n > maxPings {
		t.Errorf("%d pings", n)
	}
	if n := s.Stats().Bytes; n > 3*maxPings {
		t.Errorf("%d LFs in all", n)
	}
	for _, sc := range s.Conns() {
		if n := sc.Count(); n > maxPings {
			t.Errorf("%d LFs over one connection", n)
		}
	}
}

// The pool's LFs come between records only, whoever takes the connection meanwhile.
func TestPingsDoNotMeetWrites(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 4, Max: 8})
	awaitIdle(t, p, 4)
	addr := p.Status().Addr
	stop := make(chan struct{})
	var pings, writers sync.WaitGroup
	for range 2 {
		pings.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
					p.Witnesses(addr, nil).Alive(t.Context())
				}
			}
		})
	}
	const rounds = 30
	for range 3 {
		writers.Go(func() {
			for range rounds {
				c := acquire(t, p)
				for _, part := range []string{"table ", "field=", "1i\n"} {
					if _, err := c.Write([]byte(part)); err != nil {
						t.Error(err)
					}
				}
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
				if end := awaitEnd(t, c); !end.Clean() {
					t.Errorf("%+v", end)
				}
				c.Discard()
			}
		})
	}
	writers.Wait()
	close(stop)
	pings.Wait()
	records := 0
	for line := range bytes.Lines(s.Received()) {
		switch string(line) {
		case "\n":
		case "table field=1i\n":
			records++
		default:
			t.Errorf("received %q", line)
		}
	}
	if records != 3*rounds {
		t.Errorf("%d records, want %d", records, 3*rounds)
	}
}

func TestNeededWitnessIsNotClosed(t *testing.T) {
	t.Parallel()
	_, p, _ := withServer(t, Options{MinIdle: 1, Max: 2})
	not := acquire(t, p)
	awaitIdle(t, p, 1)
	w := p.Witnesses(not.Addr(), not)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Prove(ctx, not.Addr()); err == nil {
		t.Error("took the place of the only witness, or more than there are")
	}
	proven := make(chan error)
	go func() { proven <- p.Prove(t.Context(), not.Addr()) }()
	not.Discard()
	if err := <-proven; err != nil {
		t.Error(err)
	}
	if !w.Alive(t.Context()) {
		t.Error("the witness was closed")
	}
}

// TestLastWitnessIsNotHandedOut has nothing handed out any more when somebody wants a
// connection: whoever bears witness for the last one stays, since what it would carry
// may be refused.
func TestLastWitnessIsNotHandedOut(t *testing.T) {
	t.Parallel()
	for _, minIdle := range []int{0, 1} {
		_, p, _ := withServer(t, Options{MinIdle: minIdle, Max: 6})
		last := acquire(t, p)
		p.Hurry(1, time.Hour)
		awaitIdle(t, p, 1)
		p.mu.Lock()
		p.hurry = hurry{}
		p.mu.Unlock()
		w := p.Witnesses(last.Addr(), last)
		if _, err := last.Write(blankLine); err != nil { // so its early end is no trouble
			t.Fatal(err)
		}
		endWell(t, last)
		last.Discard()
		if c := acquire(t, p); slices.Contains(w.members, c) {
			t.Errorf("MinIdle %d: the only witness was handed out", minIdle)
		}
		runtime.KeepAlive(w)
	}
}

// TestSuccessorsAreOfTheEnd asks who is connected beside a connection that ended a
// while ago: that makes nobody its successor who came later.
func TestSuccessorsAreOfTheEnd(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 1, Max: 6})
	c := acquire(t, p)
	awaitIdle(t, p, 1)
	p.Witnesses(c.Addr(), c)
	endWell(t, c)
	ok := s.Stats().OK
	s.KillAll()
	s.Wait(t, "a new connection", func(st standin.Stats) bool { return st.OK > ok })
	awaitIdle(t, p, 1)
	if now := p.Witnesses(c.Addr(), c); !now.Some() {
		t.Error("nobody is connected now")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range c.successors {
		if m.alive() {
			t.Error("a connection to the next server is a successor")
		}
	}
}
