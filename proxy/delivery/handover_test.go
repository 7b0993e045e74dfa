package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestNeighbourOfManyTables has a writer that sends more refused records than can be looked
// for, each of a table of its own, so that no table comes into quarantine; its neighbour on
// the lane must not wait for it. It is there still, or goes at once.
func TestNeighbourOfManyTables(t *testing.T) {
	for _, goes := range []bool{false, true} {
		t.Run(fmt.Sprint("goes ", goes), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := newField(t, Options{Lanes: 2, ConfirmInterval: time.Second})
				good, bad := f.d.NewWriter("10.0.0.1:5", nil), f.d.NewWriter("10.0.0.9:5", nil)
				f.together(good, bad)
				f.along(good, 100*time.Millisecond, func(n int) string { return goodRow("t", n) })
				f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
				third := f.d.NewWriter("10.0.0.3:5", nil)
				f.together(good, third)
				f.along(third, 100*time.Millisecond, func(n int) string { return goodRow("third", n) })
				f.pause(5 * time.Second)
				refused := 0
				burst := func() {
					var records []string
					for range 100 {
						records = append(records, badRow(fmt.Sprint("own", refused), 0, refused))
						refused++
					}
					f.send(bad, records...)
				}
				woken := make(chan struct{}, 1)
				bad.OnDemoted(func() { woken <- struct{}{} })
				f.wg.Go(func() { // its session
					for range 40 {
						if burst(); !goes {
							f.pause(100 * time.Millisecond)
						}
					}
					if goes {
						bad.Close()
						return
					}
					<-woken // it has nothing to send any more, and stays
					_ = bad.Ready(f.ctx)
				})
				f.neighbourGoesOn(good, 40*time.Second, 5*time.Second)
				f.end()
				t.Logf("%d refused records", refused)
			})
		})
	}
}

// TestFloodOfIllegalNames has a writer send, at once, more records for tables with names that
// QuestDB does not allow than the lane apart has memory for, each for another one.
func TestFloodOfIllegalNames(t *testing.T) {
	t.Run("character", func(t *testing.T) { floodOfNames(t, "own:%d", 50_000) })
	t.Run("length", func(t *testing.T) { floodOfNames(t, strings.Repeat("x", 300)+"%d", 10_000) })
}

func floodOfNames(t *testing.T, format string, records int) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 2, ConfirmInterval: time.Second, Memory: 8 << 20})
		good, bad := f.d.NewWriter("10.0.0.1:5", nil), f.d.NewWriter("10.0.0.9:5", nil)
		f.together(good, bad)
		f.along(good, 100*time.Millisecond, func(n int) string { return goodRow("t", n) })
		f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
		f.pause(5 * time.Second)
		f.wg.Go(func() {
			for n := range records / 100 {
				var some []string
				for i := range 100 {
					some = append(some, badRow(fmt.Sprintf(format, 100*n+i), 0, 100*n+i))
				}
				f.send(bad, some...)
			}
			bad.Close()
		})
		f.neighbourGoesOn(good, 20*time.Second, 10*time.Second)
		f.end()
		t.Logf("%d records were not tried", f.bulk())
	})
}

// TestHandOverOfMuch has a writer send more refused records than the lane apart may take from
// writers, each of a table of its own.
func TestHandOverOfMuch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 2, ConfirmInterval: time.Second, Memory: 16 << 20})
		good, bad := f.d.NewWriter("10.0.0.1:5", nil), f.d.NewWriter("10.0.0.9:5", nil)
		third := f.d.NewWriter("10.0.0.3:5", nil)
		f.together(good, bad)
		f.together(good, third)
		f.along(good, 100*time.Millisecond, func(n int) string { return goodRow("t", n) })
		f.along(third, 100*time.Millisecond, func(n int) string { return goodRow("third", n) })
		f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
		f.pause(5 * time.Second)
		const size = 8 << 10 // bytes of a record, or some more
		long := strings.Repeat("x", size)
		f.wg.Go(func() {
			for n := range int(f.d.apart.share.most * 3 / 2 / size) {
				f.send(bad, badRow(fmt.Sprint("own", n, long), 0, n))
				f.pause(5 * time.Millisecond)
			}
			bad.Close()
		})
		f.neighbourGoesOn(good, 30*time.Second, 30*time.Second)
		f.end()
	})
}

// neighbourGoesOn checks, for a while, that nothing on the lane of w waits for longer than usual once so much time has passed.
func (f *field) neighbourGoesOn(w *Writer, after, during time.Duration) {
	f.t.Helper()
	f.pause(after)
	var worst time.Duration
	for began := time.Now(); time.Since(began) < during; f.pause(100 * time.Millisecond) {
		if at, ok := w.lane.oldest(); ok {
			worst = max(worst, time.Since(at))
		}
	}
	if f.t.Logf("the neighbour waited for at most %v after %v", worst, after); worst > 3*time.Second {
		f.t.Errorf("the neighbour waits for up to %v still", worst)
	}
}

// together puts w on the lane of other.
func (f *field) together(other, w *Writer) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	w.lane.sessions--
	other.lane.sessions++
	w.lane = other.lane
}

// TestHandOverWhileDraining: the lane apart ends at once in a drain if it has nothing to do,
// and what is handed over to it then would stay there.
func TestHandOverWhileDraining(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newField(t, Options{Lanes: 2, ConfirmInterval: time.Second})
		good, bad := f.d.NewWriter("10.0.0.1:5", nil), f.d.NewWriter("10.0.0.9:5", nil)
		f.together(good, bad)
		for n := range 100 {
			f.send(good, goodRow("t", n))
			f.send(bad, badRow(fmt.Sprint("own", n), 0, n))
		}
		good.Close()
		bad.Close()
		f.stop()
		f.drain()
	})
}
