package upstream

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the series of one pool. All label values are there from the start.
type Metrics struct {
	Connections      *connections           // by state: idle, acquired, connecting, closing
	Handshakes       *prometheus.CounterVec // by result
	HandshakeSeconds prometheus.Histogram   // of successful ones, without the probation
	Retries          prometheus.Counter     // attempts that followed a failed one
	ClosedIdle       prometheus.Counter     // idle connections that the server closed
}

// NewMetrics creates the series and registers them with reg, unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Connections: &connections{},
		Handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_handshakes_total",
			Help: "Attempts to get an authenticated connection to one QuestDB address, by how they ended.",
		}, []string{"result"}),
		HandshakeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "questdb_ilp_proxy_handshake_seconds",
			Help:    "Time from the dial to the signature written, of successful handshakes.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
		}),
		Retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_retries_total",
			Help: "Attempts to connect to QuestDB that followed a failed one.",
		}),
		ClosedIdle: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_upstream_closed_idle_total",
			Help: "Idle connections that QuestDB closed: its restart or its idle timeout. No failure.",
		}),
	}
	for _, k := range handshakeResults {
		m.Handshakes.WithLabelValues(string(k))
	}
	if reg != nil {
		reg.MustRegister(m.Connections, m.Handshakes, m.HandshakeSeconds, m.Retries, m.ClosedIdle)
	}
	return m
}

func (m *Metrics) handshake(k kind) { m.Handshakes.WithLabelValues(string(k)).Inc() }

// connections is how many there are in each state. It collects all of them at one
// moment: one that goes from a state to another is never in both, so the sum is right.
type connections struct {
	mu                                  sync.Mutex
	idle, acquired, connecting, closing int
}

var connectionsDesc = prometheus.NewDesc("questdb_ilp_proxy_upstream_connections",
	"Connections to QuestDB: ready (idle), in use (acquired), being made (connecting), being ended by the proxy (closing).",
	[]string{"state"}, nil)

func (c *connections) set(idle, acquired, connecting, closing int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.acquired, c.connecting, c.closing = idle, acquired, connecting, closing
}

// Describe is for a [prometheus.Collector].
func (c *connections) Describe(ch chan<- *prometheus.Desc) { ch <- connectionsDesc }

// Collect is for a [prometheus.Collector].
func (c *connections) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	now := map[string]int{"idle": c.idle, "acquired": c.acquired, "connecting": c.connecting, "closing": c.closing}
	c.mu.Unlock()
	for state, n := range now {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(n), state)
	}
}
