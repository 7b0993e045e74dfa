package delivery

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

func TestLaneKeepsOrderOverFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{killAfter: 1009} // a prime: cuts records everywhere
		d := newDispatcher(t, s, Options{Memory: 1 << 20})
		w := d.NewWriter("w")
		var want []byte
		for i := range 1000 {
			r := fmt.Sprintf("t v=%di\n", i)
			want = append(want, r...)
			put(t, w, r)
			if i%50 == 0 {
				time.Sleep(time.Second)
			}
		}
		if left := d.Drain(t.Context()); left != 0 {
			t.Fatalf("%d records left", left)
		}
		if got := s.whole(); !bytes.Equal(got, want) {
			t.Errorf("the server has\n%.200q\nwant\n%.200q", got, want)
		}
		if got := testutil.ToFloat64(d.m.records); got != 1000 {
			t.Errorf("%v records counted as written, want 1000", got)
		}
	})
}

func TestLaneWaitsForUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{down: make(chan struct{})}
		d := newDispatcher(t, s, Options{})
		w := d.NewWriter("w")
		put(t, w, "t v=1i\n")
		synctest.Wait()
		if d.Left() != 1 || d.lanesIn(laneConnecting) != 1 {
			t.Fatalf("%d records left, %d lanes connecting; want 1 and 1", d.Left(), d.lanesIn(laneConnecting))
		}
		if at, ok := d.Oldest(); !ok || at.IsZero() {
			t.Error("the age of the oldest record is not known")
		}
		close(s.down)
		synctest.Wait()
		if d.Left() != 0 || string(s.whole()) != "t v=1i\n" {
			t.Errorf("%d records left, the server has %q", d.Left(), s.whole())
		}
	})
}

func TestLaneWaitsForReaderWithoutHoldingUpSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{window: 10}
		d := newDispatcher(t, s, Options{})
		w := d.NewWriter("w")
		for i := range 20 {
			put(t, w, fmt.Sprintf("t v=%02di\n", i)) // returns although the server does not read
		}
		synctest.Wait()
		if d.lanesIn(laneBlocked) != 1 {
			t.Error("no lane says that it is blocked")
		}
		s.conn(0).open(1 << 20)
		synctest.Wait()
		if d.Left() != 0 {
			t.Errorf("%d records left", d.Left())
		}
	})
}

func TestLaneReplacesIdleConnectionQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{}
		d := newDispatcher(t, s, Options{})
		w := d.NewWriter("w")
		put(t, w, "t v=1i\n")
		synctest.Wait()
		s.conn(0).kill(nil)
		synctest.Wait()
		put(t, w, "t v=2i\n")
		synctest.Wait()
		if got := string(s.whole()); got != "t v=1i\nt v=2i\n" {
			t.Errorf("the server has %q", got)
		}
		if n := testutil.ToFloat64(d.m.failures); n != 0 {
			t.Errorf("%v failures counted for an idle connection", n)
		}
	})
}

func TestLaneBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{killAfter: 1}
		d := newDispatcher(t, s, Options{RetryBase: 100 * time.Millisecond, RetryMax: time.Second})
		w := d.NewWriter("w")
		put(t, w, "t v=1i\n")
		time.Sleep(time.Minute)
		synctest.Wait()
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n < 40 || n > 90 { // 0.1+0.2+0.4+0.8 s, then one a second, 20 % jitter
			t.Errorf("%d connections used up in a minute", n)
		}
	})
}

func TestDrainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{down: make(chan struct{})}
		d := newDispatcher(t, s, Options{})
		put(t, d.NewWriter("w"), "t v=1i\n", "t v=2i\n")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if left := d.Drain(ctx); left != 2 {
			t.Errorf("%d records left, want 2", left)
		}
	})
}

func TestSessionsSpreadOverLanes(t *testing.T) {
	d := newDispatcher(t, &fakeServer{}, Options{Lanes: 3})
	count := map[int]int{}
	var writers []*Writer
	for range 6 {
		w := d.NewWriter("w")
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
	if w := d.NewWriter("w"); w.Lane() != writers[4].Lane() {
		t.Errorf("a new session took lane %d, want the one with the fewest sessions, %d", w.Lane(), writers[4].Lane())
	}
}

func TestAppendKeepsLargeAndGathersSmall(t *testing.T) {
	s := &fakeServer{down: make(chan struct{})}
	d := newDispatcher(t, s, Options{})
	w := d.NewWriter("w")
	for range 1000 {
		put(t, w, "t v=1i\n")
	}
	if got, want := d.budget.Used(), blockCost(d.BlockSize()); got != want {
		t.Errorf("1,000 small records cost %d bytes, want one block: %d", got, want)
	}
	large := bytes.Repeat([]byte("x"), 300<<10)
	w.AppendLarge(large)
	if got, want := d.budget.Used(), blockCost(d.BlockSize())+int64(cap(large)); got != want {
		t.Errorf("with a large record: %d bytes, want %d", got, want)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	d := newDispatcher(t, newSink(), Options{})
	w := d.NewWriter("w")
	record := []byte("t v=1i\n")
	n := testing.AllocsPerRun(1000, func() {
		b := w.TryBuffer()
		w.Append(b, copy(b.Bytes(), record), 1)
	})
	if n != 0 {
		t.Errorf("%v allocations for each append", n)
	}
}

// fakeSink is a Source and its only connection, which forgets everything.
type fakeSink struct{ *fakeConn }

func newSink() fakeSink { return fakeSink{&fakeConn{done: make(chan struct{})}} }

func (s fakeSink) Acquire(context.Context) (Conn, error) { return s, nil }
func (s fakeSink) TryWrite(p []byte) (int, error)        { return len(p), nil }
func (s fakeSink) Write(p []byte) (int, error)           { return len(p), nil }

func BenchmarkAppend(b *testing.B) {
	d := newDispatcher(b, newSink(), Options{})
	w := d.NewWriter("w")
	record := []byte("weather,city=Oslo temperature=3.5,humidity=81i 1700000000000000000\n")
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		block := w.TryBuffer()
		w.Append(block, copy(block.Bytes(), record), 1)
	}
}
