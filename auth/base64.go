package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// scalarSize is the length in bytes of a P-256 scalar and of a coordinate.
const scalarSize = 32

// encode returns base64url without padding.
func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeNumber decodes a scalar or coordinate: 32 bytes in base64url, padded or
// not. Java, in which QuestDB's first tools were written, puts a zero before a
// number whose highest bit is set, so 33 bytes are taken too. Fewer than 32 are
// not: it would hide that the end was cut off. Errors never quote the text.
func decodeNumber(text string) ([]byte, error) {
	if text == "" {
		return nil, errors.New("it is empty")
	}
	if strings.ContainsAny(text, "+/") {
		return nil, errors.New(`it is in standard base64 ("+" or "/"), should be base64url ("-" and "_")`)
	}
	// Line ends are the one thing that the decoder would skip in silence.
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("it has a line end, should be one word of base64url")
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, fmt.Errorf("it is not base64url: %w", err) // names an offset only
	}
	if len(data) == scalarSize+1 && data[0] == 0 {
		data = data[1:]
	}
	if len(data) != scalarSize {
		return nil, fmt.Errorf("it has %d bytes, a P-256 key has %d", len(data), scalarSize)
	}
	return data, nil
}

// LooksLikeKey reports whether text, which should be something else, a file's path
// say, is or holds a key: a JWK, a scalar in base64, a client configuration
// string. It must not be shown then.
func LooksLikeKey(text string) bool {
	const least = 40 // a scalar has 43 characters, without what was cut off
	if strings.HasPrefix(text, "{") || strings.Contains(text, "token=") {
		return true
	}
	if data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=")); err == nil && len(data) == scalarSize {
		return true // where "/" may be in it
	}
	return len(text) >= least && !strings.ContainsFunc(text, isNotBase64)
}

// MayHoldKey reports whether text looks like a key or may have one in it: a word as
// long as a scalar, or a JWK's member d. It is for what is about to be shown.
func MayHoldKey(text string) bool {
	if LooksLikeKey(text) || strings.Contains(text, `"d"`) {
		return true
	}
	for word := range strings.FieldsFuncSeq(text, isNotBase64) {
		if len(strings.Trim(word, "=")) == base64.RawURLEncoding.EncodedLen(scalarSize) {
			return true
		}
	}
	return false
}

func isNotBase64(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("+-_=", c))
}
