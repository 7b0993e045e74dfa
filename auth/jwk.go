package auth

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Errors of reading a JWK; tell them apart with errors.Is.
var (
	ErrNotJWK      = errors.New("not a JWK")
	ErrKeyType     = errors.New("wrong key type")
	ErrCurve       = errors.New("wrong curve")
	ErrAlgorithm   = errors.New("wrong algorithm")
	ErrNoKeyID     = errors.New("JWK without kid")
	ErrNoPrivate   = errors.New("JWK without the private key d")
	ErrKeyMismatch = errors.New("private key d does not belong to the public key x, y")
)

// jwkNames are the members that are looked at before go-jose parses the rest,
// so that each thing that can be wrong has an error of its own.
type jwkNames struct {
	Kty  string          `json:"kty"`
	Crv  string          `json:"crv"`
	Kid  string          `json:"kid"`
	Alg  string          `json:"alg"`
	X    string          `json:"x"`
	Y    string          `json:"y"`
	D    Secret          `json:"d"`
	Keys json.RawMessage `json:"keys"`
}

// ParseJWK reads a private JWK as QuestDB's documentation shows it and as the
// jose command writes it: kty EC, crv P-256, kid, x, y and d.
func ParseJWK(data []byte) (*Key, error) {
	names, err := readNames(data)
	if err != nil {
		return nil, err
	}
	if names.D.IsZero() {
		return nil, fmt.Errorf("%w: it is the public half only; the client needs the whole key", ErrNoPrivate)
	}
	key, err := NewKey(names.Kid, names.D)
	if err != nil {
		return nil, fmt.Errorf("JWK %s: %w", quoteShort(names.Kid), err)
	}
	public, err := names.public()
	if err != nil {
		return nil, err
	}
	if !key.private.PublicKey.Equal(public.key) {
		return nil, fmt.Errorf("JWK %s: %w", quoteShort(names.Kid), ErrKeyMismatch)
	}
	return key, nil
}

// ParsePublicJWK reads the public half of a JWK, which may have d or not. A d
// that does not match x and y is refused all the same.
func ParsePublicJWK(data []byte) (*PublicKey, error) {
	names, err := readNames(data)
	if err != nil {
		return nil, err
	}
	if names.D.IsZero() {
		return names.public()
	}
	key, err := ParseJWK(data)
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// MarshalJWK returns the whole key as a JWK: kty, crv, kid, d, x, y and alg. It
// is the only way on which the private scalar leaves a Key.
func (k *Key) MarshalJWK() ([]byte, error) {
	data, err := jose.JSONWebKey{Key: k.private, KeyID: k.id, Algorithm: string(jose.ES256)}.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("marshal key %q as JWK: %w", k.id, err)
	}
	return data, nil
}

// readNames checks what a JWK says that it is. Errors of encoding/json are not
// passed on: they may quote what they could not read.
func readNames(data []byte) (*jwkNames, error) {
	var names jwkNames
	if err := json.Unmarshal(data, &names); err != nil {
		return nil, fmt.Errorf(`%w: should be a JSON object like {"kty":"EC","crv":"P-256","kid":...,"x":...,"y":...,"d":...}`, ErrNotJWK)
	}
	switch {
	case names.Keys != nil:
		return nil, fmt.Errorf(`%w: it is a JWK set ("keys"); take the one key out of it`, ErrNotJWK)
	case names.Kty == "":
		return nil, fmt.Errorf("%w: it has no kty", ErrNotJWK)
	case names.Kty != "EC":
		return nil, fmt.Errorf("%w: kty is %s, should be %q", ErrKeyType, quoteShort(names.Kty), "EC")
	case names.Crv != "P-256":
		return nil, fmt.Errorf("%w: crv is %s, should be %q", ErrCurve, quoteShort(names.Crv), "P-256")
	case names.Alg != "" && names.Alg != string(jose.ES256):
		return nil, fmt.Errorf("%w: alg is %s, should be %q", ErrAlgorithm, quoteShort(names.Alg), jose.ES256)
	case names.Kid == "":
		return nil, fmt.Errorf("%w: QuestDB looks the key up by it", ErrNoKeyID)
	}
	if err := CheckID(names.Kid); err != nil {
		return nil, err
	}
	return &names, nil
}

// quoteShort quotes a member for an error: members may have been mixed up, and the
// private key be among them.
func quoteShort(text string) string {
	if MayHoldKey(text) {
		return "something that may be a key, and is not shown,"
	}
	return fmt.Sprintf("%.60q", text)
}

// public reads x and y.
func (n *jwkNames) public() (*PublicKey, error) {
	public, err := NewPublicKey(n.Kid, n.X, n.Y)
	if err != nil {
		return nil, fmt.Errorf("JWK %s: %w", quoteShort(n.Kid), err)
	}
	return public, nil
}

// parsePoint makes a public key of its coordinates, 32 bytes each. go-jose
// checks that they are on the curve.
func parsePoint(x, y []byte) (*ecdsa.PublicKey, error) {
	data := fmt.Appendf(nil, `{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, encode(x), encode(y))
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("public key x, y: %w", err)
	}
	key, ok := jwk.Key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("public key x, y: read as %T", jwk.Key)
	}
	return key, nil
}
