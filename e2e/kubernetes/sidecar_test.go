//go:build kubernetes

package kubernetes

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
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

	// A Deployment, replaced while it writes, and then ended: each pod says in its
	// last row how many there were before.
	n.helm("web", example, append(exampleValues("-table=web", "-rows=1000000", "-rate=500"), "job=false", "cronJob=false")...)
	writes := func(pods int) {
		t.Helper()
		await(t, "rows of another pod", time.Minute, func() (bool, string) {
			row, err := n.sql("select count_distinct(w) from web where n > 1000")
			return err == nil && row[0] == float64(pods), fmt.Sprint(row, err)
		})
	}
	writes(1)
	n.kubectl("rollout", "restart", "deployment/web")
	n.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	writes(2)
	if restarts := n.kubectl("get", "pods", "-l", "app.kubernetes.io/instance=web", "--sort-by=.metadata.creationTimestamp", "-o",
		"jsonpath={.items[-1:].status.initContainerStatuses[0].restartCount} {.items[-1:].status.containerStatuses[0].restartCount}"); restarts != "0 0" {
		t.Errorf("restarts of proxy and writer: %s", restarts)
	}
	n.kubectl("scale", "deployment/web", "--replicas=0")
	n.kubectl("wait", "pods", "-l", "app.kubernetes.io/instance=web", "--for=delete", "--timeout="+patience.String())
	await(t, "the last row of both pods", time.Minute, func() (bool, string) {
		row, err := n.sql("select count() from web_ends")
		return err == nil && row[0] == float64(2), fmt.Sprint(row, err)
	})
	row, err := n.sql("select sum(n) from web_ends")
	if err != nil {
		t.Fatal(err)
	}
	n.arrive("web", int(row[0].(float64)))
	must(t, "", "helm", "-n", n.name, "test", "web", "--logs")
	if row, err := n.sql("select count() from helm_test where mode = 'sidecar'"); err != nil || row[0] != float64(1) {
		t.Errorf("the row of helm test: %v %v", row, err)
	}
}
