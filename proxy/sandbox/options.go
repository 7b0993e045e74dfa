package sandbox

import "github.com/prometheus/client_golang/prometheus"

// Options are what the process still needs. The zero value is nothing but memory,
// and the files and sockets that are open.
type Options struct {
	// Read are paths of files that are read again, whatever takes their place.
	Read []string
	// Append are paths of files that are written to, given other names in their
	// folder, and begun anew.
	Append []string
	// Remove are paths of Unix sockets that are removed in the end.
	Remove []string
	// Connect are the TCP ports, at any address, that are connected to.
	Connect []uint16
	// Names says that names are looked up.
	Names bool
	// AbstractSockets says that Unix sockets without a file are connected to.
	AbstractSockets bool
}

// Result is what was taken.
type Result struct {
	// NewPrivileges is whether the process can get none any more; Files and Ports
	// whether those are restricted.
	NewPrivileges, Files, Ports bool
	// ABI is the version of Landlock that the kernel has, 0 if none.
	ABI int
	// Readable and Writable are the files and folders that are left, ConnectsTo the
	// ports.
	Readable, Writable []string
	ConnectsTo         []uint16
	// Missing says why not everything could be taken, and what to do about it. It
	// is nil if everything was.
	Missing error
}

// What Metrics say of, as the series' label names it.
const (
	kindPrivileges = "new_privileges"
	kindFiles      = "files"
	kindPorts      = "ports"
)

// Metrics are the series of a Result.
type Metrics struct{ restricted *prometheus.GaugeVec }

// NewMetrics registers the series with reg; until [Metrics.Set] they are 0.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "questdb_ilp_proxy_sandboxed",
		Help: "1 for what ILP_SANDBOX has taken from the process: new privileges, files and TCP ports that it does not need.",
	}, []string{"kind"})}
	reg.MustRegister(m.restricted)
	m.Set(Result{})
	return m
}

// Set shows r.
func (m *Metrics) Set(r Result) {
	for kind, is := range map[string]bool{kindPrivileges: r.NewPrivileges, kindFiles: r.Files, kindPorts: r.Ports} {
		value := 0.0
		if is {
			value = 1
		}
		m.restricted.WithLabelValues(kind).Set(value)
	}
}
