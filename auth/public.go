package auth

import (
	"crypto/ecdsa"
	"fmt"
)

// PublicKey is a key id and the P-256 public key that goes with it: what
// QuestDB knows of a client.
type PublicKey struct {
	id  string
	key *ecdsa.PublicKey
}

// NewPublicKey makes a public key of its id and its coordinates, which are
// base64url, padded or not: what QuestDB's clients call token_x and token_y.
func NewPublicKey(id, x, y string) (*PublicKey, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	xBytes, err := decodeNumber(x)
	if err != nil {
		return nil, fmt.Errorf("public key x: %w", err)
	}
	yBytes, err := decodeNumber(y)
	if err != nil {
		return nil, fmt.Errorf("public key y: %w", err)
	}
	key, err := parsePoint(xBytes, yBytes)
	if err != nil {
		return nil, err
	}
	return &PublicKey{id, key}, nil
}

// ID returns the key id.
func (p *PublicKey) ID() string { return p.id }

// ECDSA returns the public key itself.
func (p *PublicKey) ECDSA() *ecdsa.PublicKey { return p.key }

// AuthLine returns the line for QuestDB's auth.txt, without a line end: key id,
// "ec-p-256-sha256", x and y in base64url without padding.
func (p *PublicKey) AuthLine() string {
	x, y := p.coordinates()
	return fmt.Sprintf("%s ec-p-256-sha256 %s %s", p.id, encode(x), encode(y))
}

// String returns the same as [PublicKey.AuthLine].
func (p *PublicKey) String() string { return p.AuthLine() }

// coordinates returns x and y, 32 bytes each.
func (p *PublicKey) coordinates() (x, y []byte) {
	point, err := p.key.Bytes() // 0x04, x, y
	if err != nil {
		// Only a key that is not a point of its curve fails here, and every
		// way to make a PublicKey has checked that.
		panic("auth: public key is not on its curve: " + err.Error())
	}
	return point[1 : 1+scalarSize], point[1+scalarSize:]
}
