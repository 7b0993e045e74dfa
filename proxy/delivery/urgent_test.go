package delivery

import (
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestProofsAreUrgentWhereSomebodyWaits has nobody wait for what settles, a writer for the
// memory of it, and the end of the proxy.
func TestProofsAreUrgentWhereSomebodyWaits(t *testing.T) {
	for _, c := range []struct{ starved, drained bool }{{}, {starved: true}, {drained: true}} {
		bubble.Test(t, func(t *testing.T) {
			s := &counted{simServer: newSimServer(1)}
			d := newDispatcher(t, s, Options{Lanes: 1, Memory: 1 << 20, MaxRecord: 4 << 10, ConfirmInterval: 100 * time.Millisecond})
			defer d.Close()
			w := d.NewWriter("w", nil)
			settled := d.lanes[0].progress.wait()
			put(t, w, "t n=0i 0\n")
			<-settled // and the path is known
			s.now.Store(0)
			s.soon.Store(0)
			writes := 1
			if c.starved {
				writes = 2000
			}
			record := "t s=\"" + strings.Repeat("x", 2000) + "\" 1\n"
			for range writes {
				put(t, w, record)
			}
			if c.drained {
				if left, _ := d.Drain(t.Context()); left != 0 {
					t.Errorf("%d records left", left)
				}
			}
			for settled := d.lanes[0].progress.wait(); d.Left() > 0; settled = d.lanes[0].progress.wait() {
				<-settled
			}
			now, soon := s.now.Load(), s.soon.Load()
			want := [2]int64{0, 2}
			if c.drained {
				want = [2]int64{2, 0}
			}
			if c.starved && now == 0 || !c.starved && [2]int64{now, soon} != want {
				t.Errorf("%+v: %d proofs at once, %d soon", c, now, soon)
			}
		})
	}
}
