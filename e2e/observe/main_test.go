package observe

import (
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

const (
	dashboardFile = "../../dashboards/questdb-ilp-proxy.json"
	alertsFolder  = "../../alerts"
	rulesFile     = "questdb-ilp-proxy.rules.yaml" // in alertsFolder
	testsFile     = "tests.yaml"                   // in alertsFolder
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program returns the path of a program of Debian's package prometheus.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no %s here: apt-get install prometheus (and keep it from running as a service)", name)
	}
	return path
}
