package rejected

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what this package counts. Every series exists from the start.
type Metrics struct {
	written  prometheus.Counter
	writable prometheus.Gauge
}

// NewMetrics registers this package's series with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		written: f.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_rejected_records_written_total",
			Help: "Records written to the file of rejected records.",
		}),
		writable: f.NewGauge(prometheus.GaugeOpts{
			Name: "questdb_ilp_proxy_rejected_file_writable",
			Help: "0 while the file of rejected records cannot be written; 1 otherwise, also if there is none.",
		}),
	}
	m.writable.Set(1)
	return m
}
