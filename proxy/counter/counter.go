// Package counter has counters that are cheap to count and can be read back, so that what metrics count need not be counted
// twice.
package counter

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"
)

// Value returns what c has counted; 0 if it cannot be read.
func Value(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return 0
	}
	return m.GetCounter().GetValue()
}

// An Int counts what happens with each read or write. It is a single word, so that several lie in one line of the processor's
// cache; a prometheus.Counter costs a writer of single rows a cache miss each, and as many again for its code. The zero value is
// ready.
type Int struct{ n atomic.Int64 }

// Add counts n more, which is not negative.
func (c *Int) Add(n int64) { c.n.Add(n) }

// Load returns what was counted.
func (c *Int) Load() int64 { return c.n.Load() }

// Value is Load as a float64, as Prometheus has all its values.
func (c *Int) Value() float64 { return float64(c.n.Load()) }

// Show registers a series with f that is what c has counted.
func (c *Int) Show(f promauto.Factory, name, help string) {
	f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, c.Value)
}
