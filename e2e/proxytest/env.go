package proxytest

import (
	"encoding/json"
	"maps"
	"os"
	"strings"

	"questdb-ilp-proxy/auth"
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

// secrets returns what must never be seen in the proxy's output.
func (e Env) secrets() []string {
	var secrets []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			secrets = append(secrets, s)
		}
	}
	add(strings.TrimRight(e["ILP_AUTH_KEY"], "="))
	jwks := []string{e["ILP_AUTH_JWK"]}
	if path := e["ILP_AUTH_JWK_FILE"]; path != "" {
		text, _ := os.ReadFile(path) // the proxy says what is wrong with it
		jwks = append(jwks, string(text))
	}
	for _, text := range jwks {
		var jwk struct{ D string }
		if json.Unmarshal([]byte(text), &jwk) == nil {
			add(strings.TrimRight(jwk.D, "="))
		}
	}
	if path := e["ILP_AUTH_KEY_FILE"]; path != "" {
		text, _ := os.ReadFile(path)
		add(strings.TrimRight(strings.TrimSpace(string(text)), "="))
	}
	if path := e["ILP_TLS_KEY"]; path != "" {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "-----") && len(line) > 40 {
				add(line)
			}
		}
	}
	for field := range strings.SplitSeq(e["QDB_CLIENT_CONF"], ";") {
		if token, ok := strings.CutPrefix(field, "token="); ok {
			add(strings.TrimRight(token, "="))
		}
	}
	return secrets
}
