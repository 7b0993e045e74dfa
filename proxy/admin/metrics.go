package admin

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry that already has what client_golang tells of the Go runtime (go_*) and of the process
// (process_*: CPU seconds, memory, file descriptors; read from /proc at each scrape).
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}

// RegisterBuildInfo adds questdb_ilp_proxy_build_info, which is always 1 and says by its labels what runs here. It panics if reg
// has it already.
func RegisterBuildInfo(reg prometheus.Registerer, version, commit string) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "questdb_ilp_proxy_build_info",
		Help: "Always 1; the labels tell which build this is.",
		ConstLabels: prometheus.Labels{
			"version":   version,
			"commit":    commit,
			"goversion": runtime.Version(),
		},
	})
	info.Set(1)
	reg.MustRegister(info)
}

// RegisterReady adds questdb_ilp_proxy_ready: 1 while ready returns nil, as /readyz does, else 0. It panics if reg has it already.
func RegisterReady(reg prometheus.Registerer, ready func() error) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "questdb_ilp_proxy_ready",
		Help: "1 while records can be delivered, as /readyz says; else 0.",
	}, func() float64 {
		if ready() != nil {
			return 0
		}
		return 1
	}))
}
