package delivery

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/e2e/bubble"
	"questdb-ilp-proxy/proxy/upstream"
)

func newDispatcher(t testing.TB, s Source, o Options) *Dispatcher {
	t.Helper()
	o.Source = s
	o.Metrics = NewMetrics(prometheus.NewRegistry())
	d := New(o)
	t.Cleanup(d.Close)
	return d
}

// put appends records as a session does.
func put(t testing.TB, w *Writer, records ...string) {
	t.Helper()
	b, err := w.Buffer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range records {
		n += copy(b.Bytes()[n:], r)
	}
	w.Append(b, n, len(records))
}

func TestSessionsSpreadOverLanes(t *testing.T) {
	d := newDispatcher(t, newSimServer(1), Options{Lanes: 3})
	count := map[int]int{}
	var writers []*Writer
	for range 6 {
		w := d.NewWriter("w", nil)
		count[w.Lane()]++
		writers = append(writers, w)
	}
	for lane, n := range count {
		if n != 2 {
			t.Errorf("lane %d has %d sessions, want 2", lane, n)
		}
	}
	writers[4].Close()
	writers[4].Close() // counts once
	if w := d.NewWriter("w", nil); w.Lane() != writers[4].Lane() {
		t.Errorf("a new session took lane %d, want the one with the fewest sessions, %d", w.Lane(), writers[4].Lane())
	}
}

func TestAppendKeepsLargeAndGathersSmall(t *testing.T) {
	s := newSimServer(1)
	s.up = false
	d := newDispatcher(t, s, Options{})
	w := d.NewWriter("w", nil)
	for range 1000 {
		put(t, w, "t v=1i\n")
	}
	w.lane.freeSpare() // it is for the next read, and holds no record
	if got, want := d.budget.Used(), blockCost(d.BlockSize()); got != want {
		t.Errorf("1,000 small records cost %d bytes, want one block: %d", got, want)
	}
	large := bytes.Repeat([]byte("x"), 300<<10)
	w.AppendLarge(large, 1)
	if got, want := d.budget.Used(), blockCost(d.BlockSize())+int64(cap(large)); got != want {
		t.Errorf("with a large record: %d bytes, want %d", got, want)
	}
}

// What only passes through is read in larger pieces. Where it cannot pass, reads of up to a
// quarter of a block share one, and so do small ones of many writers; while it can, they are
// not copied.
func TestPassingBlocks(t *testing.T) {
	kept := newDispatcher(t, away{}, Options{})
	d := newDispatcher(t, away{}, Options{AtMostOnce: true})
	if got, want := d.BlockSize(), 4*kept.BlockSize(); got != want {
		t.Errorf("a block of %d bytes, want %d", got, want)
	}
	for name, d := range map[string]*Dispatcher{"kept": kept, "passing": d} {
		w := d.NewWriter("w", nil)
		row := "t v=1i" + strings.Repeat(" ", d.BlockSize()/4-7) + "\n"
		for range 40 {
			put(t, w, row)
		}
		w.lane.freeSpare()
		if got, most := d.budget.Used(), 12*blockCost(d.BlockSize()); got > most {
			t.Errorf("%s: 40 reads that fill a quarter of a block cost %d bytes, want at most %d", name, got, most)
		}
	}
	for name, passing := range map[string]bool{"kept": false, "passing": true} {
		d := newDispatcher(t, away{}, Options{AtMostOnce: passing})
		one, other := d.NewWriter("one", nil), d.NewWriter("other", nil)
		row := "t v=1i" + strings.Repeat(" ", 93) + "\n"
		const rows = 20_000
		for range rows {
			put(t, one, row)
			put(t, other, row)
		}
		one.lane.freeSpare()
		if got, most := d.budget.Used(), int64(2*2*rows*len(row)); got > most {
			t.Errorf("%s: %d rows of two writers in turns cost %d bytes, want at most %d", name, 2*rows, got, most)
		}
	}

	bubble.Test(t, func(t *testing.T) {
		d := newDispatcher(t, sink{}, Options{AtMostOnce: true})
		w := d.NewWriter("w", nil)
		put(t, w, "t v=1i\n")
		synctest.Wait() // the lane has a connection and nothing is pending
		b := w.TryBuffer()
		n := copy(b.Bytes(), strings.Repeat(" ", maxGathered)+"\n")
		w.Append(b, n, 1)
		w.lane.mu.Lock()
		defer w.lane.mu.Unlock()
		if last := w.lane.j.blocks[len(w.lane.j.blocks)-1]; last != b {
			t.Errorf("%d bytes were copied, although nothing was pending", n)
		}
	})
}

// A block that one lane keeps for its next read must not be missing to a session on another
// that waits for memory.
func TestSpareBlockIsForWhoWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.up = false
		d := newDispatcher(t, s, Options{Lanes: 2, Memory: 1 << 20})
		one, other := d.NewWriter("one", nil), d.NewWriter("other", nil)
		if one.lane == other.lane {
			t.Fatal("both writers are on one lane")
		}
		take := func(w *Writer) (blocks []*Block) {
			for b := w.TryBuffer(); b != nil; b = w.TryBuffer() {
				blocks = append(blocks, b)
			}
			return blocks
		}
		// One takes its guarantee and all that is for whoever comes first, other its guarantee.
		blocks := take(one)
		if take(other); len(blocks) < 3 {
			t.Fatalf("only %d blocks could be had", len(blocks))
		}
		wait := func() chan *Block {
			got := make(chan *Block, 1)
			go func() {
				b, err := other.Buffer(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- b
			}()
			synctest.Wait()
			return got
		}

		one.Return(blocks[0])
		if got := one.TryBuffer(); got != blocks[0] {
			t.Error("the block that was given back is not kept for the next read")
		}
		one.Return(blocks[0])
		if got := wait(); len(got) != 1 {
			t.Error("a session waits for memory while another lane keeps some for its next read")
		}
		got := wait()
		if len(got) != 0 {
			t.Fatal("there is more memory than expected")
		}
		one.Return(blocks[1])
		synctest.Wait()
		if len(got) != 1 {
			t.Error("a block is kept for the next read while a session waits for memory")
		}
	})
}

func TestAppendDoesNotAllocate(t *testing.T) {
	d := newDispatcher(t, sink{}, Options{})
	w := d.NewWriter("w", nil)
	record := []byte("t v=1i\n")
	n := testing.AllocsPerRun(1000, func() {
		b := w.TryBuffer()
		w.Append(b, copy(b.Bytes(), record), 1)
	})
	if n != 0 {
		t.Errorf("%v allocations for each append", n)
	}
}

// sink is a Source whose connections forget everything.
type sink struct{}

func (sink) Acquire(context.Context) (Conn, error) {
	return &sinkConn{done: make(chan struct{})}, nil
}
func (s sink) AcquireAddr(ctx context.Context, _ string) (Conn, error) { return s.Acquire(ctx) }
func (sink) Witness(Conn) Witness                                      { return sink{} }
func (sink) Gone() bool                                                { return false }
func (sink) Release()                                                  {}
func (sink) Some() bool                                                { return true }
func (sink) Alive(context.Context) bool                                { return true }
func (sink) Prove(context.Context, string) error                       { return nil }
func (sink) ProveSoon(context.Context, string) error                   { return nil }
func (sink) Hurry(int, time.Duration)                                  {}

type sinkConn struct {
	once sync.Once
	end  upstream.End
	done chan struct{}
}

func (c *sinkConn) TryWrite(p []byte) (int, error) { return len(p), nil }
func (c *sinkConn) Write(p []byte) (int, error)    { return len(p), nil }
func (c *sinkConn) Done() <-chan struct{}          { return c.done }
func (c *sinkConn) End() upstream.End              { return c.end }
func (c *sinkConn) Addr() string                   { return "sink:9009" }
func (c *sinkConn) Pings() int                     { return 0 }
func (c *sinkConn) Unacked() (int, error)          { return 0, nil }
func (c *sinkConn) Discard()                       { c.once.Do(func() { close(c.done) }) }
func (c *sinkConn) CloseWrite() error {
	c.once.Do(func() {
		c.end = upstream.End{AfterHalfClose: true}
		close(c.done)
	})
	return nil
}

func BenchmarkAppend(b *testing.B) {
	d := newDispatcher(b, sink{}, Options{AtMostOnce: true}) // nothing waits for the settle time
	w := d.NewWriter("w", nil)
	record := []byte("weather,city=Oslo temperature=3.5,humidity=81i 1700000000000000000\n")
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		block, err := w.Buffer(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		w.Append(block, copy(block.Bytes(), record), 1)
	}
}

// TestSlowClose has a server take its time from our FIN to its own, as one does that
// makes tables, and one that never gets there.
func TestSlowClose(t *testing.T) {
	for name, c := range map[string]struct {
		busy   time.Duration
		settle time.Duration // how long all of it takes, at most
		again  bool
	}{
		"soon enough": {busy: 8 * time.Minute, settle: 17 * time.Minute},
		"too late":    {busy: 15 * time.Minute, settle: 45 * time.Minute, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSimServer(1)
				rejects := &memoryRejects{}
				d := newDispatcher(t, s, Options{Lanes: 1, Rejects: rejects, ConfirmInterval: time.Second})
				w := d.NewWriter("w", nil)
				settled := d.lanes[0].progress.wait()
				put(t, w, "t n=0i 0\n")
				<-settled // and the path is known
				put(t, w, "t n=1i 1\n", "t n=2i 2\n")
				s.change(func() { s.busy = c.busy })
				ctx, cancel := context.WithTimeout(t.Context(), c.settle)
				defer cancel()
				if left, _ := d.Drain(ctx); left != 0 {
					t.Errorf("%d records left after %v", left, c.settle)
				}
				d.Close()
				s.mu.Lock()
				defer s.mu.Unlock()
				if again := len(s.parsed) > 3; again != c.again {
					t.Errorf("the server read %d records, sent again: want %v", len(s.parsed), c.again)
				}
				if n := len(rejects.all()); n != 0 {
					t.Errorf("%d records set aside, want none", n)
				}
			})
		})
	}
}

// TestDrainSeesWhatCameJustBefore has Drain come when lanes are just about to sleep
// and have not been told of the last records yet: both wake them, in either order.
func TestDrainSeesWhatCameJustBefore(t *testing.T) {
	for range 500 { // what it is about takes some dozen tries, and two processors
		d := newDispatcher(t, sink{}, Options{Lanes: 1, AtMostOnce: true, Settle: 1})
		d.paths.mu.Lock() // so that nothing takes time
		e := newPathEntry()
		e.path, e.ok = path{resets: true}, true
		d.paths.known["sink:9009"] = e
		d.paths.mu.Unlock()
		put(t, d.NewWriter("w", nil), "t n=1i 1\n")
		if left, _ := d.Drain(t.Context()); left != 0 {
			t.Fatalf("%d records left", left)
		}
		if n := testutil.ToFloat64(d.m.uncertain); n != 0 {
			t.Fatalf("%v records uncertain", n)
		}
	}
}

// TestWalk has more records than are looked through at once.
func TestWalk(t *testing.T) {
	d := newDispatcher(t, away{}, Options{Lanes: 1, Rejects: &memoryRejects{}})
	l, w := d.lanes[0], d.NewWriter("w", nil)
	all := 0
	for l.unsettled() < 50_000 || l.j.end < 3*walkAtOnce {
		b, err := w.Buffer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n, records := 0, 0
		for n < len(b.Bytes())-100 {
			n += copy(b.Bytes()[n:], goodRow("t", all))
			records++
			all++
		}
		w.Append(b, n, records)
	}
	want := 0
	l.walk(0, l.j.end, func(_, _ int64, _ *Writer, record []byte) {
		if string(record) != goodRow("t", want) {
			t.Fatalf("record %d is %q", want, record)
		}
		want++
	})
	if want != all {
		t.Errorf("%d of %d records were looked at", want, all)
	}
}
