package config

import (
	"crypto/tls"

	"questdb-ilp-proxy/auth"
)

// Credentials are what may change while the proxy runs.
type Credentials struct {
	Key      *auth.Key
	TLS      *tls.Config // nil: without TLS
	Warnings []string    // as Config's
}

// Files returns the paths of the files that hold credentials.
func (c *Config) Files() []string {
	var files []string
	paths := []string{c.AuthKeyFile, c.AuthJWKFile}
	if c.TLS != nil {
		paths = append(paths, c.TLSCA, c.TLSCert, c.TLSKey)
		if !c.SkipVerify() {
			paths = append(paths, c.conf.RootsFile)
		}
	}
	for _, path := range paths {
		if path != "" {
			files = append(files, path)
		}
	}
	return files
}

// Reload reads the files again. If anything in them is wrong the error is [Errors],
// with all of it, as from [Load]. It leaves c as it is.
func (c *Config) Reload() (Credentials, error) {
	fresh := *c
	fresh.Warnings = nil
	var problems Errors
	switch {
	case c.AuthJWKFile != "":
		if jwk, ok := fresh.readSecret("ILP_AUTH_JWK_FILE", c.AuthJWKFile, &problems); ok {
			fresh.keyOfJWK("ILP_AUTH_JWK_FILE", jwk, &problems)
		}
	case c.AuthKeyFile != "":
		if d, ok := fresh.readSecret("ILP_AUTH_KEY_FILE", c.AuthKeyFile, &problems); ok {
			fresh.keyOfScalar("ILP_AUTH_KEY_FILE", d, &problems)
		}
	}
	if c.TLS != nil {
		fresh.TLS = fresh.loadTLS(&problems)
	}
	if err := problems.err(); err != nil {
		return Credentials{}, err
	}
	return Credentials{Key: fresh.Key, TLS: fresh.TLS, Warnings: fresh.Warnings}, nil
}
