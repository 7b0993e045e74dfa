package delivery

import (
	"fmt"
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
				if f.d.mu.Lock(); bad.lane != good.lane {
					bad.lane.sessions--
					good.lane.sessions++
					bad.lane = good.lane
				}
				f.d.mu.Unlock()
				f.along(good, 100*time.Millisecond, func(n int) string { return goodRow("t", n) })
				f.along(f.d.NewWriter("10.0.0.2:5", nil), 100*time.Millisecond, func(n int) string { return goodRow("other", n) })
				f.pause(5 * time.Second)
				refused := 0
				burst := func() {
					var records []string
					for range 100 {
						records = append(records, badRow(fmt.Sprint("own..", refused), 0, refused))
						refused++
					}
					f.send(bad, records...)
				}
				var worst time.Duration
				for n := range 400 {
					switch {
					case !goes && n < 100:
						burst()
					case n == 0:
						for range 50 {
							burst()
						}
						bad.Close()
					}
					f.pause(100 * time.Millisecond)
					if at, ok := good.lane.oldest(); ok && n > 200 {
						worst = max(worst, time.Since(at))
					}
				}
				if t.Logf("%d refused records; the neighbour waited for at most %v after 20 s", refused, worst); worst > 3*time.Second {
					t.Errorf("the neighbour waits for up to %v still", worst)
				}
				f.end()
			})
		})
	}
}
