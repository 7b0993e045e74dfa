package delivery

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what this package counts. Every series exists from the start.
type Metrics struct {
	records, bytes prometheus.Counter
	failures       prometheus.Counter
	retries        prometheus.Counter
	blocked        prometheus.Counter
	reg            prometheus.Registerer
}

// NewMetrics registers this package's series with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		reg: reg,
		records: f.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_records_written_total",
			Help: "Records written to upstream connections.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_bytes_written_total",
			Help: "Bytes written to upstream connections.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_lane_failures_total",
			Help: "Upstream connections that ended while a lane had records on them.",
		}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_lane_retries_total",
			Help: "Times a lane went on with another upstream connection after a failure.",
		}),
		blocked: f.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_upstream_blocked_total",
			Help: "Times an upstream connection took no more bytes at once, so that a lane had to wait for QuestDB to read.",
		}),
	}
}

// observe registers the series that are read from d when they are asked for.
func (m *Metrics) observe(d *Dispatcher) {
	f := promauto.With(m.reg)
	gauge := func(name, help string, labels prometheus.Labels, v func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "questdb_ilp_proxy_" + name, Help: help, ConstLabels: labels}, v)
	}
	gauge("journal_bytes", "Bytes of memory that the journals hold.", nil,
		func() float64 { return float64(d.budget.Used()) })
	gauge("journal_limit_bytes", "Bytes of memory that the journals may hold at most.", nil,
		func() float64 { return float64(d.budget.Limit()) })
	gauge("journal_records", "Records accepted and not yet written upstream.", nil,
		func() float64 { return float64(d.Left()) })
	gauge("journal_waiting_sessions", "Sessions that do not read because the journals are full.", nil,
		func() float64 { return float64(d.budget.Waiting()) })
	for s := range laneStates {
		gauge("lanes", "Lanes by what they do or wait for.", prometheus.Labels{"state": laneState(s).String()},
			func() float64 { return float64(d.lanesIn(laneState(s))) })
	}
}
