package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/certs"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/e2e/secrets"
)

// adminToken is random enough to be nowhere by chance.
const adminToken = "c41d8f0be7294a56b1f3-token"

// httpPassword is that of QuestDB's HTTP server.
const httpPassword = "k3v9-of-http-x7q2"

// TestNoSecretAnywhere runs everything at debug level with known keys and tokens, makes
// each kind of failure happen, and looks for the secrets, in every form, in all that comes
// out: log, pages, metrics, profiles, the file of rejected records, what the commands
// print, and the dumps of all goroutines when the proxy is made to crash.
func TestNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	key, next, stranger := newKey(t, "writer"), newKey(t, "next"), newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "secretive", true)
	ca := certs.CA(t, "test CA")
	caFile, _ := ca.Files(t)
	client := ca.Issue(t)
	s := &secret{t: t, dir: t.TempDir()}
	publish := func(jwk, cert, key string) {
		s.publish("key.jwk", jwk, "tls.crt", cert, "tls.key", key, "token", adminToken)
	}
	publish(jwk(t, key), string(client.Cert), string(client.Key))
	env := proxytest.Env{
		"ILP_UPSTREAM":      "tcps://" + terminator(t, db.ILP(), ca.Issue(t, "localhost"), "verify required ca-file "+caFile),
		"ILP_AUTH_JWK_FILE": filepath.Join(s.dir, "key.jwk"), "ILP_TLS_CA": caFile, "ILP_TLS_CERT": filepath.Join(s.dir, "tls.crt"), "ILP_TLS_KEY": filepath.Join(s.dir, "tls.key"),
		"ILP_ADMIN_TOKEN_FILE": filepath.Join(s.dir, "token"), "ILP_ADMIN_PPROF": "on", "ILP_STATUS_RECORDS": "true",
		"ILP_LOG_LEVEL": "debug", "ILP_REJECTED_FILE": keepRejected(t), "ILP_MAX_RECORD": "4KiB",
		"ILP_CONFIRM_INTERVAL": "500ms", "ILP_RETRY_MAX": "1s", "GOTRACEBACK": "system",
	}
	p := proxytest.Start(t, env)
	for _, k := range []*auth.Key{key, next, stranger} {
		hide(t, p, k)
	}
	w := &watcher{t: t, p: p, token: adminToken}
	w.control(env, string(client.Key))

	if status, text := w.ask(http.MethodGet, "/debug/pprof/profile?seconds=1", adminToken); status != 200 || len(text) < 500 {
		t.Errorf("the profile: status %d, %q", status, text)
	} else {
		w.look("the profile", text)
	}

	// It works, and gets records that are no good.
	p.Send("secretive,writer=w n=1i 1000\n")
	db.WaitCount("secretive", 1, arrive)
	p.Send("secretive,writer=w n=\"of another type\" 2000\nmalformed\nsecretive,writer=w n=2i 3000\nlong v=\"" + strings.Repeat("x", 5000) + "\"\ncut off")
	p.Send("secretive,writer=w n=3i 4000\n")
	for _, reason := range []string{"malformed", "refused", "too_long"} {
		p.WaitMetric(arrive, proxytest.AtLeast(1), "records_rejected_total", "reason", reason)
	}
	db.WaitCount("secretive", 3, arrive)
	w.pages("works")
	code, said := command(t, env, "check")
	if code != 0 || !strings.Contains(said, "connected over TLS 1.3 and authenticated") || !strings.Contains(said, "hides connection resets") {
		t.Errorf("check over TLS: exit code %d: %s", code, said)
	}
	w.look("check", said)
	w.file(env["ILP_REJECTED_FILE"])

	// Files that are no good take the place of those that are.
	failed := p.Metric("credential_reloads_total", "result", "failed")
	d := scalar(t, next)
	good := jwk(t, next)
	for what, files := range map[string][3]string{
		"d alone":            {d, string(client.Cert), string(client.Key)},
		"cut off":            {good[:len(good)-20], string(client.Cert), string(client.Key)},
		"another d":          {strings.Replace(good, d, scalar(t, stranger), 1), string(client.Cert), string(client.Key)},
		"d as a number":      {strings.Replace(good, `"`+d+`"`, fmt.Sprint(raw(t, next)), 1), string(client.Cert), string(client.Key)},
		"d as the curve":     {strings.NewReplacer("P-256", d, d, "P-256").Replace(good), string(client.Cert), string(client.Key)},
		"d as the id":        {strings.NewReplacer(`"next"`, `"`+d+`"`, d, "next").Replace(good), string(client.Cert), string(client.Key)},
		"keys mixed up":      {string(client.Key), string(client.Cert), good},
		"key as certificate": {good, string(client.Key), string(client.Key)},
		"another's TLS key":  {good, string(client.Cert), string(ca.Issue(t).Key)},
		"TLS key cut off":    {good, string(client.Cert), string(client.Key[:len(client.Key)-60])},
	} {
		publish(files[0], files[1], files[2])
		failed++
		p.WaitMetric(arrive, proxytest.AtLeast(failed), "credential_reloads_total", "result", "failed")
		w.look("the log after "+what, p.Log())
	}
	w.pages("broken rotation")
	publish(good, string(client.Cert), string(client.Key))
	p.WaitMetric(arrive, proxytest.Equal(0), "credentials_stale")

	// QuestDB refuses both keys; then it is gone, with records on their way.
	db.SetKeys(stranger)
	db.Restart()
	p.Send("secretive,writer=w n=4i 5000\n")
	p.WaitNotReady("wrong credentials", arrive)
	w.pages("key refused")
	db.Kill()
	p.WaitNotReady("closed instead of a challenge", arrive)
	w.pages("no server")

	// All goroutines, with what they were called with.
	p.Signal(syscall.SIGQUIT)
	if code := p.Wait(arrive); code != 2 {
		t.Errorf("exit code %d after SIGQUIT, want 2", code)
	}
	w.dump()
	w.file(env["ILP_REJECTED_FILE"])
}

// TestNoSecretInACrash is the same for the other sources of the key, logs as text, and a
// crash as of a bug while connections are made, one after the other.
func TestNoSecretInACrash(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{newKey(t, "other")}})
	common := proxytest.Env{"ILP_ADMIN_TOKEN": adminToken, "ILP_ADMIN_PPROF": "on", "ILP_LOG_LEVEL": "debug", "ILP_LOG_FORMAT": "json", "GOTRACEBACK": "system",
		"ILP_RETRY_BASE": "1ms", "ILP_RETRY_MAX": "1ms"}
	for name, env := range map[string]proxytest.Env{
		"scalar":          common.With("ILP_UPSTREAM", db.ILP(), "ILP_AUTH_KEY_ID", "writer", "ILP_AUTH_KEY", scalar(t, key)),
		"client's string": common.With("QDB_CLIENT_CONF", "tcp::addr="+db.ILP()+";username=writer;token="+scalar(t, key)+";"),
		"JWK":             common.With("ILP_UPSTREAM", db.ILP()+","+nowhere(t), "ILP_AUTH_JWK", jwk(t, key)),
	} {
		t.Run(name, func(t *testing.T) {
			var p *proxytest.Proxy
			var w *watcher
			// Go 1.26's own crash ends in another one now and then, where the signal finds
			// the race detector at work.
			for tries := 5; tries > 0; tries-- {
				p = proxytest.Start(t, env)
				hide(t, p, key)
				w = &watcher{t: t, p: p, token: adminToken}
				w.control(env, "")
				p.Send("t n=1i\nmalformed\n")
				p.WaitMetric(arrive, proxytest.AtLeast(20), "handshakes_total", "result", "refused")
				w.pages("key refused")
				p.Signal(syscall.SIGABRT)
				p.Wait(arrive)
				if !strings.Contains(p.Log(), "panic during panic") {
					break
				}
				w.look("half a dump", p.Log())
			}
			w.dump()

			// What the commands say of the same.
			p.Hide(func(s *secrets.Set) { s.AddText("password of --http", httpPassword) })
			http := "http://asker:" + httpPassword + "@" + db.HTTP()
			for _, args := range [][]string{
				{"config"}, {"check", "--timeout", "20s", "--http", http}, {"check", "--json", "--http", "http://asker:" + httpPassword + "@" + nowhere(t)},
			} {
				c := proxytest.Launch(t, env, args...)
				c.Wait(arrive)
				w.look(args[0], c.Log())
			}
			if name != "scalar" {
				return
			}
			for _, wrong := range []proxytest.Env{
				env.With("ILP_POOL_MAX", scalar(t, key)), env.With("ILP_LISTEN", jwk(t, key)), env.With("ILP_REJECTED_FILE", "/tmp/"+scalar(t, key)),
				env.With("ILP_AUTH_JWK", scalar(t, key)), env.With("ILP_AUTH_KEY", jwk(t, key)), env.With("ILP_ADMIN", adminToken), env.With("ILP_ADMIN_TOKEN", adminToken[:8]),
			} {
				c := proxytest.Launch(t, wrong)
				if code := c.Wait(arrive); code != usage {
					t.Errorf("exit code %d of a wrong configuration, want %d", code, usage)
				}
				w.look("a wrong configuration", c.Log())
			}
		})
	}
}

// raw is the private d of a key as bytes.
func raw(t *testing.T, key *auth.Key) []byte {
	t.Helper()
	d, err := base64.RawURLEncoding.DecodeString(scalar(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// hide has a key looked for in what p says, whether it has it now or not.
func hide(t *testing.T, p *proxytest.Proxy, key *auth.Key) {
	t.Helper()
	d := raw(t, key)
	p.Hide(func(s *secrets.Set) {
		s.AddKey("d", d)
		s.AddText("d", scalar(t, key))
	})
}

// watcher looks at what a proxy shows.
type watcher struct {
	t     *testing.T
	p     *proxytest.Proxy
	token string
}

// look looks for secrets in text.
func (w *watcher) look(what, text string) {
	w.t.Helper()
	if found := w.p.Secrets(text); len(found) > 0 {
		w.t.Errorf("%s shows secrets: %q", what, found)
	}
}

// control sees that the secrets are found where they are: in the process's environment,
// and in files.
func (w *watcher) control(env proxytest.Env, tlsKey string) {
	w.t.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.p.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	seen := string(environ) + tlsKey
	for _, name := range []string{"ILP_AUTH_JWK_FILE", "ILP_ADMIN_TOKEN_FILE"} {
		if path := env[name]; path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				w.t.Fatal(err)
			}
			seen += string(text)
		}
	}
	found := strings.Join(w.p.Secrets(seen+hex.EncodeToString([]byte(w.token))), "\n")
	want := []string{"d as it is", "in base64", "in hex", "ADMIN_TOKEN"}
	if tlsKey != "" {
		want = append(want, "the key in ILP_TLS_KEY in base64")
	}
	for _, text := range want {
		if !strings.Contains(found, text) {
			w.t.Fatalf("%q is not found where it is; found:\n%s", text, found)
		}
	}
}

// pages asks for everything that the admin port has, with the token, without, and with a
// wrong one.
func (w *watcher) pages(when string) {
	w.t.Helper()
	for path, status := range map[string]int{
		"/": 200, "/status": 200, "/metrics": 200, "/livez": 200, "/readyz": 0, "/nothing?token=x": 404,
		"/debug/pprof/": 200, "/debug/pprof/cmdline": 200, "/debug/pprof/symbol": 200, "/debug/pprof/trace?seconds=0.1": 200,
		"/debug/pprof/goroutine": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/goroutine?debug=2": 200, "/debug/pprof/heap?debug=1": 200,
		"/debug/pprof/heap": 200, "/debug/pprof/allocs?debug=1": 200, "/debug/pprof/block?debug=1": 200, "/debug/pprof/mutex?debug=1": 200, "/debug/pprof/threadcreate?debug=1": 200,
	} {
		got, text := w.ask(http.MethodGet, path, w.token)
		if status != 0 && got != status {
			w.t.Errorf("%s, when %s: status %d, want %d: %.200s", path, when, got, status, text)
		}
		w.look(path+", when "+when, text)
		if path == "/debug/pprof/goroutine?debug=2" && strings.Count(text, "goroutine ") < 10 {
			w.t.Errorf("these are not all goroutines: %s", text)
		}
	}
	for _, token := range []string{"", "wrong-and-of-some-length"} {
		status, text := w.ask(http.MethodPost, "/drain", token)
		if status != http.StatusUnauthorized {
			w.t.Errorf("/drain with the token %q: status %d", token, status)
		}
		w.look("/drain", text)
	}
	w.look("the log, when "+when, w.p.Log())
}

// ask makes one request, and returns all of the answer, headers too.
func (w *watcher) ask(method, path, token string) (status int, text string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), arrive)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.p.Admin()+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if zipped, err := gzip.NewReader(bytes.NewReader(body)); err == nil { // profiles are
		if body, err = io.ReadAll(zipped); err != nil {
			w.t.Fatal(err)
		}
	}
	return resp.StatusCode, fmt.Sprint(resp.Header, "\n", string(body))
}

// file looks at what the proxy wrote into a file.
func (w *watcher) file(path string) {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		w.t.Errorf("nothing in ILP_REJECTED_FILE: %v", err)
	}
	w.look("the file of rejected records", string(text))
}

// dump looks at what is left of a proxy that was made to show its goroutines and end.
func (w *watcher) dump() {
	w.t.Helper()
	text := w.p.Log()
	if n := strings.Count(text, "\ngoroutine "); n < 10 || !strings.Contains(text, "proxy/upstream.") {
		w.t.Errorf("%d goroutines in the dump", n)
	}
	w.look("the dump", text)
}
