package delivery

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// awaitOthers is how long to wait for another lane's records to be accepted; awaitNone
	// where no lane has had any accepted since one of its connections failed: then it is
	// most likely the server.
	awaitOthers = 3 * time.Second
	awaitNone   = time.Second
	// evidenceAfter is how long a lane's segment takes at the most while another one
	// waits for what it shows: two of these, of which the second begins after the
	// question, fit into awaitOthers. It must not be shorter: whoever sends nothing but
	// refused records could make all lanes end segment after segment; and what a server
	// in trouble takes here and there must not look like many proofs.
	evidenceAfter = time.Second
	// mostServers bounds the servers of which evidence is remembered.
	mostServers = 64
)

// evidence is what the lanes know together of whether a server takes any records.
type evidence struct {
	mu sync.Mutex
	// latest is, by server, when the youngest connection began whose records were all
	// taken. When it ended says less: a server that refuses everything now may have read
	// them before. What went to another server says nothing.
	latest map[string]time.Time
	came   broadcast
	// wanted is above 0 while a lane waits for evidence.
	wanted atomic.Int32
}

// took says that the server at addr took all records of a connection on which the first
// was written at began, or later.
func (e *evidence) took(addr string, began time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !began.After(e.latest[addr]) {
		return
	}
	if e.latest == nil || len(e.latest) >= mostServers {
		e.latest = map[string]time.Time{} // addresses of a name may come and go for ever
	}
	e.latest[addr] = began
	e.came.broadcast()
}

// since reports whether the server at addr took records that were written after t.
func (e *evidence) since(addr string, t time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.latest[addr].After(t)
}

// await waits until the server at addr has taken records that were written after t by
// other lanes than l, at most for awaitOthers.
func (d *Dispatcher) await(ctx context.Context, l *Lane, addr string, t time.Time) (ok bool) {
	d.evidence.wanted.Add(1)
	defer d.evidence.wanted.Add(-1)
	soon, late := time.NewTimer(awaitNone), time.NewTimer(awaitOthers)
	defer soon.Stop()
	defer late.Stop()
	for {
		next := d.evidence.came.wait()
		if busy, _ := d.others(l); !busy {
			return false
		}
		if d.evidence.since(addr, t) {
			return true
		}
		for _, o := range d.lanes {
			o.nudge() // so that they look at the age of their segments
		}
		select {
		case <-next:
		case <-soon.C:
			if _, well := d.others(l); !well {
				return false
			}
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
