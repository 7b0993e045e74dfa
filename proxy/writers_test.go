package proxy

import (
	"testing"
	"time"
)

func TestRateIsOfTheLastSeconds(t *testing.T) {
	begin := time.Now()
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	r := newRate(begin)
	for _, look := range []struct {
		at   float64
		n    int64
		want float64
	}{
		{0, 0, -1},         // no time has passed
		{1, 100, 100},      // since it connected
		{2, 200, 100},      // marks
		{3, 200, 200 / 3.}, // still over the time before the mark
		{4, 200, 0},        // marks: 200 at 2 s, 200 at 4 s
		{5, 500, 100},
		{100, 500, -1}, // nobody asked for long
		{102, 600, 50},
	} {
		if got := r.look(look.n, at(look.at)); got != look.want {
			t.Errorf("at %v s: %v, want %v", look.at, got, look.want)
		}
	}
}
