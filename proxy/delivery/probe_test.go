package delivery

import (
	"testing"
	"time"
)

// TestProbe has the same records be held in the same order again and again: each is tried now and then. If few come,
// or fewer than before, one is tried all the same.
func TestProbe(t *testing.T) {
	now := time.Now()
	for _, every := range []time.Duration{time.Second, 7 * time.Second, 30 * time.Second, time.Minute} {
		p := probe{began: now}
		tried := map[int]int{}
		for batch := range 3600 {
			for n := range 6 {
				if p.due(now.Add(time.Duration(batch)*every + time.Duration(n)*time.Millisecond)) {
					tried[n]++
				}
			}
		}
		for n := range 6 {
			if tried[n] == 0 {
				t.Errorf("a batch each %v: record %d of 6 was never tried: %v", every, n, tried)
			}
		}
	}
	p := probe{began: now, held: 1_000_000}
	if p.due(now.Add(probeEvery)); !p.due(now.Add(2 * probeEvery)) {
		t.Error("none was tried in 20 s")
	}
	if p = (probe{began: now}); !p.due(now.Add(time.Minute)) {
		t.Error("the first one in a minute was not tried")
	}
}
