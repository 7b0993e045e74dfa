package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/certs"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// terminator is HAProxy as a TLS terminator before the server at upstream, with a certificate.
// It returns its address by the host name localhost.
func terminator(t *testing.T, upstream string, cert *certs.Pair, options string) string {
	t.Helper()
	crt := certs.Write(t, filepath.Join(t.TempDir(), "server.pem"), cert.Cert, cert.Key)
	_, port, err := net.SplitHostPort(haproxyBind(t, upstream, "ssl crt "+crt+" "+options))
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}

// stunnel is the terminator of that name.
func stunnel(t *testing.T, upstream string, cert *certs.Pair) string {
	t.Helper()
	path, err := exec.LookPath("stunnel4")
	if err != nil {
		t.Fatal("no stunnel4 here; on Debian or Ubuntu: apt-get install stunnel4")
	}
	dir := t.TempDir()
	crt := certs.Write(t, filepath.Join(dir, "server.pem"), cert.Cert, cert.Key)
	addr := nowhere(t) // kept for it: it cannot be given a socket
	conf := certs.Write(t, filepath.Join(dir, "stunnel.conf"), fmt.Appendf(nil,
		"foreground = yes\npid =\nsyslog = no\n[ilp]\naccept = %s\nconnect = %s\ncert = %s\n", addr, upstream, crt))
	runBeside(t, exec.Command(path, conf))
	_, port, _ := net.SplitHostPort(addr)
	return "localhost:" + port
}

// TestTLS has a terminator before QuestDB: rows arrive and settle, and when QuestDB
// is killed under load behind it, none is missing.
func TestTLS(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, upstream string, cert *certs.Pair) string{
		"HAProxy": func(t *testing.T, upstream string, cert *certs.Pair) string { return terminator(t, upstream, cert, "") },
		"stunnel": stunnel,
	} {
		t.Run(name, func(t *testing.T) { overTLS(t, start) })
	}
}

func overTLS(t *testing.T, start func(t *testing.T, upstream string, cert *certs.Pair) string) {
	t.Helper()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "killed", true)
	ca := certs.CA(t, "test CA")
	caFile, _ := ca.Files(t)
	addr := start(t, db.ILP(), ca.Issue(t, "localhost"))
	p := proxytest.Start(t, proxytest.EnvFor(key, "tcps://"+addr).With("ILP_TLS_CA", caFile, "ILP_LOG_LEVEL", "debug", "ILP_RETRY_MAX", "1s"))

	const writers, rows = 20, 1000
	sendNumbered(t, p, "many", writers, rows)
	db.WaitCount("many", writers*rows, arrive)
	checkNumbered(t, db, "many", writers, rows)
	checkCounters(t, p, writers*rows)
	p.WaitMetric(arrive, proxytest.AtLeast(1), "path", "kind", "hidden") // as every terminator does
	p.WaitLog(`"tls":"TLS 1.3","resumed":true`, arrive)

	l := startLoad(t, p, 4, 4000, "killed")
	before := p.Metric("records_settled_total")
	for range 2 {
		p.WaitMetric(arrive, proxytest.AtLeast(before+1000), "records_settled_total")
		db.Kill()
		db.Start()
		p.WaitReady(arrive)
		before = p.Metric("records_settled_total")
	}
	l.end()
	allSettled(p, arrive)
	l.check(db, arrive)
	p.Stop(30 * time.Second)
}

// TestTLSClientConf has TLS by the string of QuestDB's clients: with a file of
// authorities, and without any verification, which is warned of.
func TestTLSClientConf(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	ca := certs.CA(t, "test CA")
	caFile, _ := ca.Files(t)
	addr := terminator(t, db.ILP(), ca.Issue(t, "localhost"), "")
	for name, tls := range map[string]string{"verified": "tls_ca=pem_file;tls_roots=" + caFile, "unsafe": "tls_verify=unsafe_off"} {
		conf := "tcps::addr=" + addr + ";username=writer;token=" + scalar(t, key) + ";" + tls + ";"
		p := proxytest.Start(t, proxytest.Env{"QDB_CLIENT_CONF": conf, "ILP_CONFIRM_INTERVAL": "500ms"})
		p.Send(numbered(name, 0, 100))
		db.WaitCount(name, 100, arrive)
		checkCounters(t, p, 100)
		if warned := len(p.LogLines(`"level":"WARN"`, "certificate is not verified")) == 1; warned != (name == "unsafe") {
			t.Errorf("%s: a warning: %v", name, warned)
		}
		p.Stop(30 * time.Second)
	}
}

// scalar is the private d of a key.
func scalar(t *testing.T, key *auth.Key) string {
	t.Helper()
	data, err := key.MarshalJWK()
	var jwk struct{ D string }
	if err == nil {
		err = json.Unmarshal(data, &jwk)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jwk.D
}

// TestTLSRefused has each kind of certificate that is no good, a port without TLS,
// and a server that demands a certificate of its clients: each says so.
func TestTLSRefused(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	ca, other := certs.CA(t, "test CA"), certs.CA(t, "other CA")
	caFile, _ := ca.Files(t)
	good := ca.Issue(t, "localhost")
	mutual := terminator(t, db.ILP(), good, "verify required ca-file "+caFile)
	strangerCert, strangerKey := other.Issue(t).Files(t)
	for name, test := range map[string]struct {
		addr string
		env  []string
		kind string
		says string
		do   string // according to check
	}{
		"expired":     {terminator(t, db.ILP(), ca.Expired(t, "localhost"), ""), nil, "tls_expired", "expired certificate", "renew the certificate"},
		"wrong name":  {terminator(t, db.ILP(), ca.Issue(t, "questdb.example"), ""), nil, "tls_wrong_name", `is not for "localhost"`, "use a name in ILP_UPSTREAM"},
		"unknown CA":  {terminator(t, db.ILP(), other.Issue(t, "localhost"), ""), nil, "tls_unknown_ca", "set ILP_TLS_CA", "set ILP_TLS_CA to a PEM file"},
		"plain":       {db.ILP(), nil, "tls_not_spoken", "check that it is a port for TLS", "use the port that is for TLS"},
		"demanded":    {mutual, nil, "tls_client_certificate", "set ILP_TLS_CERT and ILP_TLS_KEY", "set ILP_TLS_CERT and ILP_TLS_KEY"},
		"not trusted": {mutual, []string{"ILP_TLS_CERT", strangerCert, "ILP_TLS_KEY", strangerKey}, "tls_client_certificate", "client certificate refused", "set ILP_TLS_CERT and ILP_TLS_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			env := proxytest.EnvFor(key, "tcps://"+test.addr).With("ILP_TLS_CA", caFile, "ILP_AUTH_TIMEOUT", "2s").With(test.env...)
			p := proxytest.Options{Plain: true}.Start(t, env)
			said := p.WaitNotReady(test.says, arrive)
			if p.Metric("handshakes_total", "result", test.kind) == 0 {
				t.Errorf("%s is not counted: %s", test.kind, said)
			}
			if lines := p.LogLines(`"level":"WARN"`, strings.ReplaceAll(test.says, `"`, `\"`)); len(lines) == 0 {
				t.Error("nothing in the log")
			}
			t.Log(strings.TrimSpace(said))
			p.Stop(30 * time.Second)
			expect(t, env, 5, "to do: "+test.do, "check")
		})
	}
	// And with what they want they are content.
	clientCert, clientKey := ca.Issue(t).Files(t)
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, "tcps://"+mutual).With(
		"ILP_TLS_CA", caFile, "ILP_TLS_CERT", clientCert, "ILP_TLS_KEY", clientKey))
	p.Send(numbered("mutual", 0, 10))
	db.WaitCount("mutual", 10, arrive)
	p.Stop(30 * time.Second)
}
