package counter

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
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
	r := prometheus.NewRegistry()
	c.Show(promauto.With(r), "x", "x")
	c.Add(41)
	c.Add(1)
	if c.Load() != 42 || c.Value() != 42 {
		t.Errorf("got %d and %v, want 42", c.Load(), c.Value())
	}
	want := "# HELP x x\n# TYPE x counter\nx 42\n"
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "x"); err != nil {
		t.Error(err)
	}
}
