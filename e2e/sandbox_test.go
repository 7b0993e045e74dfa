package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// sandboxed reports whether the proxy could give up files, and says so where the
// kernel does not let it.
func sandboxed(t *testing.T, p *proxytest.Proxy) bool {
	t.Helper()
	line := p.WaitLog(`"msg":"sandboxed`, arrive)
	if p.Metric("sandboxed", "kind", "new_privileges") != 1 {
		t.Errorf("new privileges are not given up: %s", line)
	}
	if p.Metric("sandboxed", "kind", "files") == 1 {
		return true
	}
	t.Logf("NOT TESTED that the sandbox bites, this kernel has no Landlock: %s", line)
	if !strings.Contains(line, `"missing":"the kernel's Landlock cannot be used: `) {
		t.Errorf("the log does not say why: %s", line)
	}
	return false
}

// noNewPrivileges wants that on each thread of the proxy.
func noNewPrivileges(t *testing.T, p *proxytest.Proxy) {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(p.PID()) + "/task/*/status")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d threads, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(text), "NoNewPrivs:\t1") {
			t.Errorf("%s:\n%s", file, text)
		}
	}
}

// TestSandbox has the static binary, sandboxed, do all that a running proxy does with
// files and sockets, and rows of each way arrive in a real QuestDB.
func TestSandbox(t *testing.T) {
	t.Parallel()
	keys := []*auth.Key{newKey(t, "first"), newKey(t, "second")}
	db := questdb.Start(t, questdb.Options{Keys: keys})
	db.MustQuery("create table boxed (v long, ts timestamp) timestamp(ts) partition by day wal dedup upsert keys(ts)") // some come twice
	s := &secret{t: t, dir: t.TempDir()}
	s.publish("key.jwk", jwk(t, keys[0]))
	dir := shortDir(t)
	socket, file := filepath.Join(dir, "ilp.sock"), filepath.Join(dir, "rejected.jsonl")
	_, port, _ := strings.Cut(db.ILP(), ":")
	env := proxytest.EnvFor(keys[0], "localhost:"+port).With(
		"ILP_LISTEN", "tcp://127.0.0.1:0,udp://127.0.0.1:0,unix://"+socket,
		"ILP_AUTH_JWK_FILE", filepath.Join(s.dir, "key.jwk"), "ILP_REJECTED_FILE", file)
	delete(env, "ILP_AUTH_JWK")
	p := proxytest.Options{Plain: true}.Start(t, env)
	if sandboxed(t, p) && p.Metric("sandboxed", "kind", "ports") != 1 {
		t.Log("NOT TESTED with ports given up: this kernel's Landlock knows none")
	}
	noNewPrivileges(t, p)
	p.WaitReady(arrive)

	send := datagrams(t, p, "127.0.0.1")
	send("boxed v=1i 1000000000\n")
	p.Send("boxed v=2i 2000000000\nboxed no record\n")
	p.WaitMetric(arrive, proxytest.Equal(1), "rejected_records_written_total")
	// Whoever repairs the records takes the file away; the next one makes another.
	if err := os.Rename(file, file+".old"); err != nil {
		t.Fatal(err)
	}
	p.Send("boxed v=3i 3000000000\nboxed no record either\n")
	p.WaitMetric(arrive, proxytest.Equal(2), "rejected_records_written_total")
	checkRejected(t, file+".old", "boxed no record\n")
	checkRejected(t, file, "boxed no record either\n")

	s.publish("key.jwk", jwk(t, keys[1]))
	p.WaitLog(`"key_id":"second"`, arrive)
	p.Send("boxed v=4i 4000000000\n")
	allSettled(p, arrive)
	db.WaitCount("boxed", 4, arrive)
	db.Restart() // all connections are made anew, by name
	p.Send("boxed v=5i 5000000000\n")
	db.WaitCount("boxed", 5, arrive)
	for path, want := range map[string]string{
		"/": "<html", "/status": `"verdict"`, "/metrics": "process_open_fds", "/readyz": "ready",
	} {
		if _, body, err := p.Get(path); err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %v\n%.500s", path, err, body)
		}
	}
	if _, text, _ := p.Get("/metrics"); !strings.Contains(text, "process_start_time_seconds") {
		t.Error("the process's own metrics are not there")
	}

	p.Stop(arrive)
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there after the end: %v", err)
	}
	if lines := p.LogLines("ermission denied"); len(lines) > 0 {
		t.Errorf("something was denied: %s", lines)
	}
}

// TestSandboxBites has the proxy read a key where it has no business: what links to
// there after the start is not read, and the key from before is kept.
func TestSandboxBites(t *testing.T) {
	t.Parallel()
	keys := []*auth.Key{newKey(t, "first"), newKey(t, "second")}
	for mode, msg := range map[string]string{
		"on": "permission denied", "off": `"key_id":"second"`,
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := &secret{t: t, dir: t.TempDir()}
			s.publish("key.jwk", jwk(t, keys[0]))
			elsewhere := filepath.Join(t.TempDir(), "key.jwk")
			if err := os.WriteFile(elsewhere, []byte(jwk(t, keys[1])), 0o600); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.dir, "key.jwk")
			env := proxytest.EnvFor(keys[0], "127.0.0.1:1").With("ILP_AUTH_JWK_FILE", path, "ILP_SANDBOX", mode)
			delete(env, "ILP_AUTH_JWK")
			p := proxytest.Start(t, env)
			if mode == "off" {
				p.WaitLog("not sandboxed: ILP_SANDBOX is off", arrive)
			} else if !sandboxed(t, p) {
				return
			}
			if err := errors.Join(os.Remove(path), os.Symlink(elsewhere, path)); err != nil {
				t.Fatal(err)
			}
			p.Signal(syscall.SIGHUP)
			p.WaitLog(msg, arrive)
		})
	}
}
