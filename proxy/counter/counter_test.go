package counter

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

func TestInt(t *testing.T) {
	var c Int
	f := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "x", Help: "x"}, c.Value)
	c.Add(41)
	c.Add(1)
	if c.Load() != 42 || c.Value() != 42 {
		t.Errorf("got %d and %v, want 42", c.Load(), c.Value())
	}
	if got := testutil.ToFloat64(f); got != 42 {
		t.Errorf("Prometheus is shown %v, want 42", got)
	}
}
