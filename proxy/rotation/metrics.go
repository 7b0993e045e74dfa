package rotation

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the series of one Watcher. All label values are there from the start.
type Metrics struct {
	Reloads *prometheus.CounterVec // by result: ok, failed
	Stale   prometheus.Gauge       // 1 while what is used is not what the files say
}

// NewMetrics creates the series and registers them with reg, unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "questdb_ilp_proxy_credential_reloads_total",
			Help: "Times the files of key and certificates were read again, by how that went.",
		}, []string{"result"}),
		Stale: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "questdb_ilp_proxy_credentials_stale",
			Help: "1 while the files of key and certificates are no good and earlier ones are used.",
		}),
	}
	for _, result := range []string{"ok", "failed"} {
		m.Reloads.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.Reloads, m.Stale)
	}
	return m
}

func (m *Metrics) succeeded() {
	m.Reloads.WithLabelValues("ok").Inc()
	m.Stale.Set(0)
}

func (m *Metrics) failed() {
	m.Reloads.WithLabelValues("failed").Inc()
	m.Stale.Set(1)
}
