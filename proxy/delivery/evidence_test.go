package delivery

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestAnotherLaneShowsThatRecordsAreTaken has a lane with nothing but a refused record, and
// others whose segments would take an hour.
func TestAnotherLaneShowsThatRecordsAreTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &counted{simServer: newSimServer(1)}
		s.refuse = func(record []byte) bool { return strings.HasPrefix(string(record), "bad") }
		rejects := &memoryRejects{}
		d := newDispatcher(t, s, Options{Lanes: 4, ConfirmInterval: time.Hour, Rejects: rejects})
		defer d.Close()
		enemy := d.NewWriter("enemy", nil)
		stop := writeAlong(t, d, 3, 20*time.Millisecond, "good n=1i\n", 1)
		found, sent := d.lanes[0].progress.wait(), time.Now()
		put(t, enemy, "bad n=1i\n")
		select {
		case <-found:
		case <-time.After(time.Hour):
		}
		if took := time.Since(sent); took > watchTable+10*time.Second || len(rejects.all()) != 1 {
			t.Errorf("%d records set aside after %v", len(rejects.all()), took)
		}

		// However many are refused, the others need not end all the time for it.
		before, began := s.conns.Load(), time.Now()
		for n := range 10 {
			put(t, enemy, fmt.Sprintf("bad%d n=1i\n", n))
		}
		for len(rejects.all()) < 11 && time.Since(began) < time.Hour {
			<-time.After(time.Second)
		}
		if n, most := s.conns.Load()-before, 3*int64(time.Since(began)/evidenceAfter)+30; n > most {
			t.Errorf("%d connections in %v of refused records, at most %d expected", n, time.Since(began), most)
		}
		<-time.After(2 * evidenceAfter) // who ended for the last of them has a new one now
		before = s.conns.Load()
		<-time.After(time.Minute)
		if n := s.conns.Load() - before; n > 0 {
			t.Errorf("%d connections ended in a minute although nothing is refused any more", n)
		}
		stop()
		drainAll(t, d)
	})
}

// TestLineFeedsShowNothing has a server refuse all records; it takes line feeds even so.
func TestLineFeedsShowNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.full = true
		rejects := &memoryRejects{}
		d := newDispatcher(t, s, Options{Lanes: 4, Rejects: rejects})
		defer d.Close()
		victim := d.NewWriter("victim", nil)
		stop := writeAlong(t, d, 3, 500*time.Millisecond, "\n", 0)
		aside := d.lanes[0].progress.wait()
		put(t, victim, "good n=1i\n")
		select {
		case <-aside:
		case <-time.After(10 * time.Minute):
		}
		if all := rejects.all(); len(all) > 0 {
			t.Errorf("set aside: %q (%s)", all[0].Bytes, all[0].Detail)
		}
		s.change(func() { s.full = false })
		stop()
		drainAll(t, d)
	})
}

// TestServerTroubleIsSeenSoon has a server's disk fill up: then no lane is well, and there
// is no point in waiting for what another one may show.
func TestServerTroubleIsSeenSoon(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		d := newDispatcher(t, s, Options{Lanes: 8})
		defer d.Close()
		feeds := writeAlong(t, d, 1, 200*time.Millisecond, "\n", 0) // taken all the same
		stop := writeAlong(t, d, 7, 200*time.Millisecond, "good n=1i\n", 1)
		<-time.After(10 * time.Second)
		s.change(func() { s.full = true })
		began := time.Now()
		for d.refusing.Load() == 0 && time.Since(began) < time.Minute {
			<-time.After(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 5*awaitNone+awaitOthers {
			t.Errorf("seen after %v", took)
		}
		s.change(func() { s.full = false })
		feeds()
		stop()
		drainAll(t, d)
	})
}

func TestOneRefusalIsHeldOnce(t *testing.T) {
	var tr trouble
	p := tr.against("a", 100)
	p.refuse()
	p.hold()
	p.hold() // it was not refused again
	if p.times != 1 || p.held != 1 {
		t.Errorf("%+v", p)
	}
	p.refuse()
	p.hold()
	if p = tr.against("a", 100); p.times != 2 || p.held != 2 {
		t.Errorf("%+v", p)
	}
	if p = tr.against("b", 100); p.times != 0 || p.held != 0 {
		t.Errorf("another server: %+v", p)
	}
}

func TestEvidenceIsOfOneServer(t *testing.T) {
	var e evidence
	began := time.Now()
	refused := began.Add(-time.Second)
	e.took("a", began)
	e.took("a", refused) // an older connection
	if !e.since("a", refused) || e.since("a", began) || e.since("b", refused) {
		t.Errorf("%v", e.latest)
	}
	for i := range 2 * mostServers {
		e.took(fmt.Sprint(i), began)
	}
	if len(e.latest) > mostServers || !e.since(fmt.Sprint(2*mostServers-1), refused) {
		t.Errorf("%d servers remembered", len(e.latest))
	}
}

// writeAlong has writers write record, until the function that it returns is called.
func writeAlong(t *testing.T, d *Dispatcher, writers int, every time.Duration, record string, records int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range writers {
		w := d.NewWriter(fmt.Sprint("w", i), nil)
		wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for ctx.Err() == nil {
				b, err := w.Buffer(ctx)
				if err != nil {
					return
				}
				w.Append(b, copy(b.Bytes(), record), records)
				<-tick.C
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// drainAll delivers everything.
func drainAll(t *testing.T, d *Dispatcher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if left, _ := d.Drain(ctx); left != 0 {
		t.Errorf("%d records left", left)
	}
}

// TestProofsStayStrong has twelve proofs be needed of a record when its table is closed for all: two are not enough then.
func TestProofsStayStrong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rejects := &memoryRejects{}
		d := newDispatcher(t, away{}, Options{Lanes: 1, Rejects: rejects})
		l, w := d.lanes[0], d.NewWriter("10.0.0.1:1", nil)
		b, err := w.Buffer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := copy(b.Bytes(), goodRow("t", 1))
		w.Append(b, n, 1)
		now := time.Now()
		var all suspicion
		for range inARow {
			if some := d.quarantine.refused(&Writer{remote: "10.0.0.9:1"}, "t", now); len(some) > 0 {
				all = some[0]
			}
		}
		d.quarantine.close(all, now)
		l.trouble.evidence = proof{start: 0, addr: "x", refused: now, times: rounds + 1, held: rounds + 1, needed: weakProofs, told: true}
		l.isolate(t.Context(), "x", 0, int64(n)) // which no connection is to be had for
		if rejects.count() > 0 {
			t.Errorf("set aside with %d of %d proofs", rounds+1, weakProofs)
		}
		d.Close()
	})
}
