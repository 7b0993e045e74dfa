package proxy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"questdb-ilp-proxy/proxy/counter"
)

// Reasons for which a session ends, as the metric's label names them.
const (
	endByWriter  = "writer"
	endIdle      = "idle"
	endError     = "error"
	endDrain     = "drain"
	endNoMemory  = "no_memory"
	endRejected  = "rejected"
	acceptFailed = "accept_failed"
	notAllowed   = "not_allowed"
	tooMany      = "too_many"
)

// Metrics are what this package counts. Every series exists from the start.
type Metrics struct {
	records, bytes                counter.Int // of each read
	stamped                       prometheus.Counter
	datagrams, datagramsDropped   prometheus.Counter
	fragments, fragmentBytes      prometheus.Counter
	sessions                      prometheus.Gauge
	waiting                       prometheus.Gauge
	accepted                      prometheus.Counter
	ended                         *prometheus.CounterVec
	refused                       *prometheus.CounterVec
	fragmentMemory, fragmentLimit prometheus.Gauge
}

// NewMetrics registers this package's series with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	newCounter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "questdb_ilp_proxy_" + name, Help: help})
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: "questdb_ilp_proxy_" + name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "questdb_ilp_proxy_" + name, Help: help})
	}
	m := &Metrics{
		stamped:          newCounter("records_stamped_total", "Records that came without a timestamp and were given one (ILP_STAMP)."),
		datagrams:        newCounter("datagrams_received_total", "UDP datagrams read, those refused included."),
		datagramsDropped: newCounter("datagrams_dropped_total", "UDP datagrams that the kernel dropped because its queue was full, or that were left there at the end."),
		fragments:        newCounter("fragments_total", "Records that their writer began and did not end; they are dropped, as QuestDB itself drops them."),
		fragmentBytes:    newCounter("fragment_bytes_total", "Bytes of those fragments."),
		sessions:         gauge("sessions", "Writers connected now."),
		waiting:          gauge("sessions_waiting", "Writers that wait because ILP_MAX_CLIENTS are connected, and those not yet accepted by the listener not counted."),
		accepted:         newCounter("sessions_total", "Writers that were accepted."),
		ended: vec("sessions_ended_total", "Sessions that ended, by reason.",
			"reason", endByWriter, endIdle, endError, endDrain, endNoMemory, endRejected),
		refused: vec("connections_refused_total", "Connections that did not become a session, by reason.",
			"reason", notAllowed, tooMany, acceptFailed),
		fragmentMemory: gauge("fragment_memory_bytes", "Bytes of memory that records hold whose end was not read yet."),
		fragmentLimit:  gauge("fragment_memory_limit_bytes", "Bytes of memory that such records may hold."),
	}
	m.records.Show(f, "questdb_ilp_proxy_records_received_total", "Whole records read from writers, those rejected included.")
	m.bytes.Show(f, "questdb_ilp_proxy_bytes_received_total", "Bytes read from writers.")
	return m
}
