package proxytest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"strings"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/secrets"
)

// Env is a configuration: the variables that the proxy is given, and no others
// but PATH, HOME and GORACE. [Start] adds listening ports of the kernel's choice where it
// names none.
type Env map[string]string

// EnvFor is the configuration for one key and the servers at upstream, host:port
// each, in order of preference.
func EnvFor(key *auth.Key, upstream ...string) Env {
	jwk, err := key.MarshalJWK()
	if err != nil {
		panic(err) // a key that was made by this process
	}
	return Env{"ILP_UPSTREAM": strings.Join(upstream, ","), "ILP_AUTH_JWK": string(jwk),
		"ILP_CONFIRM_INTERVAL": "500ms"} // most tests end when all is settled
}

// With returns a copy of e with further variables, given as name, value, name,
// value.
func (e Env) With(pairs ...string) Env {
	e = maps.Clone(e)
	for i := 0; i < len(pairs); i += 2 {
		e[pairs[i]] = pairs[i+1]
	}
	return e
}

// complete returns what the process is given.
func (e Env) complete() Env {
	c := Env{
		"PATH":       os.Getenv("PATH"),
		"HOME":       os.Getenv("HOME"),
		"GORACE":     "atexit_sleep_ms=0", // else it stays for a second more at its end
		"ILP_LISTEN": "tcp://127.0.0.1:0",
		"ILP_ADMIN":  "127.0.0.1:0",
	}
	maps.Copy(c, e)
	return c
}

func (e Env) list() []string {
	var list []string
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	return list
}

// hide adds what must never be seen in the proxy's output: the secrets that the
// variables hold, and those in the files that they name, as they are now.
func (e Env) hide(set *secrets.Set) {
	e.hideScalar(set, "ILP_AUTH_KEY", e["ILP_AUTH_KEY"])
	e.hideScalar(set, "ILP_AUTH_KEY_FILE", e.file("ILP_AUTH_KEY_FILE"))
	for name, text := range map[string]string{"ILP_AUTH_JWK": e["ILP_AUTH_JWK"], "ILP_AUTH_JWK_FILE": e.file("ILP_AUTH_JWK_FILE")} {
		var jwk struct{ D string }
		if json.Unmarshal([]byte(text), &jwk) == nil {
			e.hideScalar(set, name, jwk.D)
		}
	}
	for field := range strings.SplitSeq(e["QDB_CLIENT_CONF"], ";") {
		if token, ok := strings.CutPrefix(field, "token="); ok {
			e.hideScalar(set, "QDB_CLIENT_CONF", token)
		}
	}
	if block, _ := pem.Decode([]byte(e.file("ILP_TLS_KEY"))); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if ec, ok := key.(*ecdsa.PrivateKey); ok {
				if d, err := ec.Bytes(); err == nil {
					set.AddKey("the key in ILP_TLS_KEY", d)
				}
			}
		}
	}
	set.AddText("ILP_ADMIN_TOKEN", e["ILP_ADMIN_TOKEN"])
	set.AddText("the token in ILP_ADMIN_TOKEN_FILE", strings.TrimSpace(e.file("ILP_ADMIN_TOKEN_FILE")))
}

// hideScalar adds a private d, as it is written and as it is.
func (e Env) hideScalar(set *secrets.Set, name, d string) {
	d = strings.TrimRight(strings.TrimSpace(d), "=")
	set.AddText("d of "+name, d)
	if raw, err := base64.RawURLEncoding.DecodeString(d); err == nil && len(raw) >= 16 {
		set.AddKey("d of "+name, raw)
	}
}

// file returns what is in the file that a variable names; the proxy says what is wrong
// with it.
func (e Env) file(name string) string {
	text, _ := os.ReadFile(e[name])
	return string(text)
}
