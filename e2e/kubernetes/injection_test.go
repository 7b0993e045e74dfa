//go:build kubernetes

package kubernetes

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestInjection has pods with the label get the proxy, before their own init
// containers, and others not.
func TestInjection(t *testing.T) {
	n := newNamespace(t)
	values := proxyValues("mode=injection")
	if os.Getenv("E2E_NO_INJECTION") != "" {
		args := []string{"-n", n.name, "install", "inject", chart}
		for _, set := range values {
			args = append(args, "--set", set)
		}
		if _, err := run(t, "", "helm", args...); err == nil || !strings.Contains(err.Error(), "does not serve MutatingAdmissionPolicy") {
			t.Errorf("the chart does not refuse with a hint: %v", err)
		}
		return
	}
	key := newKey(t, "injected")
	n.questdb(key)
	n.apply(keySecret(t, key))
	// What it makes is not in the namespace, and so would outlive it.
	t.Cleanup(func() {
		if _, err := run(t, "", "helm", "-n", n.name, "uninstall", "inject", "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	n.helm("inject", chart, append(values, "injection.namespaceLabel.value="+n.name, "rejected.storage=emptyDir")...)
	must(t, "", "kubectl", "label", "namespace", n.name, "questdb-ilp-proxy/injection="+n.name)
	inject := object{"questdb-ilp-proxy/inject": "true"}

	// The API server takes a while to have the policy in force.
	await(t, "the policy", time.Minute, func() (bool, string) {
		out, err := run(t, probePod, "kubectl", "-n", n.name, "create", "--dry-run=server", "-f", "-", "-o", "jsonpath={.spec.initContainers[*].name}|{.spec.volumes[*].name}|{.spec.terminationGracePeriodSeconds}")
		if err != nil {
			return false, err.Error()
		}
		return out == "questdb-ilp-proxy own|own questdb-ilp-proxy-auth questdb-ilp-proxy-rejected|40", out
	})

	n.apply(writers("injected", 1, inject, "-table", "injected", "-rows", "20000"))
	n.jobEnds("injected", patience)
	n.arrive("injected", 20000)
	state := n.kubectl("get", "pods", "-l", "job-name=injected", "-o",
		"jsonpath={.items[0].spec.initContainers[0].name} {.items[0].spec.terminationGracePeriodSeconds} {.items[0].status.initContainerStatuses[0].state.terminated.exitCode}")
	if state != "questdb-ilp-proxy 60 0" {
		t.Errorf("first init container, seconds to end, exit code of the proxy: %s", state)
	}

	n.apply(writers("plain", 1, object{"app": "plain"}, "-table", "plain", "-rows", "1"))
	await(t, "pod without the label", patience, func() (bool, string) {
		out := n.kubectl("get", "pods", "-l", "job-name=plain", "-o", "jsonpath={.items[*].metadata.name}")
		return out != "", out
	})
	if with := n.kubectl("get", "pods", "-l", "job-name=plain", "-o", "jsonpath={.items[*].spec.initContainers}"); with != "" {
		t.Errorf("a pod without the label got %s", with)
	}

	must(t, "", "helm", "-n", n.name, "test", "inject", "--logs")
	if row, err := n.sql("select count() from helm_test where mode = 'injection'"); err != nil || row[0] != float64(1) {
		t.Errorf("the row of helm test: %v %v", row, err)
	}
}

// probePod has an init container and a volume of its own.
const probePod = `
apiVersion: v1
kind: Pod
metadata:
  generateName: probe-
  labels: {questdb-ilp-proxy/inject: "true"}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 10
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: own, emptyDir: {}}]
  initContainers: [{name: own, image: x, securityContext: &s {runAsUser: 1, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
  containers: [{name: c, image: x, securityContext: *s}]
`
