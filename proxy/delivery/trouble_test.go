package delivery

import (
	"testing"
	"time"
)

// TestContradiction has a record that is refused in a segment and accepted alone, always.
func TestContradiction(t *testing.T) {
	o := Options{RetryBase: time.Second, RetryMax: 10 * time.Second}
	var x trouble
	for n, want := range []time.Duration{0, 1, 2, 4, 8, 10, 10} {
		x.contradicted(7, o)
		if p := x.pause(o); p < want*time.Second*7/10 || p > want*time.Second*13/10 {
			t.Errorf("a pause of %v the %dth time, want some %d s", p, n+1, want)
		}
		x.refused(3, 9)
		x.accepted(7) // what is before it
	}
	x.contradicted(8, o)
	if p := x.pause(o); p > 0 {
		t.Errorf("a pause of %v for another record", p)
	}
}
