//go:build kubernetes

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const (
	chart   = "../../helm/questdb-ilp-proxy"
	example = "../../helm/example-app"
	// patience is how long something may take in a busy cluster.
	patience = 3 * time.Minute
)

// run runs a command and returns its standard output.
func run(t *testing.T, stdin, command string, args ...string) (string, error) {
	t.Helper()
	// Not the test's own context, which has ended when it cleans up.
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", command, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func must(t *testing.T, stdin, command string, args ...string) string {
	t.Helper()
	out, err := run(t, stdin, command, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namespace is one of a test's own. It admits restricted pods only.
type namespace struct {
	t    *testing.T
	name string
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t, fmt.Sprintf("ilp-e2e-%x", time.Now().UnixNano()&0xffffffffff)}
	must(t, fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`, n.name), "kubectl", "create", "-f", "-")
	t.Cleanup(func() {
		if t.Failed() {
			n.explain()
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "kubectl", "delete", "namespace", n.name, "--wait=false").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return n
}

// explain logs what a person would look at.
func (n *namespace) explain() {
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", "app.kubernetes.io/name", "--all-containers", "--prefix", "--tail=40"},
	} {
		out, _ := exec.Command("kubectl", append([]string{"-n", n.name}, args...)...).CombinedOutput()
		n.t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

func (n *namespace) kubectl(args ...string) string {
	n.t.Helper()
	return must(n.t, "", "kubectl", append([]string{"-n", n.name}, args...)...)
}

func (n *namespace) apply(manifests ...any) {
	n.t.Helper()
	for _, m := range manifests {
		data, err := json.Marshal(m)
		if err != nil {
			n.t.Fatal(err)
		}
		must(n.t, string(data), "kubectl", "-n", n.name, "apply", "-f", "-")
	}
}

// helm installs or upgrades a release, and waits for it.
func (n *namespace) helm(release, chart string, sets ...string) {
	n.t.Helper()
	args := []string{"-n", n.name, "upgrade", "--install", release, chart, "--wait", "--timeout", patience.String()}
	for _, set := range sets {
		args = append(args, "--set", set)
	}
	must(n.t, "", "helm", args...)
}

// await asks until it is true.
func await(t *testing.T, what string, limit time.Duration, is func() (bool, string)) {
	t.Helper()
	timeout := time.After(limit)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := is()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s: not within %s: %s", what, limit, state)
		}
	}
}

// jobEnds waits until a Job is complete, and fails as soon as it has failed.
func (n *namespace) jobEnds(name string, limit time.Duration) {
	n.t.Helper()
	await(n.t, "job "+name, limit, func() (bool, string) {
		state := n.kubectl("get", "job", name, "-o", `jsonpath={range .status.conditions[?(@.status=="True")]}{.type} {end}`)
		if strings.Contains(state, "Failed") {
			n.t.Fatalf("job %s failed", name)
		}
		return strings.Contains(state, "Complete"), state
	})
}

type object = map[string]any

// restricted is the security context of a container that meets the standard.
func restricted(user int) object {
	return object{"runAsNonRoot": true, "runAsUser": user, "allowPrivilegeEscalation": false,
		"capabilities": object{"drop": []string{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"}}
}

// writers is a Job of some pods that each write rows, with the arguments of the
// program writer.
func writers(name string, pods int, labels object, args ...string) object {
	return object{
		"apiVersion": "batch/v1", "kind": "Job", "metadata": object{"name": name},
		"spec": object{
			"completions": pods, "parallelism": pods, "backoffLimit": 0,
			"template": object{
				"metadata": object{"labels": labels},
				"spec": object{
					"restartPolicy": "Never", "automountServiceAccountToken": false,
					"containers": []object{{
						"name": "writer", "image": writerImage, "imagePullPolicy": "IfNotPresent", "args": args,
						"securityContext": restricted(65534),
					}},
				},
			},
		},
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
