package upstream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// recorder is a reporter for tests.
type recorder struct {
	mu         sync.Mutex
	failures   []failure
	connects   int
	recoveries int
}

func (r *recorder) failed(f failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, f)
}

func (r *recorder) connected(string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connects++
}

func (r *recorder) recovered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recoveries++
}

var errTest = errors.New("test")

func testFailure(k kind) failure { return failure{kind: k, sentence: "because", err: errTest} }

// inGate runs f in a bubble of its own with a gate that pauses 100 ms to 30 s.
func inGate(t *testing.T, f func(t *testing.T, g *gate, r *recorder)) {
	bubble.Test(t, func(t *testing.T) {
		r := &recorder{}
		g := newGate(100*time.Millisecond, 30*time.Second, r, func() {})
		defer g.close()
		f(t, g, r)
	})
}

func mustEnter(t *testing.T, g *gate) ticket {
	t.Helper()
	tk, err := g.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// between fails the test unless the time since start is from lo to hi.
func between(t *testing.T, what string, start time.Time, lo, hi time.Duration) {
	t.Helper()
	if d := time.Since(start); d < lo || d > hi {
		t.Errorf("%s after %v, want %v to %v", what, d, lo, hi)
	}
}

func TestGatePausesGrowFromBaseToMaxForEver(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		pause := 100 * time.Millisecond
		g.fail(mustEnter(t, g), testFailure(kindDial))
		for range 50 {
			start := time.Now()
			tk := mustEnter(t, g)
			between(t, "the next attempt", start, pause*80/100, min(pause*120/100, 30*time.Second))
			g.fail(tk, testFailure(kindDial))
			pause = min(2*pause, 30*time.Second)
		}
	})
}

func TestGateLetsOneTryWhileShutAndAllWhenOpen(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		tickets := make(chan ticket, 8)
		for range 8 {
			go func() {
				tk, _ := g.enter(context.Background())
				tickets <- tk
			}()
		}
		synctest.Wait()
		if len(tickets) != 1 {
			t.Fatalf("%d attempts at a server of which nothing is known, want 1", len(tickets))
		}
		g.fail(<-tickets, testFailure(kindDial))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(tickets) != 1 {
			t.Fatalf("%d attempts at once after a failure, want 1", len(tickets))
		}
		g.succeed(<-tickets, "a")
		synctest.Wait()
		if len(tickets) != 6 {
			t.Errorf("%d attempts go on after a success, want all 6", len(tickets))
		}
	})
}

func TestGateCountsFailuresSideBySideAsOne(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		g.succeed(mustEnter(t, g), "a")
		time.Sleep(2 * time.Second)
		var tickets []ticket
		for range 16 {
			tickets = append(tickets, mustEnter(t, g))
		}
		for _, tk := range tickets {
			g.fail(tk, testFailure(kindRefused))
		}
		start := time.Now()
		mustEnter(t, g)
		between(t, "the next attempt", start, 80*time.Millisecond, 120*time.Millisecond)
		for _, f := range r.failures {
			if f.certain {
				t.Error("refusals side by side were taken for a confirmation of each other")
			}
		}
	})
}

func TestGateRetriesRefusedCredentialsSlowlyOnceConfirmed(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		g.fail(mustEnter(t, g), testFailure(kindRefused))
		start := time.Now()
		g.fail(mustEnter(t, g), testFailure(kindRefused))
		between(t, "the second attempt", start, 80*time.Millisecond, 120*time.Millisecond)
		for range 5 {
			start = time.Now()
			g.fail(mustEnter(t, g), testFailure(kindRefused))
			between(t, "the next attempt", start, 30*time.Second, 30*time.Second)
		}
		if r.failures[0].certain || !r.failures[1].certain || !r.failures[6].certain {
			t.Error("certain from the second refusal on: not so")
		}
	})
}

func TestGateDoesNotTrustAServerThatClosesAtOnce(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		attempts := 0
		for start := time.Now(); time.Since(start) < 10*time.Minute; attempts++ {
			g.succeed(mustEnter(t, g), "a")
			time.Sleep(200 * time.Millisecond)
			g.died(testFailure(kindDiedYoung))
		}
		if attempts < 20 || attempts > 40 {
			t.Errorf("%d attempts in 10 minutes, want about 30", attempts)
		}
		if r.recoveries != 0 {
			t.Errorf("recovered %d times, never did", r.recoveries)
		}
		g.succeed(mustEnter(t, g), "a")
		time.Sleep(youngAge)
		synctest.Wait()
		if r.recoveries != 1 {
			t.Error("not recovered")
		}
		g.died(testFailure(kindDiedYoung))
		start := time.Now()
		mustEnter(t, g)
		between(t, "the next attempt after a recovery", start, 80*time.Millisecond, 120*time.Millisecond)
	})
}

func TestGateIsNotOpenedByWhatBeganBeforeItShut(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		g.succeed(mustEnter(t, g), "a")
		early := mustEnter(t, g)
		g.fail(mustEnter(t, g), testFailure(kindDial))
		g.succeed(early, "a")
		if g.isOpen() {
			t.Error("open")
		}
	})
}

func TestGateHandsAnUnusedTicketOn(t *testing.T) {
	inGate(t, func(t *testing.T, g *gate, r *recorder) {
		tk := mustEnter(t, g)
		entered := make(chan struct{})
		go func() {
			defer close(entered)
			_, _ = g.enter(context.Background())
		}()
		synctest.Wait()
		g.forgo(tk)
		<-entered

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("enter beyond its context: %v", err)
		}
	})
}
