package auth

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestAuthLine(t *testing.T) {
	if got := docKey(t).AuthLine(); got != docLine {
		t.Errorf("got %s\nwant %s", got, docLine)
	}
}

func TestNewKeyTakesEveryFormOfD(t *testing.T) {
	for name, d := range map[string]string{
		"unpadded":          docD,
		"padded":            docD + "=",
		"zero before, Java": "AOVIxDLgND4-aYyvGvn2tuHciH_hLOZmJ8t6BP1prrOP",
	} {
		t.Run(name, func(t *testing.T) {
			key, err := NewKey(docID, NewSecret(d))
			if err != nil {
				t.Fatal(err)
			}
			if got := key.AuthLine(); got != docLine {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestNewKeyRefuses(t *testing.T) {
	const zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	const order = "_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE"
	for name, c := range map[string]struct{ id, d, want string }{
		"no key id":    {"", docD, "empty"},
		"empty d":      {docID, "", "empty"},
		"standard":     {docID, strings.ReplaceAll(docD, "-", "+"), "standard base64"},
		"not base64":   {docID, "§" + docD, "not base64url"},
		"line end":     {docID, docD + "\n", "line end"},
		"cut off":      {docID, docD[:42], "31 bytes"},
		"two of them":  {docID, docD + docD, "bytes"},
		"zero":         {docID, zero, "not a P-256 scalar"},
		"order":        {docID, order, "not a P-256 scalar"},
		"garbage":      {docID, "$", "not base64url"},
		"only padding": {docID, "=", "0 bytes"},
		"d as the id":  {docD, docD, "in it"},
		"d in the id":  {"me:" + docD, docD + "=", "in it"},
		"JWK as id":    {`{"d":"` + docD + `"}`, docD, "looks like a JWK"},
		"d behind id":  {"me " + docD, docD, "not shown"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewKey(c.id, NewSecret(c.d))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want something about %q", err, c.want)
			}
			mustNotShow(t, err.Error())
			if len(c.d) > 10 && strings.Contains(err.Error(), c.d[:10]) {
				t.Errorf("error quotes d: %v", err)
			}
		})
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "testUser1", "a#b", "me@example.org", "x=y,z", `a"b`, strings.Repeat("x", MaxIDLength)} {
		if err := CheckID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", " ", "a b", "a\n", "\ra", "a\tb", "#a", "a\x00", "é", "a\x7f", strings.Repeat("x", MaxIDLength+1)} {
		if err := CheckID(id); !errors.Is(err, ErrKeyID) {
			t.Errorf("%q: got %v, want ErrKeyID", id, err)
		}
		if _, err := Generate(id); !errors.Is(err, ErrKeyID) {
			t.Errorf("Generate(%q): got %v, want ErrKeyID", id, err)
		}
	}
}

func TestSignIsP1363(t *testing.T) {
	key, err := Generate("me")
	if err != nil {
		t.Fatal(err)
	}
	challenge := []byte(strings.Repeat("0123456789abcdef", 32))
	digest := sha256.Sum256(challenge)
	for range 300 { // some have a leading zero in r or s
		signature, err := key.Sign(challenge)
		if err != nil {
			t.Fatal(err)
		}
		if len(signature) != 64 {
			t.Fatalf("signature has %d bytes", len(signature))
		}
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if !ecdsa.Verify(key.Public().ECDSA(), digest[:], r, s) {
			t.Fatalf("signature does not verify: %x", signature)
		}
	}
}

func TestGenerateIsFresh(t *testing.T) {
	a, err := Generate("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Generate("a")
	if err != nil {
		t.Fatal(err)
	}
	if a.private.Equal(b.private) {
		t.Error("two keys are the same")
	}
}
