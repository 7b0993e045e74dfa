package proxytest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/certs"
	"questdb-ilp-proxy/e2e/secrets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLife takes one proxy, without a server, through all that can be asked of it.
func TestLife(t *testing.T) {
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	env := EnvFor(key, "127.0.0.1:1")
	p := Start(t, env)
	if p.HasSecret(p.Log()) || !p.HasSecret("so: "+env["ILP_AUTH_JWK"]) {
		t.Error("secrets are not told from the rest")
	}
	p.WaitNotReady("no answer", 10*time.Second)
	if status, _, err := p.Get("/livez"); err != nil || status != http.StatusOK {
		t.Errorf("/livez: %d, %v", status, err)
	}
	p.Send("t n=1i\n")
	p.WaitMetric(10*time.Second, Equal(1), "records_received_total")
	if v := p.Metric("questdb_ilp_proxy_sessions_ended_total", "reason", "writer"); v != 1 {
		t.Errorf("sessions ended: %v, want 1", v)
	}
	if v := p.Metric("go_goroutines"); v < 1 {
		t.Errorf("goroutines: %v", v)
	}
	// The kernel counts pages in batches on each CPU: its peak may be a little behind.
	if rss, peak := p.RSS(), p.PeakRSS(); rss < 1<<20 || peak < rss-rss/8 {
		t.Errorf("memory: %d, at most %d", rss, peak)
	}
	p.Signal(syscall.SIGTERM)
	p.WaitLog(`"msg":"ending`, 10*time.Second)
	<-time.After(500 * time.Millisecond) // sooner, it would be taken for the same signal
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(10 * time.Second); code != 1 {
		t.Errorf("exit code %d after two signals with a record left, want 1", code)
	}
}

func TestLaunch(t *testing.T) {
	p := Launch(t, Env{"ILP_LISTEN": "nonsense://"})
	if code := p.Wait(10 * time.Second); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if len(p.LogLines("ILP_LISTEN", "nonsense")) == 0 {
		t.Errorf("nothing said about ILP_LISTEN:\n%s", p.Log())
	}
}

// TestSecrets has every variable that holds a secret or names a file of one.
func TestSecrets(t *testing.T) {
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := key.MarshalJWK()
	var parsed struct{ D string }
	if err == nil {
		err = json.Unmarshal(jwk, &parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, _ := base64.RawURLEncoding.DecodeString(parsed.D)
	pair := certs.CA(t, "test")
	dir := t.TempDir()
	file := func(text string) string {
		return certs.Write(t, filepath.Join(dir, strconv.Itoa(len(text))), []byte(text))
	}
	const token = "0123456789abcdef-token"
	for name, c := range map[string]struct {
		value string
		seen  string
	}{
		"ILP_AUTH_JWK":         {string(jwk), fmt.Sprint(d)},
		"ILP_AUTH_JWK_FILE":    {file(string(jwk)), fmt.Sprintf("%x", d)},
		"ILP_AUTH_KEY":         {parsed.D, "so: " + parsed.D},
		"ILP_AUTH_KEY_FILE":    {file(parsed.D + "\n"), "so: " + parsed.D},
		"QDB_CLIENT_CONF":      {"tcp::addr=a;username=u;token=" + parsed.D + ";", fmt.Sprint(d)},
		"ILP_TLS_KEY":          {file(string(pair.Key)), string(pair.Key)},
		"ILP_ADMIN_TOKEN":      {token, "Bearer " + token},
		"ILP_ADMIN_TOKEN_FILE": {file(token), "Bearer " + token},
	} {
		var set secrets.Set
		Env{name: c.value}.hide(&set)
		if set.Find(c.seen) == nil || set.Find(key.AuthLine()+string(pair.Cert)) != nil {
			t.Errorf("%s: the secret is not told from the rest", name)
		}
	}
}

func TestSum(t *testing.T) {
	text := strings.Join([]string{
		"# HELP questdb_ilp_proxy_a Something.",
		`questdb_ilp_proxy_a{k="x",result="ok"} 1`,
		`questdb_ilp_proxy_a{k="y",result="ok"} 2`,
		`questdb_ilp_proxy_a{k="y",result="not ok"} 4`,
		`questdb_ilp_proxy_ab 8`,
		`go_goroutines 1.6e+01`,
	}, "\n")
	tests := map[string]struct {
		labels []string
		want   float64
		fails  bool
	}{
		"a":                    {want: 7},
		"questdb_ilp_proxy_a":  {labels: []string{"result", "ok"}, want: 3},
		"ab":                   {want: 8},
		"go_goroutines":        {want: 16},
		"b":                    {fails: true},
		"questdb_ilp_proxy_ab": {labels: []string{"result", "ok"}, fails: true},
	}
	for name, test := range tests {
		got, err := sum(text, name, test.labels...)
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%s %q: %v, %v; want %v", name, test.labels, got, err, test.want)
		}
	}
}
