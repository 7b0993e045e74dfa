package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestNothingOvertakesWhatAGivenUpConnectionHolds stops a server behind a relay, has a
// malformed record found among what it has not read, for which the lane gives up the
// connection, and lets the server go on at every moment around the next connection's.
func TestNothingOvertakesWhatAGivenUpConnectionHolds(t *testing.T) {
	for ms := 200; ms < 500; ms++ {
		bubble.Test(t, func(t *testing.T) {
			s := newSimServer(uint64(ms))
			s.relay = true
			d := newDispatcher(t, s, Options{Rejects: &memoryRejects{}, ConfirmInterval: 300 * time.Millisecond})
			w := d.NewWriter("w", nil)
			settled := d.lanes[0].progress.wait()
			put(t, w, "t n=0i 0\n")
			<-settled // then it is known that resets are hidden
			put(t, w, "t n=1i 1\n")
			s.change(func() {
				for len(s.parsed) < 2 {
					s.read.Wait()
				}
				s.paused = true
			})
			put(t, w, "t n=2i 2\n", "broken\n", "t n=3i 3\n")
			time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { s.change(func() { s.paused = false }) })
			if left, _ := d.Drain(t.Context()); left != 0 {
				t.Errorf("%d records left", left)
			}
			d.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			var last [4]int
			for i, r := range s.parsed {
				var n, at int
				if _, err := fmt.Sscanf(string(r), "t n=%di %d\n", &n, &at); err == nil {
					last[n] = i + 1
				}
			}
			if !slices.IsSorted(last[:]) || last[1] == 0 {
				t.Errorf("going on after %d ms: the last times that records 0 to 3 came are %v", ms, last)
			}
		})
	}
}
