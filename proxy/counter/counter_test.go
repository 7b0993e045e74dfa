package counter

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestValue(t *testing.T) {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "x", Help: "x"})
	if got := Value(c); got != 0 {
		t.Errorf("a new counter is %v", got)
	}
	c.Add(41)
	c.Inc()
	if got := Value(c); got != 42 {
		t.Errorf("got %v, want 42", got)
	}
}
