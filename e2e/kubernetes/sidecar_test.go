//go:build kubernetes

package kubernetes

import (
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

// exampleValues are those of the example, whose containers run the writer.
func exampleValues(args ...string) []string {
	sets := []string{"image=" + writerImage, "command={/writer," + strings.Join(args, ",") + "}"}
	for _, value := range proxyValues() {
		sets = append(sets, "questdb-ilp-proxy."+value)
	}
	return sets
}

// TestSidecar has a Job of another chart complete whose pod has the proxy beside
// its writer: what it wrote last is there.
func TestSidecar(t *testing.T) {
	n := newNamespace(t)
	key := newKey(t, "sidecar")
	n.questdb(key)
	n.apply(keySecret(t, key))
	const rows = 50000
	n.helm("app", example, append(exampleValues("-table=job", "-rows="+itoa(rows)), "deployment=false", "cronJob=false")...)
	n.jobEnds("app", patience)
	n.arrive("job", rows)
	state := n.kubectl("get", "pods", "-l", "app.kubernetes.io/instance=app", "-o",
		"jsonpath={.items[*].status.phase} {.items[*].status.initContainerStatuses[0].state.terminated.exitCode} {.items[*].status.initContainerStatuses[0].restartCount}")
	if state != "Succeeded 0 0" {
		t.Errorf("the Job's pod, its proxy's exit code and restarts: %s, want Succeeded 0 0", state)
	}

	// A Deployment, and the row of helm test by a sidecar of its own.
	n.helm("web", example, append(exampleValues("-table=web", "-rows=2000", "-stay"), "job=false", "cronJob=false")...)
	n.arrive("web", 2000)
	if restarts := n.kubectl("get", "pods", "-l", "app.kubernetes.io/instance=web", "-o",
		"jsonpath={.items[*].status.initContainerStatuses[*].restartCount} {.items[*].status.containerStatuses[*].restartCount}"); restarts != "0 0" {
		t.Errorf("restarts of proxy and writer: %s", restarts)
	}
	must(t, "", "helm", "-n", n.name, "test", "web", "--logs")
	if row, err := n.sql("select count() from helm_test where mode = 'sidecar'"); err != nil || row[0] != float64(1) {
		t.Errorf("the row of helm test: %v %v", row, err)
	}
}
