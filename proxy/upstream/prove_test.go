package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
	"questdb-ilp-proxy/e2e/standin"
)

func TestProve(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		do    func(s *standin.Server)
		late  bool
		want  string // in the error; "": none
		quick bool
	}{
		"healthy":         {quick: true},
		"a little slow":   {do: func(s *standin.Server) { delay(s, 50*time.Millisecond) }, quick: true},
		"late":            {do: func(s *standin.Server) { delay(s, 400*time.Millisecond) }, late: true, want: "later than usual"},
		"does not listen": {do: func(s *standin.Server) { s.StopListening() }, want: "connection refused", quick: true},
		"full":            {do: func(s *standin.Server) { s.Behave(func(b *standin.Behaviour) { b.ConnLimit = 1 }) }, want: "no "},
		"paused":          {do: func(s *standin.Server) { s.Stall() }, want: "no "},
		"closes": {do: func(s *standin.Server) {
			s.Behave(func(b *standin.Behaviour) { b.Challenge = standin.ChallengeClose })
		}, want: "authenticate", quick: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, _ := withServer(t, Options{MinIdle: 1, Max: 4, AuthTimeout: time.Second})
			awaitIdle(t, p, 1)
			if tc.late {
				makeUsual(t, p, s.Addr(), lateMin)
			}
			ok := s.Stats().OK
			if tc.do != nil {
				tc.do(s)
			}
			start := time.Now()
			err := p.Prove(t.Context(), s.Addr())
			if d := time.Since(start); tc.quick && d > 300*time.Millisecond || d > 1500*time.Millisecond {
				t.Errorf("took %v", d)
			}
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrLate) != tc.late {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if err == nil {
				s.Wait(t, "the handshake", func(st standin.Stats) bool { return st.OK > ok })
				awaitIdle(t, p, 1) // it was not wanted besides
			}
		})
	}
}

// makeUsual asks for proofs until answers that take longer than d are late: on a busy
// machine the first ones may have taken long.
func makeUsual(t *testing.T, p *Pool, addr string, d time.Duration) {
	t.Helper()
	late := func() (d time.Duration) {
		p.server(addr, func(s *serverState) { d = s.late() })
		return d
	}
	for range 20 {
		if late() <= d {
			return
		}
		if err := p.Prove(t.Context(), addr); err != nil && !errors.Is(err, ErrLate) {
			t.Fatal(err)
		}
	}
	t.Fatalf("an answer may take %v, at most %v expected", late(), d)
}

func delay(s *standin.Server, d time.Duration) {
	s.Behave(func(b *standin.Behaviour) { b.ChallengeDelay = d })
}

func TestProofWhileTheGateIsShutFailsWithTheNextAttempt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 0, Max: 4, Dial: pipes.dial})
		prove := func() error { return p.Prove(t.Context(), "10.0.0.1:9009") }
		if err := prove(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the probation
		pipes.script.Store(new(script))
		start := time.Now()
		if err := prove(); err == nil {
			t.Error("proven with a server that is gone")
		}
		between(t, "first failure", start, 0, time.Millisecond)
		if err := prove(); err == nil {
			t.Error("proven with a server that is gone")
		}
		between(t, "second failure", start, 80*time.Millisecond, 120*time.Millisecond)
		good := script(healthy)
		pipes.script.Store(&good)
		if err := prove(); err != nil {
			t.Error(err)
		}
		between(t, "success", start, 200*time.Millisecond, 400*time.Millisecond)
	})
}

func TestProofsAreShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(func(nc net.Conn) {
			readLine(nc)
			time.Sleep(100 * time.Millisecond)
			_, _ = io.WriteString(nc, strings.Repeat("c", 512)+"\n")
			_, _ = io.Copy(io.Discard, nc)
		})
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 0, Max: 4, Dial: pipes.dial})
		if err := p.Prove(t.Context(), "10.0.0.1:9009"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // its probation
		var wg sync.WaitGroup
		prove := func(want time.Duration) {
			wg.Go(func() {
				start := time.Now()
				if err := p.Prove(t.Context(), "10.0.0.1:9009"); err != nil {
					t.Error(err)
				}
				between(t, "proven", start, want, want)
			})
		}
		prove(100 * time.Millisecond)
		synctest.Wait()
		time.Sleep(50 * time.Millisecond)
		for range 50 {
			prove(150 * time.Millisecond) // the next one, not the one under way
		}
		giveUp(t, p.Prove, 10*time.Millisecond)
		wg.Wait()
		if n := pipes.dials.Load(); n != 3 {
			t.Errorf("%d handshakes, want 3", n)
		}
		checkNothingLeft(t, p, pipes, 3)
	})
}

// giveUp asks the server of these tests for a proof that does not come within d.
func giveUp(t *testing.T, prove func(context.Context, string) error, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := prove(ctx, "10.0.0.1:9009"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who gave up: %v", err)
	}
}

// checkNothingLeft gives what may be left of proofs ten seconds to show itself, after
// dials handshakes.
func checkNothingLeft(t *testing.T, p *Pool, pipes *pipes, dials int64) {
	t.Helper()
	_ = pause(t.Context(), 10*time.Second, nil)
	if st := p.Status(); st.Idle != 0 || st.Connecting != 0 || pipes.open.Load() != 0 || len(p.proofs) != 0 || pipes.dials.Load() != dials {
		t.Errorf("left behind: %+v, %d open, %d proofs, %d dials, want %d", st, pipes.open.Load(), len(p.proofs), pipes.dials.Load(), dials)
	}
}

// awaitMade waits until nothing is being made any more.
func awaitMade(t *testing.T, p *Pool) {
	t.Helper()
	await(t, p, "all to be made", func(st Status) bool { return st.Connecting == 0 })
}

func TestProofThatNobodyWaitsForIsNotMade(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 0, Max: 1, Dial: pipes.dial})
		c, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Prove(ctx, c.Addr()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in a full pool: %v", err)
		}
		if err := p.Prove(t.Context(), c.Addr()); err == nil || !strings.Contains(err.Error(), "no answer within 15s") {
			t.Errorf("in a full pool: %v", err)
		}
		c.Discard()
		time.Sleep(time.Second)
		if n := pipes.dials.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
		if err := p.Prove(t.Context(), c.Addr()); err != nil {
			t.Error(err)
		}
	})
}

func TestProofTakesAnIdleOnesPlace(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 3, Max: 3})
	awaitIdle(t, p, 3)
	w := p.Witnesses(s.Addr(), nil)
	for range 5 {
		if err := p.Prove(t.Context(), s.Addr()); err != nil {
			t.Error(err)
		}
	}
	if !w.Alive(t.Context()) {
		t.Error("all witnesses were closed")
	}
	awaitIdle(t, p, 3)
	if n := s.Stats().Open; n > 3 {
		t.Errorf("%d open, at most 3 allowed", n)
	}
}

func TestProofsEndWithThePool(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 0, Max: 2}, func(b *standin.Behaviour) { b.Challenge = standin.ChallengeNone })
	got := make(chan error)
	for range 3 {
		go func() { got <- p.Prove(context.Background(), s.Addr()) }()
	}
	s.Wait(t, "an attempt", func(st standin.Stats) bool { return st.Accepted > 0 })
	p.Close()
	for range 3 {
		if err := <-got; err == nil {
			t.Error("proven by a closed pool")
		}
	}
	if err := p.Prove(t.Context(), s.Addr()); !errors.Is(err, ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLate(t *testing.T) {
	s := &serverState{}
	if d := s.late(); d != lateMin {
		t.Errorf("unknown: %v", d)
	}
	for range 30 {
		s.challenged(3 * time.Millisecond)
	}
	for range 5 { // a hiccup does not make slowness usual
		s.challenged(10 * time.Second)
	}
	if d := s.late(); d != lateMin {
		t.Errorf("fast: %v", d)
	}
	for range 11 {
		s.challenged(100 * time.Millisecond)
	}
	if d := s.late(); d != 800*time.Millisecond || len(s.challenges) != usualOf {
		t.Errorf("slow: %v of %d", d, len(s.challenges))
	}
}

func TestServersAreForgotten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p, err := New(Options{Addrs: []string{"a:1"}, Key: testKey(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for i := range 1000 {
			p.server(string(rune('a'+i)), func(s *serverState) { s.challenged(1) })
			p.server("kept", func(s *serverState) { s.challenged(1) })
			time.Sleep(time.Second)
		}
		if n := len(p.servers); n > maxServers || len(p.servers["kept"].challenges) != usualOf {
			t.Errorf("%d servers remembered", n)
		}
	})
}
