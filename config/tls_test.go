package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"questdb-ilp-proxy/e2e/certs"
)

// overTLS is minimal with TLS to a server named questdb.
func overTLS(more ...string) []string {
	return append([]string{"ILP_UPSTREAM=tcps://questdb", minimal[1], minimal[2]}, more...)
}

func TestTLS(t *testing.T) {
	ca := certs.CA(t, "test CA")
	caFile, _ := ca.Files(t)
	client := ca.Issue(t, "client")
	cert, key := client.Files(t)
	conf := func(keys string) []string {
		return []string{strings.Replace(confVar(keys), "tcp::", "tcps::", 1)}
	}
	own, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		environ  []string
		roots    *x509.CertPool // nil: not compared
		warnings int
		check    func(*tls.Config) error
	}{
		"system":       {overTLS(), own, 0, nil},
		"CA":           {overTLS("ILP_TLS_CA=" + caFile), ca.Pool(), 0, nil},
		"conf":         {conf("tls_verify=on;tls_ca=os_roots;"), own, 0, nil},
		"conf, file":   {conf("tls_roots=" + caFile + ";"), ca.Pool(), 0, nil},
		"conf, PEM":    {conf("tls_ca=pem_file;tls_roots=" + caFile + ";"), ca.Pool(), 0, nil},
		"conf and CA":  {append(conf(""), "ILP_TLS_CA="+caFile), ca.Pool(), 0, nil},
		"conf, webpki": {conf("tls_ca=webpki_roots;"), nil, 0, func(c *tls.Config) error { return notEmpty(c.RootCAs) }},
		"conf, both":   {conf("tls_ca=webpki_and_os_roots;"), nil, 0, func(c *tls.Config) error { return notEmpty(c.RootCAs) }},
		"unsafe":       {overTLS("ILP_TLS_UNSAFE_SKIP_VERIFY=true"), nil, 1, skipping(true)},
		"conf, unsafe": {conf("tls_verify=unsafe_off;"), nil, 1, skipping(true)},
		"safe":         {overTLS("ILP_TLS_UNSAFE_SKIP_VERIFY=false"), own, 0, skipping(false)},
		"client": {overTLS("ILP_TLS_CERT="+cert, "ILP_TLS_KEY="+key, "ILP_TLS_SERVER_NAME=db.example"), own, 0, func(c *tls.Config) error {
			if len(c.Certificates) != 1 || c.Certificates[0].Leaf.DNSNames[0] != "client" || c.ServerName != "db.example" {
				return fmt.Errorf("%d certificates, server name %q", len(c.Certificates), c.ServerName)
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(test.environ)
			if err != nil {
				t.Fatal(err)
			}
			if !c.UpstreamTLS || c.TLS == nil || c.TLS.MinVersion != tls.VersionTLS12 || c.TLS.ClientSessionCache == nil {
				t.Fatalf("%v %+v", c.UpstreamTLS, c.TLS)
			}
			if test.roots != nil && !test.roots.Equal(c.TLS.RootCAs) {
				t.Error("other roots")
			}
			if len(c.Warnings) != test.warnings {
				t.Errorf("warnings: %q", c.Warnings)
			}
			if test.check != nil {
				if err := test.check(c.TLS); err != nil {
					t.Error(err)
				}
			}
			if c.TLS.InsecureSkipVerify != (test.warnings > 0) {
				t.Error("verification is not as it should be")
			}
		})
	}
}

// TestTLSKeyForAll has a private key that everyone may read: that is said at the start,
// and when it is read again.
func TestTLSKeyForAll(t *testing.T) {
	cert, key := certs.CA(t, "test CA").Issue(t, "client").Files(t)
	for _, path := range []string{cert, key} {
		if err := os.Chmod(path, 0o644); err != nil { // certificates are for everyone
			t.Fatal(err)
		}
	}
	c, err := Load(overTLS("ILP_TLS_CERT="+cert, "ILP_TLS_KEY="+key))
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Reload()
	if err != nil {
		t.Fatal(err)
	}
	for _, warnings := range [][]string{c.Warnings, again.Warnings} {
		if len(warnings) != 1 || !strings.Contains(warnings[0], "ILP_TLS_KEY: everyone on this machine may read "+key) {
			t.Errorf("warnings: %q", warnings)
		}
	}
}

func skipping(want bool) func(*tls.Config) error {
	return func(c *tls.Config) error {
		if c.InsecureSkipVerify != want {
			return fmt.Errorf("skips verification: %v", c.InsecureSkipVerify)
		}
		return nil
	}
}

func notEmpty(p *x509.CertPool) error {
	if p.Equal(x509.NewCertPool()) {
		return fmt.Errorf("no roots")
	}
	return nil
}

func TestTLSRefuses(t *testing.T) {
	ca := certs.CA(t, "test CA")
	caFile, caKey := ca.Files(t)
	cert, _ := ca.Issue(t, "a").Files(t)
	dir := t.TempDir()
	jks := certs.Write(t, filepath.Join(dir, "jks"), []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"))
	text := certs.Write(t, filepath.Join(dir, "text"), []byte("no certificate"))
	for want, environ := range map[string][]string{
		"ILP_TLS_CA: " + jks + " is a Java keystore":            overTLS("ILP_TLS_CA=" + jks),
		"ILP_TLS_CA: " + text + " has no certificate in it":     overTLS("ILP_TLS_CA=" + text),
		"ILP_TLS_CA: it looks like the text of the file":        overTLS("ILP_TLS_CA=-----BEGIN CERTIFICATE-----"),
		"ILP_TLS_CERT: " + cert + " and ILP_TLS_KEY":            overTLS("ILP_TLS_CERT="+cert, "ILP_TLS_KEY="+caKey),
		"ILP_TLS_KEY: cannot open":                              overTLS("ILP_TLS_CERT="+cert, "ILP_TLS_KEY="+dir+"/none"),
		"QDB_CLIENT_CONF: " + jks + " is a Java keystore":       {strings.Replace(confVar("tls_roots="+jks+";"), "tcp::", "tcps::", 1)},
		"QDB_CLIENT_CONF: it has tls_roots or tls_ca, and ILP":  {strings.Replace(confVar("tls_roots="+jks+";"), "tcp::", "tcps::", 1), "ILP_TLS_CA=" + caFile},
		"QDB_CLIENT_CONF: it has tls_verify, and ILP_TLS_UNSAF": {strings.Replace(confVar("tls_verify=unsafe_off;"), "tcp::", "tcps::", 1), "ILP_TLS_UNSAFE_SKIP_VERIFY=true"},
	} {
		if _, err := Load(environ); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
