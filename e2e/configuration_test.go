package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/proxytest"
)

// usage is the exit code for a wrong configuration.
const usage = 2

// refuse runs a proxy with a wrong configuration and returns what it said. The
// ports for writers and for health are taken, so one that opens a socket before
// it has judged the configuration fails of that, with another exit code.
func refuse(t *testing.T, env proxytest.Env) []string {
	t.Helper()
	for _, name := range []string{"ILP_LISTEN", "ILP_ADMIN"} {
		if _, set := env[name]; set {
			continue
		}
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		env = env.With(name, taken.Addr().String())
	}
	p := proxytest.Launch(t, env)
	if code := p.Wait(30 * time.Second); code != usage {
		t.Errorf("exit code %d, want %d", code, usage)
	}
	if log := p.Log(); strings.Contains(log, "address already in use") {
		t.Errorf("a socket was opened: %s", log)
	}
	return strings.Split(p.Log(), "\n")
}

// about returns the variables that lines of errors begin with.
func about(lines []string) []string {
	var names []string
	for _, line := range lines {
		rest, ok := strings.CutPrefix(line, "questdb-ilp-proxy: ")
		name, _, found := strings.Cut(rest, ":")
		if ok && found {
			names = append(names, name)
		}
	}
	return names
}

// TestConfigurationAllErrorsAtOnce has everything wrong that can be, and expects
// to read of all of it, before anything is opened.
func TestConfigurationAllErrorsAtOnce(t *testing.T) {
	t.Parallel()
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	var dialled atomic.Int64
	go func() {
		for {
			conn, err := upstream.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			conn.Close()
		}
	}()

	lines := refuse(t, proxytest.EnvFor(newKey(t, "k"), upstream.Addr().String()).With(
		"ILP_ALLOW", "10.0.0.0/40",
		"ILP_AUTH_KEY", "AAAA",
		"ILP_AUTH_KEY_ID", "k",
		"ILP_POOL_MIN_IDLE", "17",
		"ILP_POOL_MAX", "0x10",
		"ILP_DIAL_TIMEOUT", "10",
		"ILP_AUTH_TIMEOUT", "-1s",
		"ILP_RETRY_BASE", "1m",
		"ILP_RETRY_MAX", "forever",
		"ILP_BUFFER", "64 gigs",
		"ILP_MAX_RECORD", "0",
		"ILP_MAX_CLIENTS", "0",
		"ILP_CLIENT_IDLE_TIMEOUT", "1ms",
		"ILP_DRAIN_TIMEOUT", "2h",
		"ILP_LOG_LEVEL", "loud",
		"ILP_LOG_FORMAT", "xml",
		"ILP_LISTENN", "tcp://localhost:9009",
	))
	got := about(lines)
	for _, name := range []string{
		"ILP_ALLOW", "ILP_AUTH_KEY", "ILP_POOL_MAX", "ILP_DIAL_TIMEOUT", "ILP_AUTH_TIMEOUT", "ILP_RETRY_MAX", "ILP_BUFFER",
		"ILP_MAX_RECORD", "ILP_MAX_CLIENTS", "ILP_CLIENT_IDLE_TIMEOUT", "ILP_DRAIN_TIMEOUT", "ILP_LOG_LEVEL", "ILP_LOG_FORMAT", "ILP_LISTENN",
	} {
		if !slices.Contains(got, name) {
			t.Errorf("nothing is said about %s", name)
		}
	}
	for _, line := range lines {
		if !strings.Contains(line, "should be ") {
			t.Errorf("a line does not say what would be right: %q", line)
		}
	}
	if t.Failed() {
		t.Logf("it said:\n%s", strings.Join(lines, "\n"))
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("QuestDB was connected to %d times", n)
	}
}

func TestConfigurationNearestName(t *testing.T) {
	t.Parallel()
	for wrong, nearest := range map[string]string{
		"ILP_UPSTREAMS":   "ILP_UPSTREAM",
		"ILP_DRAINTIMOUT": "ILP_DRAIN_TIMEOUT",
		"ILP_POOL_SIZE":   "ILP_POOL_MAX",
	} {
		t.Run(wrong, func(t *testing.T) {
			lines := refuse(t, proxytest.EnvFor(newKey(t, "k"), "127.0.0.1:1").With(wrong, "1"))
			if len(lines) != 1 || !strings.Contains(lines[0], wrong+": unknown variable") || !strings.Contains(lines[0], nearest+",") {
				t.Errorf("it said %q, want a line about %s with the name %s", lines, wrong, nearest)
			}
		})
	}
}

// TestConfigurationServiceLinks has the variables in it that Kubernetes makes
// for the services ilp and ilp-proxy in the same namespace.
func TestConfigurationServiceLinks(t *testing.T) {
	t.Parallel()
	env := proxytest.EnvFor(newKey(t, "k"), "127.0.0.1:1")
	for _, service := range []string{"ILP", "ILP_PROXY"} {
		env = env.With(
			service+"_SERVICE_HOST", "10.96.0.17",
			service+"_SERVICE_PORT", "9009",
			service+"_SERVICE_PORT_ILP", "9009",
			service+"_PORT", "tcp://10.96.0.17:9009",
			service+"_PORT_9009_TCP", "tcp://10.96.0.17:9009",
			service+"_PORT_9009_TCP_PROTO", "tcp",
			service+"_PORT_9009_TCP_PORT", "9009",
			service+"_PORT_9009_TCP_ADDR", "10.96.0.17",
		)
	}
	p := proxytest.Start(t, env) // it listens
	p.Stop(10 * time.Second)
}

// TestConfigurationNeverShowsSecrets puts keys where they belong, broken in all
// manners, and where they do not belong.
func TestConfigurationNeverShowsSecrets(t *testing.T) {
	t.Parallel()
	// What somebody might recognise of a secret in an error.
	const part = "Zx9-QkVv_h7K"
	scalar := part + strings.Repeat("w", 43-len(part))
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(scalar+" "+scalar), 0o600); err != nil {
		t.Fatal(err)
	}
	jwk := func(d string) string {
		return `{"kty":"EC","crv":"P-256","kid":"k","x":"` + scalar[1:] + `A","y":"` + scalar[2:] + `AA","d":"` + d + `"}`
	}
	where := proxytest.Env{"ILP_UPSTREAM": "127.0.0.1:1"}
	for name, env := range map[string]proxytest.Env{
		"too long":                   where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY", scalar+scalar),
		"cut off":                    where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY", scalar[:40]),
		"other alphabet":             where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY", strings.Replace(scalar, "ww", "+/", 1)),
		"white space":                where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY", scalar+"\n"+scalar),
		"no key id":                  where.With("ILP_AUTH_KEY", scalar),
		"a file with two":            where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY_FILE", file),
		"no JSON in a file":          where.With("ILP_AUTH_JWK_FILE", file),
		"for a path":                 where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY_FILE", scalar),
		"cut off for a path":         where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY_FILE", scalar[:41]),
		"JWK for a path":             where.With("ILP_AUTH_JWK_FILE", jwk(scalar)),
		"JWK that does not match":    where.With("ILP_AUTH_JWK", jwk(scalar)),
		"JWK without end":            where.With("ILP_AUTH_JWK", strings.TrimSuffix(jwk(scalar), `"}`)),
		"JWK with d twice":           where.With("ILP_AUTH_JWK", strings.TrimSuffix(jwk(scalar), `}`)+`,"d":["`+scalar+`"]}`),
		"JWK with a wrong d":         where.With("ILP_AUTH_JWK", jwk(scalar+"ww")),
		"scalar for a JWK":           where.With("ILP_AUTH_JWK", scalar),
		"JWK for a scalar":           where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY", jwk(scalar)),
		"two sources":                where.With("ILP_AUTH_JWK", jwk(scalar), "QDB_CLIENT_CONF", "tcp::addr=h;username=u;token="+scalar+";"),
		"unknown variable":           where.With("ILP_AUTH_TOKEN", scalar),
		"string without schema":      {"QDB_CLIENT_CONF": "addr=h;username=u;token=" + scalar + ";"},
		"string with another schema": {"QDB_CLIENT_CONF": "http::addr=h;username=u;password=" + scalar + ";"},
		"string with a wrong key":    {"QDB_CLIENT_CONF": "tcp::addr=h;username=u;tokn=" + scalar + ";"},
		"string without a key":       {"QDB_CLIENT_CONF": "tcp::addr=h;username=u;token;" + scalar + ";"},
		"string without separator":   {"QDB_CLIENT_CONF": "tcp::addr=h,username=u,token=" + scalar},
		"string with token twice":    {"QDB_CLIENT_CONF": "tcp::addr=h;username=u;token=" + scalar + ";token=" + scalar + ";"},
		"string with a long token":   {"QDB_CLIENT_CONF": "tcp::addr=h;username=u;token=" + scalar + "ww;"},
		"string for the upstream":    {"ILP_UPSTREAM": "tcp::addr=h;username=u;token=" + scalar + ";"},
		"string for the listener":    where.With("ILP_LISTEN", "tcp::addr=h;username=u;token="+scalar+";"),
		"string for the admin port":  where.With("ILP_ADMIN", "tcp::addr=h;username=u;token="+scalar+";"),
		"JWK for a key id":           where.With("ILP_AUTH_KEY_ID", jwk(scalar), "ILP_AUTH_KEY", scalar),
		"spaced JWK for a key id":    where.With("ILP_AUTH_KEY_ID", `{ "d": "`+scalar+`" }`, "ILP_AUTH_KEY", scalar),
		"key for a key id":           where.With("ILP_AUTH_KEY_ID", scalar, "ILP_AUTH_KEY", scalar),
		"key behind the key id":      where.With("ILP_AUTH_KEY_ID", "k "+scalar, "ILP_AUTH_KEY", scalar),
		"key in the kid":             where.With("ILP_AUTH_JWK", strings.Replace(jwk(scalar), `"kid":"k"`, `"kid":"k `+scalar+`"`, 1)),
		"key in a user name":         {"QDB_CLIENT_CONF": "tcp::addr=h;username=u " + scalar + ";token=" + scalar + ";"},
		"key in an address":          where.With("ILP_LISTEN", "tcp://k:"+scalar+"@127.0.0.1:0"),
		"key within a path":          where.With("ILP_AUTH_KEY_ID", "k", "ILP_AUTH_KEY_FILE", "./"+scalar),
		"string for a path":          where.With("ILP_AUTH_JWK_FILE", "tcp::addr=h;username=u;token="+scalar+";"),
	} {
		t.Run(name, func(t *testing.T) {
			lines := refuse(t, env)
			if all := strings.Join(lines, "\n"); strings.Contains(all, part) {
				t.Errorf("the secret is shown: %s", all)
			}
			if len(about(lines)) == 0 {
				t.Errorf("no variable is named: %q", lines)
			}
		})
	}
}

// TestConfigurationRejectedFile has an ILP_REJECTED_FILE that cannot be opened: that
// is a wrong configuration, and nothing is served.
func TestConfigurationRejectedFile(t *testing.T) {
	t.Parallel()
	env := proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1")
	for _, path := range []string{t.TempDir(), "/nowhere/rejected.jsonl"} {
		p := proxytest.Options{}.Launch(t, env.With("ILP_REJECTED_FILE", path), "serve")
		if code := p.Wait(arrive); code != 2 {
			t.Errorf("%s: exit code %d, want 2", path, code)
		}
		if len(p.LogLines(path)) == 0 || len(p.LogLines("listening")) > 0 {
			t.Errorf("%s: it said %q", path, p.Log())
		}
	}
}
