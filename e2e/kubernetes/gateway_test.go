//go:build kubernetes

package kubernetes

import (
	"strings"
	"testing"
	"time"
)

// proxyValues are those that every installation here has.
func proxyValues(more ...string) []string {
	repository, tag, _ := cutLast(proxyImage, ":")
	return append([]string{
		"image.repository=" + repository, "image.tag=" + tag,
		"upstream=tcp://questdb:9009", "auth.existingSecret=ilp-key", "helmTest.table=helm_test",
	}, more...)
}

// cutLast cuts at the last sep, since a registry's address may have one too.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// TestGateway has writers go on while every pod of the gateway is replaced, twice.
// Not one row is missing.
func TestGateway(t *testing.T) {
	n := newNamespace(t)
	key := newKey(t, "gateway")
	n.questdb(key)
	n.apply(keySecret(t, key))
	n.helm("gw", chart, proxyValues("gateway.replicas=2")...)

	must(t, "", "helm", "-n", n.name, "test", "gw", "--logs")
	if row, err := n.sql("select count() from helm_test where mode = 'gateway'"); err != nil || row[0] != float64(1) {
		t.Errorf("the row of helm test: %v %v", row, err)
	}

	const pods, rows, rate = 3, 24000, 400 // for a minute
	n.apply(writers("load", pods, object{"questdb-ilp-proxy/writer": "true"},
		"-addr", "gw-questdb-ilp-proxy:9009", "-table", "load", "-rows", itoa(rows), "-rate", itoa(rate)))
	for range 2 {
		await(t, "rows", time.Minute, func() (bool, string) {
			row, err := n.sql("select count() from load")
			if err != nil {
				return false, err.Error()
			}
			return row[0].(float64) > 0, ""
		})
		n.kubectl("rollout", "restart", "deployment/gw-questdb-ilp-proxy")
		n.kubectl("rollout", "status", "deployment/gw-questdb-ilp-proxy", "--timeout="+patience.String())
		// Rollouts wait for the new pods only: the old ones have to have gone under this load too.
		await(t, "two pods", patience, func() (bool, string) {
			names := n.kubectl("get", "pods", "-l", "app.kubernetes.io/component=gateway", "-o", "name")
			return strings.Count(names, "pod/") == 2, names
		})
		if active := n.kubectl("get", "job", "load", "-o", "jsonpath={.status.active}"); active != itoa(pods) {
			t.Errorf("%q of %d writers were left at the end of a rollout: it was not under load", active, pods)
		}
	}
	n.jobEnds("load", patience)
	logs := n.kubectl("logs", "-l", "job-name=load", "--tail=5")
	t.Log(logs)
	if strings.Contains(logs, "over 1 connections") {
		t.Error("a writer had one connection all the time: its pod was not replaced")
	}
	n.arrive("load", pods*rows)
}
