package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

func TestProofsThatCanWaitAreShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		const addr = "10.0.0.1:9009"
		p, _ := startPool(t, Options{Addrs: []string{addr}, MinIdle: 0, Max: 4, Dial: pipes.dial})
		var wg sync.WaitGroup
		ask := func(prove func(context.Context, string) error, want time.Duration) {
			wg.Go(func() {
				start := time.Now()
				if err := prove(t.Context(), addr); err != nil {
					t.Error(err)
				}
				between(t, "proven", start, want, want)
			})
		}
		rest := func(d time.Duration) {
			synctest.Wait()
			_ = pause(t.Context(), d, nil)
		}
		ask(p.ProveSoon, 0) // the first need not wait
		rest(100 * time.Millisecond)
		ask(p.ProveSoon, shareFor-100*time.Millisecond)
		rest(100 * time.Millisecond)
		ask(p.ProveSoon, shareFor-200*time.Millisecond)
		rest(2*shareFor - 200*time.Millisecond) // shareFor after the last one
		ask(p.ProveSoon, 0)
		rest(10 * time.Millisecond)
		ask(p.ProveSoon, 20*time.Millisecond)
		rest(20 * time.Millisecond)
		ask(p.Prove, 0) // and for the one before
		wg.Wait()
		if n := pipes.dials.Load(); n != 4 {
			t.Errorf("%d handshakes, want 4", n)
		}

		// Who leaves takes along what nobody waits for.
		giveUp(t, p.ProveSoon, 50*time.Millisecond)
		checkNothingLeft(t, p, pipes, 4)
	})
}

func TestProofsAreKeptForThoseWhoUseManyConnections(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		const addr = "10.0.0.1:9009"
		p, _ := startPool(t, Options{Addrs: []string{addr}, MinIdle: 2, Max: 8, Dial: pipes.dial})
		step := func(what string, idle int, dials int64, do func()) {
			t.Helper()
			before := pipes.dials.Load()
			do()
			awaitMade(t, p)
			if st := p.Status(); st.Idle != idle || pipes.dials.Load()-before != dials {
				t.Errorf("%s: %d idle, want %d; %d dials, want %d", what, st.Idle, idle, pipes.dials.Load()-before, dials)
			}
		}
		prove := func() {
			if err := p.ProveSoon(t.Context(), addr); err != nil {
				t.Error(err)
			}
		}
		take := func() {
			c, err := p.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Discard()
		}
		awaitIdle(t, p, 2)
		step("nobody takes any", 2, 1, prove)
		step("one was taken", 2, 1, take)
		step("so one is kept", 3, 1, prove)
		step("and used", 2, 0, take)
		step("three are taken", 2, 3, func() { take(); take(); take() })
		step("one more", 3, 1, prove)
		step("not after a while", 3, 1, func() { _ = pause(t.Context(), drawnFor, nil); prove() })
		p.mu.Lock()
		p.opts.MinIdle = 0
		p.mu.Unlock()
		step("used where none is kept", 2, 0, take)
		step("so none is", 2, 1, prove)
	})
}

// draw is what a lane does: it takes a connection, gives it back after a while, and
// has the server prove twice that it lives.
func draw(ctx context.Context, p *Pool, wg *sync.WaitGroup, hold time.Duration) (addr string, ok bool) {
	if ctx.Err() != nil {
		return "", false
	}
	c, err := p.Acquire(context.WithoutCancel(ctx)) // what is made for who has left stays idle
	if err != nil {
		return "", false
	}
	_ = pause(ctx, hold, nil)
	addr = c.Addr()
	c.Discard()
	wg.Go(func() {
		for range 2 {
			if pause(ctx, 250*time.Millisecond, nil) == nil {
				_ = p.ProveSoon(ctx, addr)
			}
		}
	})
	return addr, true
}

// TestKeptProofsDoNotKeepTheOtherServer has the preferred server come back: proofs that
// the other one lives, whose connections stay, must not be why it is used for ever. While
// it is away, attempts to reach it fail at once, or take as long as they may.
func TestKeptProofsDoNotKeepTheOtherServer(t *testing.T) {
	refuses := func(context.Context) error { return os.NewSyscallError("connect", syscall.ECONNREFUSED) }
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, c := range []struct {
		lanes int
		away  func(context.Context) error
	}{{8, refuses}, {4, refuses}, {2, refuses}, {8, silent}, {4, silent}, {2, silent}} {
		bubble.Test(t, func(t *testing.T) {
			const preferred, other = "10.0.0.1:9009", "10.0.0.2:9009"
			pipes := newPipes(healthy)
			var up atomic.Bool
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr == preferred && !up.Load() {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: c.away(ctx)}
				}
				return pipes.dial(ctx, network, addr)
			}
			p, _ := startPool(t, Options{Addrs: []string{preferred, other}, MinIdle: 2, Max: 16, Dial: dial})
			const away, back = time.Minute, time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), away+back)
			defer cancel()
			begin := time.Now()
			var wg sync.WaitGroup
			var early, late atomic.Int64 // connections to the other
			for lane := range c.lanes {
				wg.Go(func() {
					_ = pause(ctx, time.Duration(lane)*125*time.Millisecond, nil)
					for {
						addr, ok := draw(ctx, p, &wg, time.Second)
						switch since := time.Since(begin); {
						case !ok:
							return
						case addr == preferred:
						case since < away:
							early.Add(1)
						case since > away+back/2:
							late.Add(1)
						}
					}
				})
			}
			time.AfterFunc(away, func() { up.Store(true) })
			wg.Wait()
			t.Logf("%d lanes: %d to the other while the preferred one was away, %d long after", c.lanes, early.Load(), late.Load())
			if n := early.Load(); n < int64(c.lanes)*10 {
				t.Errorf("%d lanes: the other server was used %d times in %v while the preferred one was away", c.lanes, n, away)
			}
			// Those that were idle then, the oldest, are taken in the end as well.
			if n := late.Load(); n > 6 {
				t.Errorf("%d lanes: the other server was used %d times more although the preferred one had been back for %v", c.lanes, n, back/2)
			}
		})
	}
}

func TestKeptProofsAreFew(t *testing.T) {
	for _, o := range []struct{ least, most, idle int }{{2, 16, 6}, {1, 8, 3}, {1, 3, 1}} {
		bubble.Test(t, func(t *testing.T) {
			pipes := newPipes(healthy)
			const addr = "10.0.0.1:9009"
			p, _ := startPool(t, Options{Addrs: []string{addr}, MinIdle: o.least, Max: o.most, Dial: pipes.dial})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range max(1, o.most/2-1) {
				wg.Go(func() {
					for ok := true; ok; {
						_, ok = draw(ctx, p, &wg, 50*time.Millisecond)
					}
				})
			}
			wg.Wait()
			awaitMade(t, p)
			// A proof that was kept for who waited may have crossed the connection that was
			// made for it: that is no kept proof, and goes to the next who wants one.
			for p.Status().Idle > o.idle {
				acquire(t, p).Discard()
			}
			most := 0
			for range 8 {
				_ = p.Prove(t.Context(), addr)
				awaitMade(t, p)
				most = max(most, p.Status().Idle)
			}
			if most > o.idle {
				t.Errorf("%d to %d: %d idle, at most %d expected", o.least, o.most, most, o.idle)
			}
			if n := pipes.maxOpen.Load(); n > int64(o.most) {
				t.Errorf("%d to %d: %d were open", o.least, o.most, n)
			}
		})
	}
}

func TestProofThatIsToBeMadeLaterEndsWithThePool(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		const addr = "10.0.0.1:9009"
		p, _ := startPool(t, Options{Addrs: []string{addr}, MinIdle: 0, Max: 4, Dial: pipes.dial})
		if err := p.ProveSoon(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() { got <- p.ProveSoon(t.Context(), addr) }()
		synctest.Wait()
		start := time.Now()
		p.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		between(t, "the end", start, 0, 0)
	})
}

// TestProofThatWaitsHasItsTime has less time for an answer than a proof may wait.
func TestProofThatWaitsHasItsTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		const addr = "10.0.0.1:9009"
		p, _ := startPool(t, Options{Addrs: []string{addr}, MinIdle: 0, Max: 4, Dial: pipes.dial, AuthTimeout: 50 * time.Millisecond})
		for range 3 {
			if err := p.ProveSoon(t.Context(), addr); err != nil {
				t.Error(err)
			}
		}
	})
}
