package delivery

import (
	"context"
	"sync/atomic"
	"time"
)

// evidence is what the lanes know together of whether QuestDB takes any records.
type evidence struct {
	// latest is when the youngest connection began whose records were all taken:
	// Unix nanoseconds. When it ended says less: a server that refuses everything
	// now may have read them before.
	latest atomic.Int64
	came   broadcast
	// wanted is above 0 while a lane waits for evidence. Then the others have what
	// they write confirmed sooner.
	wanted atomic.Int32
}

// took says that QuestDB took all records of a connection on which the first was
// written at began.
func (e *evidence) took(began time.Time) {
	for at := began.UnixNano(); ; {
		latest := e.latest.Load()
		if at <= latest {
			return
		}
		if e.latest.CompareAndSwap(latest, at) {
			e.came.broadcast()
			return
		}
	}
}

// since reports whether QuestDB took records that were written after t.
func (e *evidence) since(t time.Time) bool { return e.latest.Load() > t.UnixNano() }

// await waits until QuestDB has taken records that were written after t by other
// lanes than l, at most for d.
func (d *Dispatcher) await(ctx context.Context, l *Lane, t time.Time, most time.Duration) (ok bool) {
	d.evidence.wanted.Add(1)
	defer d.evidence.wanted.Add(-1)
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	for d.othersBusy(l) {
		next := d.evidence.came.wait()
		if d.evidence.since(t) {
			return true
		}
		for _, o := range d.lanes {
			o.nudge() // so that they look at the size of their segments
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
