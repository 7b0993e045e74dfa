//go:build kubernetes

package kubernetes

import (
	"strings"
	"testing"
)

// TestRotation changes the Secret of a gateway, and then has a QuestDB that knows the
// new key only: rows arrive, and no pod was restarted for it.
func TestRotation(t *testing.T) {
	n := newNamespace(t)
	first, second := newKey(t, "first"), newKey(t, "second")
	n.questdb(first, second)
	n.apply(keySecret(t, first))
	n.helm("gw", chart, proxyValues("gateway.replicas=1")...)
	pods := func() string {
		return n.kubectl("get", "pods", "-l", "app.kubernetes.io/component=gateway", "-o",
			"jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{end}")
	}
	before := pods()
	write := func(table string) {
		t.Helper()
		n.apply(writers(table, 1, object{"questdb-ilp-proxy/writer": "true"}, "-addr", "gw-questdb-ilp-proxy:9009", "-table", table, "-rows", "1000"))
		n.jobEnds(table, patience)
		n.arrive(table, 1000)
	}
	write("before")

	n.apply(keySecret(t, second))
	await(t, "the new key in the proxy's log", patience, func() (bool, string) {
		return strings.Contains(n.kubectl("logs", "deployment/gw-questdb-ilp-proxy"), `"key_id":"second"`), "(the kubelet looks for changed Secrets once a minute)"
	})
	n.questdb(second)
	write("after")
	if after := pods(); after != before || !strings.HasSuffix(after, " 0") {
		t.Errorf("the pod and its restarts were %q, are %q", before, after)
	}
}
