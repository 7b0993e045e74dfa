package delivery

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// drawn counts the connections that lanes took, apart from those for trials.
type drawn struct {
	*simServer
	n atomic.Int64
}

func (d *drawn) Acquire(ctx context.Context) (Conn, error) {
	d.n.Add(1)
	return d.simServer.Acquire(ctx)
}

func (d *drawn) AcquireAddr(ctx context.Context, _ string) (Conn, error) {
	return d.simServer.Acquire(ctx)
}

// TestAnotherLaneShowsThatRecordsAreTaken has a lane with nothing but a refused record, and
// others whose segments would take an hour.
func TestAnotherLaneShowsThatRecordsAreTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &drawn{simServer: newSimServer(1)}
		s.refuse = func(record []byte) bool { return string(record) == "bad n=1i\n" }
		rejects := &memoryRejects{}
		d := newDispatcher(t, s, Options{Lanes: 4, ConfirmInterval: time.Hour, Rejects: rejects})
		defer d.Close()
		var wg sync.WaitGroup
		enemy := d.NewWriter("enemy", nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 3 {
			w := d.NewWriter(fmt.Sprint("w", i), nil)
			wg.Go(func() {
				for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
					put(t, w, "good n=1i\n")
				}
			})
		}
		found, began := d.lanes[0].progress.wait(), time.Now()
		put(t, enemy, "bad n=1i\n")
		select {
		case <-found:
		case <-time.After(time.Hour):
		}
		took, conns := time.Since(began), s.n.Load()
		t.Logf("found after %v and %d connections", took, conns)
		if took > watchTable+5*time.Second || len(rejects.all()) != 1 {
			t.Errorf("%d records set aside after %v", len(rejects.all()), took)
		}
		// One of each other lane each time that the record was refused, and some to begin with.
		if most := int64(5*proofs + 10); conns > most {
			t.Errorf("%d connections, at most %d expected", conns, most)
		}
		cancel()
		wg.Wait()
		if left, _ := d.Drain(t.Context()); left != 0 {
			t.Errorf("%d records left", left)
		}
	})
}
