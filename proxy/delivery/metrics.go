package delivery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"questdb-ilp-proxy/proxy/counter"
	"questdb-ilp-proxy/proxy/rejected"
)

// Metrics are what this package counts. Every series exists from the start.
type Metrics struct {
	records, bytes                         counter.Int // of each write
	blocked, failures, retries             prometheus.Counter
	settledRecords, settledBytes, replayed prometheus.Counter
	uncertain, demoted                     prometheus.Counter
	rejected                               *prometheus.CounterVec
	settleSeconds, closeSeconds            prometheus.Histogram
	paths                                  *prometheus.GaugeVec
	reg                                    prometheus.Registerer
}

// NewMetrics registers this package's series with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	newCounter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "questdb_ilp_proxy_" + name, Help: help})
	}
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: "questdb_ilp_proxy_" + name, Help: help, Buckets: buckets})
	}
	m := &Metrics{
		reg:            reg,
		blocked:        newCounter("upstream_blocked_total", "Times an upstream connection took no more bytes at once, so that a lane had to wait for QuestDB to read."),
		failures:       newCounter("lane_failures_total", "Upstream connections that ended while a lane had records on them."),
		retries:        newCounter("lane_retries_total", "Pauses of a lane before it went on after a failure."),
		settledRecords: newCounter("records_settled_total", "Records that QuestDB is known to have committed."),
		settledBytes:   newCounter("bytes_settled_total", "Bytes of those records."),
		replayed:       newCounter("records_replayed_total", "Records that have to be written again because their connection failed before they were settled."),
		uncertain:      newCounter("records_uncertain_total", "Records whose fate is unknown: their connection failed, and ILP_DELIVERY=at-most-once forbids to write them again."),
		demoted:        newCounter("writers_demoted_total", "Writers moved to the lane for those whose records are refused again and again."),
		rejected: f.NewCounterVec(prometheus.CounterOpts{Name: "questdb_ilp_proxy_records_rejected_total",
			Help: "Records that were not passed on, by reason."}, []string{"reason"}),
		settleSeconds: histogram("settle_seconds", "Seconds from accepting the oldest record of a segment until the segment was settled.",
			.5, .75, 1, 2, 4, 6, 8, 12, 20, 40, 60, 120, 300, 600),
		closeSeconds: histogram("close_seconds", "Seconds from half-closing an upstream connection until the server's FIN.",
			.001, .005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
		paths: f.NewGaugeVec(prometheus.GaugeOpts{Name: "questdb_ilp_proxy_path",
			Help: "1 for what the path check found: resets (refused records are seen), hidden (something between hides them) or skips_malformed."},
			[]string{"server", "kind"}),
	}
	m.records.Show(f, "questdb_ilp_proxy_records_written_total", "Records written to upstream connections, those written again included.")
	m.bytes.Show(f, "questdb_ilp_proxy_bytes_written_total", "Bytes written to upstream connections, without padding.")
	for _, reason := range rejected.Reasons() {
		m.rejected.WithLabelValues(reason)
	}
	return m
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
	gauge("journal_records", "Records accepted and not yet settled.", nil,
		func() float64 { return float64(d.Left()) })
	gauge("journal_waiting_sessions", "Sessions that do not read because the journals are full.", nil,
		func() float64 { return float64(d.budget.Waiting()) })
	gauge("rejected_unsaved", "Rejected records that could not be saved yet; they stay in memory.", nil,
		func() float64 { return float64(d.Unsaved()) })
	gauge("oldest_unsettled_seconds", "Age of the oldest record that is not settled; 0 if there is none.", nil, func() float64 {
		if at, ok := d.Oldest(); ok {
			return time.Since(at).Seconds()
		}
		return 0
	})
	for p := range phases {
		gauge("segments", "Segments by state.", prometheus.Labels{"state": p.String()},
			func() float64 { return float64(d.segmentsIn(p)) })
	}
	for s := range laneStates {
		gauge("lanes", "Lanes by what they do or wait for.", prometheus.Labels{"state": laneState(s).String()},
			func() float64 { return float64(d.lanesIn(laneState(s))) })
	}
}
