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
