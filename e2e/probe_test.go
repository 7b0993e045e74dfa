package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// command runs the program as the proxy's operator would, with the variables given, and returns its
// exit code and what it said.
func command(t *testing.T, env proxytest.Env, args ...string) (code int, said string) {
	t.Helper()
	c := proxytest.Launch(t, env, args...)
	code = c.Wait(arrive)
	return code, c.Log()
}

func expect(t *testing.T, env proxytest.Env, code int, words string, args ...string) {
	t.Helper()
	if got, said := command(t, env, args...); got != code || !strings.Contains(said, words) {
		t.Errorf("%v: exit code %d, want %d, and %q in: %s", args, got, code, words, said)
	}
}

// TestProbes asks a proxy that delivers, has it drained, and sees its records in
// the table.
func TestProbes(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))
	beside := proxytest.Env{"ILP_ADMIN": p.Admin()}

	expect(t, beside, 0, "", "wait", "--timeout", arrive.String())
	expect(t, beside, 0, "", "ready")
	expect(t, beside, 0, "", "health")
	p.Send("probed v=1i\n")
	expect(t, beside, 0, "", "drain", "--timeout", arrive.String())
	// The port is closed a moment before the process is gone.
	if code := p.Wait(arrive); code != 0 {
		t.Errorf("exit code of the drained proxy: %d, want 0", code)
	}
	db.WaitCount("probed", 1, arrive)
	expect(t, beside, 1, "connection refused", "health")
	expect(t, beside, 1, "connection refused", "drain")
	expect(t, proxytest.Env{"ILP_ADMIN": "off"}, 2, "ILP_ADMIN: it is off", "ready")
}

// TestProbesWithoutQuestDB asks a proxy that is alive and cannot deliver, and that
// listens where others reach it.
func TestProbesWithoutQuestDB(t *testing.T) {
	t.Parallel()
	const token = "16-or-more-of-it"
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // its connections are never accepted, so nothing is ever said
	env := proxytest.EnvFor(newKey(t, "writer"), silent.Addr().String()).With("ILP_ADMIN", "0.0.0.0:0")
	port := func(p *proxytest.Proxy) proxytest.Env {
		_, port, err := net.SplitHostPort(p.Admin())
		if err != nil {
			t.Fatal(err)
		}
		return proxytest.Env{"ILP_ADMIN": "0.0.0.0:" + port}
	}

	open := proxytest.Start(t, env)
	beside := port(open)
	expect(t, beside, 0, "", "health")
	expect(t, beside, 1, "says 503", "ready")
	expect(t, beside, 1, "--timeout is over: the proxy at 127.0.0.1", "wait", "--timeout", "500ms")
	expect(t, beside, 1, "set ILP_ADMIN_TOKEN", "drain")

	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := proxytest.Start(t, env.With("ILP_ADMIN_TOKEN_FILE", file))
	beside = port(guarded)
	expect(t, beside, 1, "says 401", "drain")
	expect(t, beside.With("ILP_ADMIN_TOKEN", strings.Repeat("x", 16)), 1, "says 401", "drain")
	if code, _ := command(t, beside, "health"); code != 0 {
		t.Error("a refused drain ended the proxy")
	}
	expect(t, beside.With("ILP_ADMIN_TOKEN_FILE", file), 0, "", "drain", "--timeout", arrive.String())
	if code := guarded.Wait(time.Minute); code != 0 {
		t.Errorf("exit code of the drained proxy: %d, want 0", code)
	}
}
