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
