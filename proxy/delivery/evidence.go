package delivery

import (
	"context"
	"sync/atomic"
	"time"
)

// evidence is what the lanes know together of whether QuestDB takes any records.
type evidence struct {
	// latest is when records began to be written that were all taken, at the latest as
	// far as is known: Unix nanoseconds. When their connection ended says less: a server
	// that refuses everything now may have read them before.
	latest atomic.Int64
	came   broadcast
	// wanted is above 0 while a lane waits for evidence: that something was taken which
	// was written after asked, in Unix nanoseconds.
	wanted atomic.Int32
	asked  atomic.Int64
}

// ask says that something has to be written after t and be taken, until done is called.
func (e *evidence) ask(t time.Time) (done func()) {
	raise(&e.asked, t.UnixNano())
	e.wanted.Add(1)
	return func() { e.wanted.Add(-1) }
}

// stamp returns the time, if somebody waits for what is written now to be taken.
func (e *evidence) stamp() time.Time {
	if e.wanted.Load() == 0 {
		return time.Time{}
	}
	return time.Now()
}

// awaits returns what the records of s that were written last would be evidence for, if
// somebody waits for that: another value each time that somebody asks; else 0.
func (e *evidence) awaits(s *segment) int64 {
	if asked := e.asked.Load(); e.wanted.Load() > 0 && s.stamped.After(time.Unix(0, asked)) {
		return asked
	}
	return 0
}

// took says that QuestDB took all records of a connection, of which some were written
// at that time or later.
func (e *evidence) took(at time.Time) {
	if raise(&e.latest, at.UnixNano()) {
		e.came.broadcast()
	}
}

// raise makes v at least n, and reports whether it was less.
func raise(v *atomic.Int64, n int64) bool {
	for {
		old := v.Load()
		if n <= old {
			return false
		}
		if v.CompareAndSwap(old, n) {
			return true
		}
	}
}

// since reports whether QuestDB took records that were written after t.
func (e *evidence) since(t time.Time) bool { return e.latest.Load() > t.UnixNano() }

// await waits until QuestDB has taken records that were written after t by other
// lanes than l, at most for d.
func (d *Dispatcher) await(ctx context.Context, l *Lane, t time.Time, most time.Duration) (ok bool) {
	defer d.evidence.ask(t)()
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	for d.othersBusy(l) {
		next := d.evidence.came.wait()
		if d.evidence.since(t) {
			return true
		}
		select {
		case <-next:
		case <-deadline.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return false
}
