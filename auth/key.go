package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Key is a key id and the P-256 private key that goes with it. It prints as its
// id and [Redacted]. A Key does not change and may be used concurrently.
type Key struct {
	id string
	// By pointer: fmt does not follow it in a struct's unexported field.
	private *ecdsa.PrivateKey
}

// Generate makes a fresh key pair with the given key id.
func Generate(id string) (*Key, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a P-256 key: %w", err)
	}
	return &Key{id, private}, nil
}

// NewKey makes a key of its id and its private scalar d, which is base64url,
// padded or not: what QuestDB's official clients call username and token.
func NewKey(id string, d Secret) (*Key, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	scalar, err := decodeNumber(d.Reveal())
	if err != nil {
		return nil, fmt.Errorf("private key d: %w", err)
	}
	// The id goes over the wire in the clear, and into the log.
	if strings.Contains(id, strings.TrimRight(d.Reveal(), "=")) {
		return nil, fmt.Errorf("%w: the private key d is in it", ErrKeyID)
	}
	private, err := newPrivate(scalar)
	if err != nil {
		return nil, err
	}
	return &Key{id, private}, nil
}

// ID returns the key id.
func (k *Key) ID() string { return k.id }

// Public returns the public half.
func (k *Key) Public() *PublicKey { return &PublicKey{k.id, &k.private.PublicKey} }

// AuthLine returns the line for QuestDB's auth.txt, without a line end.
func (k *Key) AuthLine() string { return k.Public().AuthLine() }

// Sign signs the challenge (the 512 bytes without their LF): ECDSA with
// SHA-256, as the 64 bytes r||s of IEEE P1363. QuestDB reads a DER signature
// too, but tells the two apart by length alone; 64 bytes are never ambiguous.
func (k *Key) Sign(challenge []byte) ([]byte, error) {
	digest := sha256.Sum256(challenge)
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign the challenge with key %q: %w", k.id, err)
	}
	signature := make([]byte, 2*scalarSize)
	r.FillBytes(signature[:scalarSize])
	s.FillBytes(signature[scalarSize:])
	return signature, nil
}

// IsIn reports whether the private key is in text, in base64 or hex.
func (k *Key) IsIn(text string) bool {
	d, err := k.private.Bytes()
	if err != nil {
		return true // of a key that was made here: never
	}
	return strings.Contains(text, encode(d)) || strings.Contains(text, base64.RawStdEncoding.EncodeToString(d)) ||
		strings.Contains(strings.ToLower(text), hex.EncodeToString(d))
}

// String returns the key id and [Redacted].
func (k Key) String() string { return fmt.Sprintf("key %q %s", k.id, Redacted) }

// Format implements [fmt.Formatter] for all verbs and flags.
func (k Key) Format(f fmt.State, _ rune) { redact(f, k.String()) }

// LogValue implements [slog.LogValuer].
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements [encoding.TextMarshaler]; JSON, XML and YAML use it
// too. It is not the way to save a key: see [Key.MarshalJWK].
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// newPrivate makes a private key of its 32 bytes.
func newPrivate(scalar []byte) (*ecdsa.PrivateKey, error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, errors.New("private key d: not a P-256 scalar (0, or not below the order of the curve)")
	}
	return private, nil
}
