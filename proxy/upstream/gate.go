package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/sethvargo/go-retry"
)

const (
	// youngAge is how long a connection must live, from when it became ready, for
	// the server to count as healthy. A server that accepts everybody and closes
	// at once must not be taken for one that is back.
	youngAge = time.Second

	// jitterPercent spreads the retries of many proxies before one server.
	jitterPercent = 20
)

// gate decides when a connection may be attempted. While it is open, attempts go
// on side by side. A failure closes it: then there is one attempt at a time, with
// growing pauses between them, until one succeeds. It begins closed, without a
// pause: as long as nothing is known of the server, one attempt is enough.
//
// A success opens the gate at once, but the pauses begin from their base again
// only when it has stayed open for youngAge.
//
// It knows nothing of sockets.
type gate struct {
	base, max time.Duration
	report    reporter

	mu      sync.Mutex
	open    bool
	settled *time.Timer   // runs while the gate is open but not yet trusted; else nil
	probing bool          // while closed: somebody is attempting
	next    time.Time     // while closed: not before
	refused int           // refusals in a row, each after a pause
	backoff retry.Backoff // nil: the next pause is the first
	failed  int           // attempts and ready connections that failed, in all
	lastErr error         // of the latest of them
	changed chan struct{} // closed and replaced when the above changes
	retries func()        // called for each attempt that follows a failure
}

// newGate makes a gate with pauses from base to max.
func newGate(base, max time.Duration, report reporter, retries func()) *gate {
	return &gate{base: base, max: max, report: report, changed: make(chan struct{}), retries: retries}
}

// ticket is the permission for one attempt. It must be given back with one of
// succeed, fail and forgo.
type ticket struct{ probe bool }

// enter waits until an attempt may begin.
func (g *gate) enter(ctx context.Context) (ticket, error) {
	for {
		t, wait, changed := g.tryEnter()
		if wait == nil {
			return t, nil
		}
		if err := pause(ctx, *wait, changed); err != nil {
			return ticket{}, err
		}
	}
}

// pause waits for d, until something changed, or until ctx ends, whose error it returns
// then.
func pause(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-timer.C:
	}
	return nil
}

// enterOrFail is enter, but fails as soon as another one's attempt does: then the
// caller's would not fare better.
func (g *gate) enterOrFail(ctx context.Context) (ticket, error) {
	g.mu.Lock()
	failed := g.failed
	g.mu.Unlock()
	for {
		t, wait, changed := g.tryEnter()
		if wait == nil {
			return t, nil
		}
		if err := pause(ctx, *wait, changed); err != nil {
			return ticket{}, err
		}
		g.mu.Lock()
		err, again := g.lastErr, g.failed != failed
		g.mu.Unlock()
		if again {
			return ticket{}, err
		}
	}
}

// tryEnter returns a ticket, or how long to wait unless changed is closed before.
func (g *gate) tryEnter() (t ticket, wait *time.Duration, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return ticket{}, nil, nil
	}
	d := time.Until(g.next)
	if g.probing {
		d = time.Hour // its end closes changed
	}
	if d > 0 {
		return ticket{}, &d, g.changed
	}
	g.probing = true
	if g.backoff != nil {
		g.retries()
	}
	return ticket{probe: true}, nil, nil
}

// forgo gives a ticket back of which no use was made.
func (g *gate) forgo(t ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.probe {
		g.probing = false
		g.broadcast()
	}
}

// succeed says that an attempt led to a connection to addr.
func (g *gate) succeed(t ticket, addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.probe {
		g.probing = false
	}
	if g.open || !t.probe {
		return // begun before what shut the gate, it says nothing about the time after
	}
	g.refused = 0
	g.open = true
	g.report.connected(addr)
	g.settled = time.AfterFunc(youngAge, g.trust)
	g.broadcast()
}

// trust begins with the shortest pause again: the gate was open long enough.
func (g *gate) trust() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open && g.settled != nil {
		g.settled = nil
		g.backoff = nil
		g.report.recovered()
	}
}

// fail says that an attempt failed.
func (g *gate) fail(t ticket, f failure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.probe {
		g.probing = false
	}
	// Attempts that began side by side fail side by side: that is one failure as
	// far as the pauses are concerned.
	if t.probe || g.open {
		g.shut(&f)
	}
	g.report.failed(f)
}

// died says that a ready connection ended young, without anybody having used it.
func (g *gate) died(f failure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		g.shut(&f)
	}
	g.report.failed(f)
}

// shut closes the gate and begins the next pause.
func (g *gate) shut(f *failure) {
	g.open = false
	g.failed++
	g.lastErr = f.err
	if g.settled != nil {
		g.settled.Stop()
		g.settled = nil
	}
	if g.backoff == nil {
		g.backoff = newBackoff(g.base, g.max)
	}
	pause, _ := g.backoff.Next()
	if f.kind != kindRefused {
		g.refused = 0
	} else if g.refused++; g.refused > 1 {
		// A server that is just shutting down closes like one that refuses. Only
		// what is refused again is refused, and trying on will not help then.
		f.certain = true
		pause = g.max
	}
	f.retryIn = pause
	g.next = time.Now().Add(pause)
	g.broadcast()
}

// again has the next attempt begin at once, and the pauses from their base: what made
// attempts fail may have been mended.
func (g *gate) again() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next, g.refused = time.Time{}, 0
	if g.backoff != nil {
		g.backoff = newBackoff(g.base, g.max)
	}
	g.broadcast()
}

func (g *gate) broadcast() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// close stops the gate's timer; attempts are ended by their contexts.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled != nil {
		g.settled.Stop()
		g.settled = nil
	}
}

// newBackoff doubles from base to max, with jitter, for ever.
func newBackoff(base, max time.Duration) retry.Backoff {
	b := retry.WithCappedDuration(max, retry.NewExponential(base))
	return retry.WithCappedDuration(max, retry.WithJitterPercent(jitterPercent, b))
}
