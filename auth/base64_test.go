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
