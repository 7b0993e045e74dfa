package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
	"questdb-ilp-proxy/proxy/rejected"
)

// refusedEnd is how a record ends that the server refuses.
const refusedEnd = ",x=1i\n"

func isRefused(record []byte) bool { return strings.HasSuffix(string(record), refusedEnd) }

// hookedRejects calls put after each record that was refused.
type hookedRejects struct {
	memoryRejects
	put func(n int)
}

func (h *hookedRejects) Put(records ...rejected.Record) error {
	err := h.memoryRejects.Put(records...)
	if h.put == nil {
		return err
	}
	n := 0
	for _, r := range h.all() {
		if r.Reason == rejected.ReasonRefused {
			n++
		}
	}
	h.put(n)
	return err
}

// field is a server that refuses some records, and writers that write until stop.
type field struct {
	t       *testing.T
	s       *simServer
	d       *Dispatcher
	rejects hookedRejects
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	good    atomic.Int64 // records that the server takes
	bad     atomic.Int64
}

func newField(t *testing.T, o Options) *field {
	f := &field{t: t, s: newSimServer(1)}
	f.s.refuse = isRefused
	o.Rejects = &f.rejects
	f.d = newDispatcher(t, f.s, o)
	f.ctx, f.stop = context.WithCancel(t.Context())
	return f
}

// pause waits, and reports whether the writers are to go on.
func (f *field) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-f.ctx.Done():
	}
	return f.ctx.Err() == nil
}

// send does with records what a session does.
func (f *field) send(w *Writer, records ...string) {
	if w.Ready(f.ctx) != nil {
		return
	}
	b, err := w.Buffer(f.ctx)
	if err != nil {
		return
	}
	n, count := 0, 0
	for _, r := range records {
		if isRefused([]byte(r)) {
			f.bad.Add(1)
		} else {
			f.good.Add(1)
		}
		if w.Suspect() {
			if reason, detail := w.Check([]byte(r)); reason != "" {
				w.Reject(f.ctx, rejected.Record{Reason: reason, Detail: detail, Remote: w.Remote(), Bytes: []byte(r)})
				continue
			}
		}
		n += copy(b.Bytes()[n:], r)
		count++
	}
	if n == 0 {
		w.Return(b)
		return
	}
	w.Append(b, n, count)
}

// along has a writer send, again and again, what record makes of a number.
func (f *field) along(w *Writer, every time.Duration, record func(n int) string) {
	f.wg.Go(func() {
		for n := 0; f.pause(every); n++ {
			f.send(w, record(n))
		}
	})
}

// latest lets the writers go on, and returns how old the oldest record that was not settled got meanwhile.
func (f *field) latest(over time.Duration) (late time.Duration) {
	for range over / time.Second {
		f.pause(time.Second)
		if at, ok := f.d.Oldest(); ok {
			late = max(late, time.Since(at))
		}
	}
	return late
}

// bulk is how many records were set aside without being tried.
func (f *field) bulk() (n int) {
	for _, r := range f.rejects.all() {
		if r.Reason == rejected.ReasonTableRefused {
			n++
		}
	}
	return n
}

// end ends the writers, but for one who goes on until all is decided, and checks that just what the server refuses was set aside.
func (f *field) end() {
	f.t.Helper()
	f.stop()
	f.wg.Wait()
	f.ctx = f.t.Context()
	last := f.d.NewWriter("last", nil)
	for deadline := time.Now().Add(time.Hour); time.Now().Before(deadline) && f.rejects.count() < int(f.bad.Load()); <-time.After(time.Second) {
		f.send(last, fmt.Sprintf("last n=%di\n", f.good.Load()))
	}
	f.drain()
}

// drain has everything delivered and compares that with what was sent. No writer may go on.
func (f *field) drain() {
	f.t.Helper()
	drainAll(f.t, f.d)
	f.d.Close()
	<-time.After(time.Minute) // what the server commits later
	aside := 0
	for _, r := range f.rejects.all() {
		if !isRefused(r.Bytes) {
			if aside++; aside < 4 {
				f.t.Errorf("set aside: %q of %s (%s)", r.Bytes, r.Remote, r.Reason)
			}
		}
	}
	if n := f.rejects.count(); aside > 0 || n != int(f.bad.Load()) {
		f.t.Errorf("%d records are set aside, %d of them good ones, of %d that are refused", n, aside, f.bad.Load())
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	delivered := map[string]bool{}
	for _, r := range f.s.committed {
		delivered[string(r)] = true
	}
	if n := len(delivered); n != int(f.good.Load()) {
		f.t.Errorf("%d good records are delivered, of %d", n, f.good.Load())
	}
}

func goodRow(table string, n int) string { return fmt.Sprintf("%s n=%di\n", table, n) }

func badRow(table string, id, n int) string {
	return fmt.Sprintf("%s n=%di,id=%di%s", table, n, id, refusedEnd)
}

func row3(id, n int) []string {
	return []string{badRow("t", id, 3*n), badRow("t", id, 3*n+1), badRow("t", id, 3*n+2)}
}

// TestHostileWriters has writers send refused records of a table in many ways, while another one's are taken now and then, or all
// the time: none of those is ever set aside.
func TestHostileWriters(t *testing.T) {
	slow := func(f *field, w *Writer) {
		for range 10 {
			for range 5 {
				f.send(w, goodRow("t", int(f.good.Load())))
				f.pause(time.Second)
			}
			f.pause(40 * time.Second)
		}
	}
	for name, test := range map[string]struct {
		o    Options
		test func(f *field)
	}{
		"two, and a slow one": {Options{}, func(f *field) {
			good := f.d.NewWriter("10.0.0.1:5", nil)
			for id := range 2 {
				f.along(f.d.NewWriter("10.0.0.9:1", nil), 50*time.Millisecond, func(n int) string { return badRow("t", id, n) })
			}
			slow(f, good)
		}},
		"twenty, and a slow one": {Options{}, func(f *field) {
			good := f.d.NewWriter("10.0.0.1:5", nil)
			for id := range 20 {
				if id == 2 {
					slow(f, good)
				}
				f.along(f.d.NewWriter(fmt.Sprintf("10.0.0.%d:1", 9+id), nil), time.Second, func(n int) string { return badRow("t", id, n) })
			}
			slow(f, good)
		}},
		"one that connects anew, and a slow one": {Options{Disconnect: true}, func(f *field) {
			good := f.d.NewWriter("10.0.0.9:5", nil) // from the same host
			f.wg.Go(func() {
				for n, conns := 0, 0; f.ctx.Err() == nil; conns++ {
					var gone atomic.Bool
					w := f.d.NewWriter(fmt.Sprint("10.0.0.9:", 100+conns), func() { gone.Store(true) })
					for ; !gone.Load() && f.pause(50*time.Millisecond); n++ {
						f.send(w, badRow("t", 0, n))
					}
					w.Close()
				}
			})
			slow(f, good)
		}},
		"two that send good ones of others, and a busy one": {Options{ConfirmInterval: time.Second}, func(f *field) {
			f.along(f.d.NewWriter("10.0.0.1:5", nil), 50*time.Millisecond, func(n int) string { return goodRow("t", n) })
			for id := range 2 {
				f.wg.Go(func() {
					w := f.d.NewWriter(fmt.Sprintf("10.0.0.%d:1", 8+id), nil)
					for n := 0; f.pause(50 * time.Millisecond); n++ {
						if n%100 == 99 {
							w.Close()
							w = f.d.NewWriter(fmt.Sprintf("10.0.0.%d:%d", 8+id, n), nil)
						}
						f.send(w, append(row3(id, n), goodRow(fmt.Sprint("own", id), n))...)
					}
				})
			}
			f.pause(2 * time.Minute)
		}},
		"two now and then, and a busy one": {Options{ConfirmInterval: 20 * time.Second}, func(f *field) {
			f.along(f.d.NewWriter("10.0.0.1:5", nil), 50*time.Millisecond, func(n int) string { return goodRow("t", n) })
			for id := range 2 {
				w := &Writer{lane: f.d.lanes[1], remote: "10.0.0.9:1", born: time.Now()}
				f.wg.Go(func() {
					for n := 0; f.pause(time.Second); n++ {
						f.send(w, badRow("t", id, 3*n), goodRow(fmt.Sprint("own", id), n))
						if n%10 == 9 {
							f.send(w, row3(id+2, n)...)
						}
					}
				})
			}
			f.pause(5 * time.Minute)
		}},
		"one, whose next ones are good": {Options{}, func(f *field) {
			w := f.d.NewWriter("10.0.0.1:5", nil)
			records := row3(0, 0)
			for n := range 1000 {
				records = append(records, goodRow("t", n))
			}
			f.send(w, records...)
			f.pause(5 * time.Minute)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				o := test.o
				o.Lanes = 2
				f := newField(t, o)
				f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
				test.test(f)
				f.end()
			})
		})
	}
}

// TestTroubleWhileSamplesAreTried has the disk full, or connections broken, for two seconds just when samples of a writer's
// records are tried: they say nothing then.
func TestTroubleWhileSamplesAreTried(t *testing.T) {
	for name, trouble := range map[string]func(s *simServer, on bool){
		"full": func(s *simServer, on bool) { s.full = on },
		"cut": func(s *simServer, on bool) {
			s.cut = nil
			if on {
				s.cut = func(*rand.Rand) int { return 100 }
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := newField(t, Options{Lanes: 2})
				for i := range 2 {
					f.along(f.d.NewWriter("10.0.0.2:5", nil), 20*time.Millisecond, func(n int) string { return goodRow(fmt.Sprint("other", i), n) })
				}
				var once sync.Once
				f.rejects.put = func(n int) {
					if n < inARow {
						return
					}
					once.Do(func() {
						f.s.change(func() { trouble(f.s, true) })
						time.AfterFunc(2*time.Second, func() { f.s.change(func() { trouble(f.s, false) }) })
					})
				}
				records := row3(0, 0)
				for n := range 1000 {
					records = append(records, goodRow("t", n))
				}
				f.send(f.d.NewWriter("10.0.0.1:5", nil), records...)
				f.pause(5 * time.Minute)
				f.end()
			})
		})
	}
}

// TestShortConnections has somebody connect anew for each record, and all of them be refused: in the end they are set aside
// in bulk, and not one by one. Who was there before is not taken for one of them.
func TestShortConnections(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 2})
		f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
		before := f.d.NewWriter("10.0.0.9:5", nil)
		f.wg.Go(func() {
			for n := 0; f.pause(20 * time.Millisecond); n++ {
				w := f.d.NewWriter(fmt.Sprint("10.0.0.9:", 100+n), nil)
				f.send(w, badRow("t", 0, n))
				w.Close()
			}
		})
		f.pause(40 * time.Second)
		one := []byte(badRow("t", 9, 9)) // which is not delivered if it is tried
		if reason, _ := f.d.NewWriter("10.0.0.9:9", nil).Check(one); reason == "" {
			t.Error("each of them is tried still")
		}
		if w := f.d.NewWriter("10.0.0.9:9", nil); w.lane != f.d.apart {
			t.Error("a new connection of that host does not begin on the lane apart")
		}
		if w := f.d.NewWriter("10.0.0.1:9", nil); w.lane == f.d.apart {
			t.Error("one of another host does")
		}
		if reason, _ := before.Check(one); reason != "" {
			t.Errorf("a record of somebody who was there before is set aside (%s)", reason)
		}
		if reason, _ := f.d.NewWriter("10.0.0.1:9", nil).Check(one); reason != "" {
			t.Errorf("a record of somebody from elsewhere is set aside (%s)", reason)
		}
		for range 20 {
			f.d.NewWriter("10.0.0.9:9", nil)
		}
		if w := f.d.NewWriter("10.0.0.9:9", nil); w.lane == f.d.apart {
			t.Error("nearly all are of that host, and a new one begins on the lane apart")
		}
		f.end()
		if bulk := f.bulk(); bulk < int(f.bad.Load())*3/4 {
			t.Errorf("%d of %d records are set aside in bulk", bulk, f.bad.Load())
		}
	})
}

// TestNewcomer has twenty writers of whom all records of a table are refused, and then one from elsewhere whose records are good: the
// first is set aside, since those of so many were refused, and tried at once.
func TestNewcomer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 2})
		f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
		for id := range 20 {
			f.along(f.d.NewWriter(fmt.Sprintf("10.0.0.%d:1", 9+id), nil), time.Second, func(n int) string { return badRow("t", id, n) })
		}
		f.pause(2 * time.Minute)
		f.along(f.d.NewWriter("10.0.0.1:5", nil), time.Second, func(n int) string { return goodRow("t", n) })
		f.pause(2 * time.Minute)
		f.stop()
		f.wg.Wait()
		aside := 0
		for _, r := range f.rejects.all() {
			if !isRefused(r.Bytes) {
				aside++
			}
		}
		if aside == 0 || aside > 15 {
			t.Errorf("%d good records are set aside, want some few", aside)
		}
		f.d.Close()
		<-time.After(time.Minute)
	})
}

// TestTableRefusesShortConnections has many short connections from one host with a record each, for a table that refuses all of them from
// some time on: those who write other tables are not held up for longer than it takes to find out.
func TestTableRefusesShortConnections(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 4})
		for id := range 4 {
			f.along(f.d.NewWriter("10.0.0.2:5", nil), 20*time.Millisecond, func(n int) string { return goodRow(fmt.Sprint("other", id), n) })
		}
		broken := false
		f.s.refuse = func(r []byte) bool { return broken && strings.HasPrefix(string(r), "t ") }
		f.wg.Go(func() {
			for n := 0; f.pause(10 * time.Millisecond); n++ {
				w := f.d.NewWriter(fmt.Sprint("10.0.0.9:", n), nil)
				f.send(w, goodRow("t", n))
				w.Close()
			}
		})
		f.pause(10 * time.Second)
		f.s.change(func() { broken = true })
		late := f.latest(2 * time.Minute)
		if late > time.Minute {
			t.Errorf("records wait for %v", late)
		}
		if one := f.rejects.count() - f.bulk(); one > 100 {
			t.Errorf("%d records were tried one by one", one)
		}
		f.s.change(func() { broken = false })
		f.pause(30 * time.Second)
		if w := f.d.NewWriter("10.0.0.9:1", nil); w.lane == f.d.apart {
			t.Error("new connections of that host are on the lane apart still, though all its records are taken")
		}
		f.stop()
		f.wg.Wait()
		drainAll(t, f.d)
		f.d.Close()
		<-time.After(time.Minute)
	})
}

// TestTableRefusesEverybody has a table refuse all records of all writers from some time on. Those of some are tried, and then all
// are set aside in bulk; when it takes them again, so does the proxy.
func TestTableRefusesEverybody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const writers = 50
		f := newField(t, Options{Lanes: 2})
		f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
		broken := false
		f.s.refuse = func(r []byte) bool { return isRefused(r) || broken && strings.HasPrefix(string(r), "t ") }
		for id := range writers {
			f.along(f.d.NewWriter(fmt.Sprintf("10.0.1.%d:5", id), nil), time.Second, func(n int) string { return fmt.Sprintf("t id=%di,n=%di\n", id, n) })
		}
		f.pause(30 * time.Second)
		f.s.change(func() { broken = true })
		late := f.latest(5 * time.Minute)
		if late > time.Minute {
			t.Errorf("records wait for %v", late)
		}
		if bulk := f.bulk(); bulk < writers*300*9/10 {
			t.Errorf("%d records are set aside in bulk in five minutes, of %d a second", bulk, writers)
		}
		f.s.change(func() { broken = false })
		f.pause(time.Minute)
		aside := f.rejects.count()
		f.pause(time.Minute)
		if n := f.rejects.count(); n != aside {
			t.Errorf("the table takes all again, and %d are set aside in a minute", n-aside)
		}
		f.stop()
		f.wg.Wait()
		drainAll(t, f.d)
		f.d.Close()
		<-time.After(time.Minute)
	})
}

// TestNeighboursOfRefusedTables has somebody connect anew for each of many records, of two tables that refuse everything, which looks like
// a server without file handles: those who share a lane with them wait for a while, not for ever.
func TestNeighboursOfRefusedTables(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 2})
		for id := range 2 {
			f.along(f.d.NewWriter(fmt.Sprint("10.0.0.1:", id), nil), 100*time.Millisecond, func(n int) string { return goodRow(fmt.Sprint("good", id), n) })
		}
		f.wg.Go(func() {
			for n := 0; f.pause(2 * time.Second); n++ {
				w := f.d.NewWriter(fmt.Sprint("10.0.0.9:", n), nil)
				f.send(w, badRow(fmt.Sprint("t", n%2), 0, n))
				w.Close()
			}
		})
		late := f.latest(10 * time.Minute)
		if late > holdTables+2*time.Minute {
			t.Errorf("records wait for %v", late)
		}
		if late < holdTables/2 {
			t.Errorf("records wait for %v: the tables were not held", late)
		}
		if n, all := f.rejects.count(), int(f.bad.Load()); n < all*9/10 {
			t.Errorf("%d of %d refused records were decided on in ten minutes", n, all)
		}
		f.end()
	})
}
