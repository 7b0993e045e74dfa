package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	// An image from scratch has no roots; these are Mozilla's, as of the build.
	_ "golang.org/x/crypto/x509roots/fallback"
)

// maxPEMFile bounds what is read of a file of certificates: a system's whole bundle
// is a quarter of that.
const maxPEMFile = 1 << 20

// sessions is how many TLS sessions are kept for resumption: one for each server
// name is enough, and there are few of them.
const sessions = 64

// Roots is which certificate authorities are trusted.
type Roots int

// The roots.
const (
	SystemRoots  Roots = iota // the operating system's; Mozilla's where it has none
	MozillaRoots              // those that the proxy was built with
	AllRoots                  // both
)

// resolveTLS makes c.TLS of the variables, if the upstream is one for TLS.
func (c *Config) resolveTLS(set map[string]bool, problems *Errors) {
	inConf := !c.ClientConf.IsZero()
	if !c.UpstreamTLS {
		for _, name := range []string{"ILP_TLS_CA", "ILP_TLS_SERVER_NAME", "ILP_TLS_CERT", "ILP_TLS_KEY", "ILP_TLS_UNSAFE_SKIP_VERIFY"} {
			if name == "ILP_TLS_UNSAFE_SKIP_VERIFY" && !c.TLSUnsafeSkipVerify {
				continue // its default, as in the file of config --example
			}
			if set[name] && problems.ok("ILP_UPSTREAM", "QDB_CLIENT_CONF", name) {
				upstream := "ILP_UPSTREAM is not tcps://"
				if inConf {
					upstream = "QDB_CLIENT_CONF is not tcps::"
				}
				problems.add(name, "it is set, and "+upstream+", so there is no TLS", "not set; or TLS to QuestDB")
			}
		}
		return
	}
	before := len(*problems)
	if c.TLSServerName != "" {
		if err := checkHost(c.TLSServerName); err != nil {
			problems.add("ILP_TLS_SERVER_NAME", err.Error(), "")
		}
	}
	if set["ILP_TLS_CERT"] != set["ILP_TLS_KEY"] {
		missing, there := "ILP_TLS_KEY", "ILP_TLS_CERT"
		if set["ILP_TLS_KEY"] {
			missing, there = there, missing
		}
		problems.add(missing, "not set, and "+there+" needs it", "")
	}
	if c.SkipVerify() {
		c.warn("%s: QuestDB's certificate is not verified, so that whoever is between can read and change everything", c.skipVar())
		if set["ILP_TLS_CA"] {
			problems.add("ILP_TLS_CA", "it is set, and "+c.skipVar()+" has nothing verified", "one of the two only")
		}
	}
	if len(*problems) > before {
		return
	}
	c.TLS = c.loadTLS(problems)
}

// SkipVerify reports whether QuestDB's certificate is not verified.
func (c *Config) SkipVerify() bool { return bool(c.TLSUnsafeSkipVerify) || c.conf.SkipVerify }

// skipVar is which variable says so.
func (c *Config) skipVar() string {
	if c.conf.SkipVerify {
		return "QDB_CLIENT_CONF: tls_verify=unsafe_off"
	}
	return "ILP_TLS_UNSAFE_SKIP_VERIFY"
}

// loadTLS reads the files and makes of them what connections need.
func (c *Config) loadTLS(problems *Errors) *tls.Config {
	out := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: c.TLSServerName,
		// All connections share it, so that a pool does not pay a full handshake for
		// each. A new one for each set of files: what was trusted before does not count.
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
		InsecureSkipVerify: c.SkipVerify(),
	}
	var err error
	switch {
	case c.SkipVerify():
	case c.TLSCA != "":
		out.RootCAs = c.readRoots("ILP_TLS_CA", c.TLSCA, problems)
	case c.conf.RootsFile != "":
		out.RootCAs = c.readRoots("QDB_CLIENT_CONF", c.conf.RootsFile, problems)
	default:
		if out.RootCAs, err = roots(c.conf.Roots); err != nil {
			problems.add("ILP_TLS_CA", fmt.Sprintf("not set, and the system's certificate authorities cannot be read: %s", err), "")
		}
	}
	if c.TLSCert != "" {
		if pair, ok := c.readPair(problems); ok {
			out.Certificates = []tls.Certificate{pair}
		}
	}
	return out
}

// roots are those that are not in a file of ours.
func roots(which Roots) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if which != MozillaRoots {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			return nil, err
		}
	}
	if which == SystemRoots {
		return pool, nil
	}
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, err
		}
		if root.Constraint != nil {
			pool.AddCertWithConstraint(cert, root.Constraint)
		} else {
			pool.AddCert(cert)
		}
	}
	return pool, nil
}

// readRoots reads a file of certificate authorities.
func (c *Config) readRoots(name, path string, problems *Errors) *x509.CertPool {
	data, ok := c.readPEM(name, path, problems)
	if !ok {
		return nil
	}
	pool, n := x509.NewCertPool(), 0
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			problems.add(name, fmt.Sprintf("certificate %d in %s cannot be read: %s", n+1, path, err), "")
			return nil
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		problem := path + " has no certificate in it (-----BEGIN CERTIFICATE-----)"
		if isKeystore(data) {
			problem = path + " is a Java keystore or PKCS#12 file, which only Java reads"
		}
		problems.add(name, problem, "a PEM file; "+fromKeystore)
		return nil
	}
	return pool
}

// fromKeystore says how a Java keystore becomes a file that others can read.
const fromKeystore = "of a Java keystore, `keytool -exportcert -rfc -keystore FILE -alias NAME` makes one"

// isKeystore reports whether data begins as a JKS (or JCEKS) file does, or as DER,
// which PKCS#12 is.
func isKeystore(data []byte) bool {
	for _, magic := range []string{"\xfe\xed\xfe\xed", "\xce\xce\xce\xce", "\x30\x82"} {
		if strings.HasPrefix(string(data), magic) {
			return true
		}
	}
	return false
}

// tlsKey is the variable whose PEM file is a secret.
const tlsKey = "ILP_TLS_KEY"

// readPair reads the client's certificate and its key.
func (c *Config) readPair(problems *Errors) (tls.Certificate, bool) {
	cert, ok := c.readPEM("ILP_TLS_CERT", c.TLSCert, problems)
	key, keyOK := c.readPEM(tlsKey, c.TLSKey, problems)
	if !ok || !keyOK {
		return tls.Certificate{}, false
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		problems.add("ILP_TLS_CERT", fmt.Sprintf("%s and ILP_TLS_KEY, %s, are no certificate with its key: %s", c.TLSCert, c.TLSKey,
			strings.TrimPrefix(err.Error(), "tls: ")), "a PEM file that begins with the certificate that ILP_TLS_KEY belongs to")
		return tls.Certificate{}, false
	}
	return pair, true
}

// readPEM reads a file of certificates or keys.
func (c *Config) readPEM(name, path string, problems *Errors) ([]byte, bool) {
	if strings.Contains(path, "-----BEGIN") {
		problems.add(name, "it looks like the text of the file itself", "the path of the file")
		return nil, false
	}
	file, ok := openFile(name, path, problems)
	if !ok {
		return nil, false
	}
	defer file.Close()
	if name == tlsKey {
		c.warnIfOpen(name, path, file)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxPEMFile+1))
	switch {
	case err != nil:
		problems.add(name, fmt.Sprintf("cannot read %s: %s", shorten(path), errors.Unwrap(err)), "")
	case len(data) > maxPEMFile:
		problems.add(name, path+" is larger than 1MiB", "")
	default:
		return data, true
	}
	return nil, false
}
