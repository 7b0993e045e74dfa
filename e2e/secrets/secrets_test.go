package secrets

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
)

// random returns bytes that are the same in each run.
func random(seed string) []byte {
	sum := sha256.Sum256([]byte(seed))
	return sum[:]
}

// writings are the ways in which a program may come to write a key.
func writings(t *testing.T, key []byte) map[string]string {
	t.Helper()
	asJSON := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	backwards := bytes.Clone(key)
	for i, c := range key {
		backwards[len(key)-1-i] = c
	}
	url64 := base64.RawURLEncoding.EncodeToString(key)
	jwk := asJSON(map[string]string{"kty": "EC", "d": url64})
	return map[string]string{
		"raw":                 string(key),
		"base64url":           url64,
		"base64url, padded":   base64.URLEncoding.EncodeToString(key),
		"base64":              base64.RawStdEncoding.EncodeToString(key),
		"base64, padded":      base64.StdEncoding.EncodeToString(key),
		"base64 behind one":   base64.StdEncoding.EncodeToString(append([]byte("x"), key...)),
		"base64 behind two":   base64.StdEncoding.EncodeToString(append([]byte("xy"), key...)),
		"JWK":                 jwk,
		"JWK quoted":          fmt.Sprintf("%q", jwk),
		"JWK in base64":       base64.StdEncoding.EncodeToString([]byte(jwk)),
		"JWK in hex":          hex.EncodeToString([]byte(jwk)),
		"JWK in JSON":         asJSON(jwk),
		"JWK as bytes":        fmt.Sprint([]byte(jwk)),
		"JWK in a URL":        url.QueryEscape(jwk),
		"DER in PEM":          string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: append([]byte("a header"), key...)})),
		"hex":                 hex.EncodeToString(key),
		"HEX":                 fmt.Sprintf("%X", key),
		"hex with spaces":     fmt.Sprintf("% x", key),
		"hex with 0x":         fmt.Sprintf("%# x", key),
		"hex dump":            hex.Dump(key),
		"hex as openssl":      strings.ReplaceAll(fmt.Sprintf("% x", key), " ", ":"),
		"number":              new(big.Int).SetBytes(key).String(),
		"number in hex":       fmt.Sprintf("%#x", new(big.Int).SetBytes(key)),
		"number's words":      fmt.Sprint(new(big.Int).SetBytes(key).Bits()),
		"%v":                  fmt.Sprint(key),
		"%+v of a struct":     fmt.Sprintf("%+v", struct{ d []byte }{key}),
		"%#v":                 fmt.Sprintf("%#v", key),
		"%#v of an array":     fmt.Sprintf("%#v", [32]byte(key)),
		"%q":                  fmt.Sprintf("%q", key),
		"%+q":                 fmt.Sprintf("%+q", key),
		"JSON":                asJSON(key),
		"JSON of an array":    asJSON([32]byte(key)),
		"URL":                 url.QueryEscape(string(key)),
		"backwards":           hex.EncodeToString(backwards),
		"backwards, a word":   fmt.Sprintf("f(0x%x, 0x1)", backwards[8:16]),
		"a stack's arguments": fmt.Sprintf("f({%#x, %#x, %#x, %#x, %#x, %#x, %#x, %#x, ...})", key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7]),
		"cut off":             url64[:22],
		"begins late":         url64[20:],
	}
}

func TestKey(t *testing.T) {
	key := random("the key")
	key[3], key[20] = 0, 7 // of which some writings leave something out
	var s, other Set
	s.AddKey("d", key)
	s.AddText("d", base64.RawURLEncoding.EncodeToString(key))
	other.AddKey("d", random("another key"))
	other.AddText("d", base64.RawURLEncoding.EncodeToString(random("another key")))
	for name, text := range writings(t, key) {
		if found := s.Find("before " + text + " behind"); len(found) == 0 || !strings.HasPrefix(found[0], "d") {
			t.Errorf("%s: not found (%s) in %q", name, found, text)
		}
		if found := other.Find("before " + text + " behind"); len(found) > 0 {
			t.Errorf("%s: another key is found: %s", name, found)
		}
	}
	if found := new(Set).Find("anything"); found != nil {
		t.Errorf("an empty set finds %s", found)
	}
}

func TestText(t *testing.T) {
	var s Set
	s.AddText("token", "a-token-of-sixteen")
	s.AddText("long", strings.Repeat("0123456789", 4))
	s.AddText("short", "1234567") // nothing that could be looked for
	for text, want := range map[string]bool{
		"Bearer a-token-of-sixteen": true, "a-token-of": false, "612d746f6b656e2d6f662d7369787465656e": true,
		base64.StdEncoding.EncodeToString([]byte("user:a-token-of-sixteen")): true,
		"01234567890123456789": true, "0123456789": false, "1234567": false, "": false, "a": false,
	} {
		if found := s.Find(text); (len(found) > 0) != want {
			t.Errorf("%q: found %q", text, found)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	var s Set
	s.AddKey("d", random("the key"))
	text := strings.Repeat(`{"time":"2026-01-01T00:00:00Z","level":"DEBUG","msg":"connection to QuestDB ready","addr":"127.0.0.1:9009"}`+"\n", 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if s.Find(text) != nil {
			b.Fatal("found")
		}
	}
}
