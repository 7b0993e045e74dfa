package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// container is how the proxy is started in one: see confine.
type container struct{ dir string }

// newContainer makes the one folder that can be written to there.
func newContainer(t *testing.T) *container {
	t.Helper()
	needRoot(t, "to drop privileges that a container's runtime drops")
	c := &container{shortDir(t)}
	if err := os.Chown(c.dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return c
}

// options are to start the proxy with env in the container.
func (c *container) options(t *testing.T, env proxytest.Env) (proxytest.Options, proxytest.Env) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return proxytest.Options{Plain: true, Under: []string{self}}, env.With(confineEnv, c.dir)
}

// TestUnprivileged has the proxy run as Kubernetes' restricted pods do: not as root,
// without capabilities, on a read-only root file system, under RuntimeDefault's
// seccomp filter. Rows of each way arrive in a real QuestDB.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	key := newKey(t, "restricted")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	file, socket, rejected := filepath.Join(c.dir, "key.jwk"), filepath.Join(c.dir, "ilp.sock"), filepath.Join(c.dir, "rejected.jsonl")
	if err := errors.Join(os.WriteFile(file, []byte(jwk(t, key)), 0o400), os.Chown(file, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	env := proxytest.EnvFor(key, db.ILP()).With("ILP_AUTH_JWK_FILE", file, "ILP_REJECTED_FILE", rejected,
		"ILP_LISTEN", "tcp://127.0.0.1:0,udp://127.0.0.1:0,unix://"+socket)
	delete(env, "ILP_AUTH_JWK")
	o, env := c.options(t, env)
	p := o.Start(t, env)

	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	id := strconv.Itoa(nobody)
	for _, want := range []string{
		"Uid:\t" + id + "\t" + id, "Gid:\t" + id + "\t" + id, "Groups:\t \n", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%q is not in the process's status:\n%s", want, status)
		}
	}
	mounts, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); !strings.HasPrefix(f[5], "ro") && f[4] != c.dir {
			t.Errorf("the proxy may write to %s", line)
		}
	}
	sandboxed(t, p)
	p.WaitReady(arrive)

	send := datagrams(t, p, "127.0.0.1")
	send(numbered("restricted", 0, 100))
	p.Send(numbered("restricted", 1, 100) + "restricted no record\n")
	nc := exec.CommandContext(t.Context(), "nc", "-N", "-U", socket)
	nc.Stdin = strings.NewReader(numbered("restricted", 2, 100))
	if out, err := nc.CombinedOutput(); err != nil {
		t.Fatalf("nc: %v\n%s", err, out)
	}
	p.WaitMetric(arrive, proxytest.Equal(1), "rejected_records_written_total")
	checkRejected(t, rejected, "restricted no record\n")
	allSettled(p, arrive)
	if missing := missingNumbered(t, db, "restricted", 3, 100); missing > 0 {
		t.Errorf("%d rows are missing", missing)
	}
	p.Stop(arrive)
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there after the end: %v", err)
	}
	if lines := append(p.LogLines("ermission denied"), p.LogLines("not permitted")...); len(lines) > 0 {
		t.Errorf("something was denied: %s", lines)
	}
}

// TestSandboxForbidden is in a container whose seccomp filter knows nothing of Landlock,
// as those of older runtimes.
func TestSandboxForbidden(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	o, env := c.options(t, proxytest.EnvFor(newKey(t, "restricted"), "127.0.0.1:1").With(
		confineForbidEnv, "landlock_create_ruleset,landlock_add_rule,landlock_restrict_self"))

	p := o.Start(t, env)
	line := p.WaitLog(`"msg":"sandboxed only in part"`, arrive)
	for _, want := range []string{`"no_new_privileges":true`, `"files":false`, `"ports":false`, "a seccomp filter forbids it; allow landlock_create_ruleset"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %s", want, line)
		}
	}
	for kind, want := range map[string]float64{"new_privileges": 1, "files": 0, "ports": 0} {
		if v := p.Metric("sandboxed", "kind", kind); v != want {
			t.Errorf("sandboxed{%s} is %v, want %v", kind, v, want)
		}
	}
	p.Stop(arrive)

	p = o.Launch(t, env.With("ILP_SANDBOX", "require"))
	if code := p.Wait(arrive); code != 2 || len(p.LogLines("ILP_SANDBOX: it is require", "a seccomp filter forbids it")) != 1 {
		t.Errorf("with ILP_SANDBOX=require it ended with %d:\n%s", code, p.Log())
	}
}
