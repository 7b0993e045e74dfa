package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/e2e/secrets"
)

const docD = "5UjEMuA0Pj5pjK8a-fa24dyIf-Es5mYny3oE_Wmus48"

// docSecrets finds the documentation's key, and a token.
func docSecrets(t *testing.T, token string) *secrets.Set {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(docD)
	if err != nil {
		t.Fatal(err)
	}
	s := &secrets.Set{}
	s.AddKey("d", raw)
	s.AddText("d", docD)
	s.AddText("token", token)
	if s.Find(docJWK) == nil || s.Find(token) == nil {
		t.Fatal("what is looked for is not found where it is")
	}
	return s
}

// TestSecretInTheWrongPlace has the key, in each form, as the value of every variable, as
// every argument, and in files that should hold something else: no command shows it.
func TestSecretInTheWrongPlace(t *testing.T) {
	const token = "fb2c95d0a7e84c1f93-token"
	found := docSecrets(t, token)
	raw, _ := base64.RawURLEncoding.DecodeString(docD)
	forms := map[string]string{
		"d": docD, "padded": docD + "=", "standard base64": base64.StdEncoding.EncodeToString(raw), "hex": hex.EncodeToString(raw), "JWK": docJWK,
		"within": "/etc/" + docD + "/x", "host": docD + ":9009", "JWK, quoted": fmt.Sprintf("%q", docJWK), "JWK in base64": base64.StdEncoding.EncodeToString([]byte(docJWK)),
		"string": "tcp::addr=h:1;username=u;token=" + docD + ";", "broken string": "tcp::addr=h:1;usrname=u;tokn=" + docD + ";",
		"PEM": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})), "URL": "http://u:" + docD + "@h:1/",
	}
	broken := map[string]string{
		"kid and d in each other's place":   strings.NewReplacer("testUser1", docD, docD, "testUser1").Replace(docJWK),
		"crv and d in each other's place":   strings.NewReplacer("P-256", docD, docD, "P-256").Replace(docJWK),
		"kty and d in each other's place":   strings.NewReplacer(`"EC"`, `"`+docD+`"`, docD, "EC").Replace(docJWK),
		"alg and d in each other's place":   strings.NewReplacer("ES256", docD, docD, "ES256").Replace(docJWK),
		"x and d in each other's place":     strings.NewReplacer("fLKYEaoEb9lrn3nkwLDA-M_xnuFOdSt9y0Z7_vWSHLU", docD, docD, "fLKYEaoEb9lrn3nkwLDA-M_xnuFOdSt9y0Z7_vWSHLU").Replace(docJWK),
		"a member's name":                   strings.Replace(docJWK, `"alg"`, `"`+docD+`"`, 1),
		"d as a number":                     strings.Replace(docJWK, `"`+docD+`"`, fmt.Sprint(raw), 1),
		"cut off":                           docJWK[:80],
		"a set":                             `{"keys":[` + docJWK + `]}`,
		"in an array":                       `[` + docJWK + `]`,
		"another public key":                strings.Replace(docJWK, "fLKYEaoEb9lrn3nkwLDA", "AAAAAAAAAAAAAAAAAAAA", 1),
		"with d twice, the second one good": strings.Replace(docJWK, `{`, `{"d":"`+docD[:40]+`",`, 1),
	}
	dir := t.TempDir()
	right := map[string]string{"ILP_UPSTREAM": "127.0.0.1:1", "ILP_AUTH_JWK": docJWK, "ILP_ADMIN_TOKEN": token}
	all := maps.Clone(forms)
	maps.Copy(all, broken)
	for form, value := range all {
		file := filepath.Join(dir, strings.NewReplacer("/", "", " ", "", "'", "").Replace(form))
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, v := range config.Variables() {
			holdsKey, namesFile := strings.HasPrefix(v.Name, "ILP_AUTH_"), strings.HasSuffix(v.Name, "_FILE")
			if _, isBroken := broken[form]; isBroken && !holdsKey && v.Name != "ILP_LISTEN" {
				continue // ILP_LISTEN stands for them all
			}
			env := maps.Clone(right)
			values := []string{value}
			switch {
			case holdsKey:
				delete(env, "ILP_AUTH_JWK")
				if !strings.Contains(v.Name, "JWK") {
					env["ILP_AUTH_KEY_ID"] = "u"
				}
			case strings.HasPrefix(v.Name, "ILP_TLS_"):
				namesFile = true
				env["ILP_UPSTREAM"] = "tcps://127.0.0.1:1"
			}
			if namesFile {
				values = append(values, file)
			}
			for i, value := range values {
				env[v.Name] = value
				var environ []string
				for name, value := range env {
					environ = append(environ, name+"="+value)
				}
				got := runIn(t, environ, "config")
				if leaks := found.Find(got.stdout + "\n" + got.stderr); len(leaks) > 0 {
					t.Errorf("%s=(%s), or its file (%d): %q are shown: %.2000s", v.Name, form, i, leaks, got.stdout+got.stderr)
				}
			}
		}
		for _, args := range [][]string{
			{value}, {"serve", value}, {"config", value}, {"check", value}, {"--" + value}, {"check", "--" + value}, {"check", "--http", value}, {"check", "--timeout", value},
			{"authline", value}, {"authline", file}, {"replay", value}, {"replay", file}, {"replay", "--to", value, file}, {"replay", "--reason", value, file},
			{"keygen", "--kid", value}, {"keygen", "--kid", "u", "--out", filepath.Join(dir, "no", value)}, {"health", value}, {"wait", "--timeout", value}, {"version", value},
		} {
			got := runIn(t, []string{"ILP_ADMIN=127.0.0.1:1"}, args...)
			if args[0] == "keygen" && got.code == ExitOK {
				continue // it shows the key that it has made, by that name
			}
			if leaks := found.Find(got.stderr + "\n" + got.stdout); len(leaks) > 0 {
				t.Errorf("(%s) as an argument of %.20q: %q are shown: %.3000s", form, slices.DeleteFunc(args, func(a string) bool { return strings.Contains(a, value) }), leaks, got.stderr)
			}
		}
	}
}
