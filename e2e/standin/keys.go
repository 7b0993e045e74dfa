package standin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
)

// parseAuthLine reads one line of QuestDB's auth.txt: "kid ec-p-256-sha256 X Y".
// It shares no code with the side that signs.
func parseAuthLine(line string) (id string, key *ecdsa.PublicKey, err error) {
	f := strings.Fields(line)
	if len(f) != 4 || f[1] != "ec-p-256-sha256" {
		return "", nil, fmt.Errorf("auth.txt: %q is not 'kid ec-p-256-sha256 X Y'", line)
	}
	point := []byte{4} // uncompressed
	for _, text := range f[2:] {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(b) > 32 {
			return "", nil, fmt.Errorf("auth.txt: %q is no coordinate of P-256: %w", text, err)
		}
		point = append(point, make([]byte, 32-len(b))...)
		point = append(point, b...)
	}
	key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return "", nil, fmt.Errorf("auth.txt: key %q: %w", f[0], err)
	}
	return f[0], key, nil
}

// verify checks a signature as QuestDB does: 64 bytes are r and s, any other
// length is DER.
func verify(key *ecdsa.PublicKey, challenge, signature []byte) bool {
	hash := sha256.Sum256(challenge)
	if len(signature) == 64 {
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(key, hash[:], r, s)
	}
	return ecdsa.VerifyASN1(key, hash[:], signature)
}
