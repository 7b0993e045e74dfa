package auth

import (
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// docJWK is the JWK as QuestDB's documentation shows it; with alters some of
// its members, nil removes one.
func docJWK(t testing.TB, with map[string]any) []byte {
	t.Helper()
	members := map[string]any{"kty": "EC", "d": docD, "crv": "P-256", "kid": docID, "x": docX, "y": docY}
	for name, value := range with {
		if value == nil {
			delete(members, name)
		} else {
			members[name] = value
		}
	}
	data, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseJWK(t *testing.T) {
	for name, with := range map[string]map[string]any{
		"documentation":       nil,
		"jose jwk gen":        {"alg": "ES256", "key_ops": []string{"sign", "verify"}},
		"padded":              {"d": docD + "=", "x": docX + "=", "y": docY + "="},
		"zeros before":        {"x": "AHyymBGqBG_Za5955MCwwPjP8Z7hTnUrfctGe_71khy1"},
		"members of no sense": {"use": "sig", "x5t": "whatever", "foo": 1},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ParseJWK(docJWK(t, with))
			if err != nil {
				t.Fatal(err)
			}
			if key.ID() != docID || key.AuthLine() != docLine {
				t.Errorf("got %s", key.AuthLine())
			}
			public, err := ParsePublicJWK(docJWK(t, with))
			if err != nil || public.AuthLine() != docLine {
				t.Errorf("public half: %v, %v", public, err)
			}
		})
	}
}

func TestParseJWKRefuses(t *testing.T) {
	other, err := Generate(docID)
	if err != nil {
		t.Fatal(err)
	}
	x, y := other.Public().coordinates()
	for name, c := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"nothing":         {nil, ErrNotJWK, ""},
		"not JSON":        {[]byte(docD), ErrNotJWK, ""},
		"a list":          {[]byte("[]"), ErrNotJWK, ""},
		"cut off":         {docJWK(t, nil)[:60], ErrNotJWK, ""},
		"trailing":        {append(docJWK(t, nil), "{}"...), ErrNotJWK, ""},
		"number for d":    {docJWK(t, map[string]any{"d": 5}), ErrNotJWK, ""},
		"a set":           {[]byte(`{"keys":[]}`), ErrNotJWK, "set"},
		"no kty":          {docJWK(t, map[string]any{"kty": nil}), ErrNotJWK, "kty"},
		"RSA":             {docJWK(t, map[string]any{"kty": "RSA"}), ErrKeyType, "RSA"},
		"P-384":           {docJWK(t, map[string]any{"crv": "P-384"}), ErrCurve, "P-384"},
		"secp256k1":       {docJWK(t, map[string]any{"crv": "secp256k1"}), ErrCurve, "secp256k1"},
		"ES384":           {docJWK(t, map[string]any{"alg": "ES384"}), ErrAlgorithm, "ES384"},
		"no kid":          {docJWK(t, map[string]any{"kid": nil}), ErrNoKeyID, ""},
		"kid with space":  {docJWK(t, map[string]any{"kid": "a b"}), ErrKeyID, "white space"},
		"no d":            {docJWK(t, map[string]any{"d": nil}), ErrNoPrivate, "public half"},
		"no x":            {docJWK(t, map[string]any{"x": nil}), nil, "x: it is empty"},
		"short y":         {docJWK(t, map[string]any{"y": docY[:20]}), nil, "y: it has 15 bytes"},
		"off the curve":   {docJWK(t, map[string]any{"x": docY}), nil, "curve"},
		"d of another":    {docJWK(t, map[string]any{"x": encode(x), "y": encode(y)}), ErrKeyMismatch, ""},
		"y of the mirror": {docJWK(t, map[string]any{"y": mirror(t)}), ErrKeyMismatch, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseJWK(c.data)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want %v and %q", err, c.want, c.text)
			}
			mustNotShow(t, err.Error())
		})
	}
}

// mirror is the other y that goes with the documentation's x: p - y.
func mirror(t *testing.T) string {
	t.Helper()
	y, err := decodeNumber(docY)
	if err != nil {
		t.Fatal(err)
	}
	other := new(big.Int).Sub(elliptic.P256().Params().P, new(big.Int).SetBytes(y))
	return encode(other.FillBytes(make([]byte, scalarSize)))
}

func TestMarshalJWKIsReadByOthersAndUs(t *testing.T) {
	key := docKey(t)
	data, err := key.MarshalJWK()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]string
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(members))
	if !slices.Equal(names, []string{"alg", "crv", "d", "kid", "kty", "x", "y"}) {
		t.Errorf("members are %v", names)
	}
	if members["d"] != docD || members["x"] != docX || members["y"] != docY || members["alg"] != "ES256" {
		t.Errorf("got %v", members)
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(data); err != nil || !jwk.Valid() || jwk.IsPublic() || jwk.KeyID != docID {
		t.Errorf("go-jose reads %v, %v", jwk.KeyID, err)
	}
	again, err := ParseJWK(data)
	if err != nil || !again.private.Equal(key.private) {
		t.Errorf("we read another key: %v", err)
	}
}

func TestPublicJWK(t *testing.T) {
	public, err := ParsePublicJWK(docJWK(t, map[string]any{"d": nil}))
	if err != nil || public.ID() != docID || public.String() != docLine {
		t.Errorf("got %v, %v", public, err)
	}
	other := docJWK(t, map[string]any{"d": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"})
	if _, err := ParsePublicJWK(other); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("got %v, want ErrKeyMismatch", err)
	}
	if _, err := ParsePublicJWK(nil); !errors.Is(err, ErrNotJWK) {
		t.Errorf("got %v, want ErrNotJWK", err)
	}
}
