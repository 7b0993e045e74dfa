package auth

import (
	"strings"
	"testing"
)

func TestLooksLikeKey(t *testing.T) {
	for text, want := range map[string]bool{
		strings.Repeat("w", 43):                   true,
		strings.Repeat("w", 43) + "=":             true,
		strings.Repeat("w", 40) + "+/w":           true, // the other alphabet
		strings.Repeat("-_", 20):                  true, // cut off
		`{"kty":"EC"}`:                            true,
		"tcp::addr=h;username=u;token=AAAA;":      true,
		"":                                        false,
		"writer.jwk":                              false,
		"/run/secrets/" + strings.Repeat("w", 43): false,
		"some-folder-with-a-long-name-in-it/writer.jwk": false,
		"a-file-with-an-uncommonly-long-name.jwk":       false,
		"questdb:9009": false,
	} {
		if got := LooksLikeKey(text); got != want {
			t.Errorf("LooksLikeKey(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestMayHoldKey(t *testing.T) {
	word := strings.Repeat("w", 43)
	for text, want := range map[string]bool{
		word:                           true,
		"./" + word:                    true,
		"tcp://me:" + word + "@h:9009": true,
		"me " + word + "=":             true,
		`x "d":"` + word[1:] + `"`:     true,
		"/run/secrets/writer.jwk":      false,
		"":                             false,
		"a-name-of-a-host-with-a-very-long-first-label-in-it.example:9009": false,
		"/run/" + word[:42] + "/" + word + "w":                             false, // no key has this length
	} {
		if got := MayHoldKey(text); got != want {
			t.Errorf("MayHoldKey(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestHideKeys(t *testing.T) {
	hex := "e548c432e0343e3e698caf1af9f6b6e1dc887fe12ce66627cb7a04fd69aeb38f"
	for text, want := range map[string]string{
		"":                                "",
		"open " + docD + ": no such file": "open [redacted]: no such file",
		"tokn=" + docD[:33] + ";":         "[redacted];", // cut off
		"--" + hex + " " + docD + "=":     "[redacted] [redacted]",
		"/etc/" + docD + "/x.jwk":         "[redacted].jwk",
		`{\"kid\":1,\"d\": [229 72]}`:     "[redacted]",
		"open /var/lib/questdb-ilp-proxy-production-eu-west-1/writer.jwk: no":                         "open /var/lib/questdb-ilp-proxy-production-eu-west-1/writer.jwk: no",
		"/Users/Somebody/Library/ApplicationSupport/Proxy/Key1/writer.jwk":                            "/Users/Somebody/Library/ApplicationSupport/Proxy/Key1/writer.jwk",
		"ILP_AUTH_KEY_FILE, ILP_TLS_UNSAFE_SKIP_VERIFY=unsafe and 20261124-1200-00000000000000000000": "ILP_AUTH_KEY_FILE, ILP_TLS_UNSAFE_SKIP_VERIFY=unsafe and 20261124-1200-00000000000000000000",
	} {
		if got := HideKeys(text); got != want {
			t.Errorf("HideKeys(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestIsIn(t *testing.T) {
	key := docKey(t)
	for text, want := range map[string]bool{
		docD: true, "/" + docD + ".": true, strings.NewReplacer("-", "+", "_", "/").Replace(docD): true,
		"E548C432E0343E3E698CAF1AF9F6B6E1DC887FE12CE66627CB7A04FD69AEB38F": true,
		"": false, key.AuthLine(): false, docD[:42]: false,
	} {
		if got := key.IsIn(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestMixedUpMembers has d in the place of each other member of a JWK.
func TestMixedUpMembers(t *testing.T) {
	for member, value := range map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "testUser1"} {
		mixed := strings.NewReplacer(`"`+value+`"`, `"`+docD+`"`, docD, value).Replace(string(docJWK(t, nil)))
		if _, err := ParseJWK([]byte(mixed)); err == nil {
			t.Errorf("%s: no error", member)
		} else if strings.Contains(err.Error(), docD[:8]) {
			t.Errorf("%s: %v", member, err)
		}
	}
}
