package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
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

// MayHoldKey reports whether text looks like a key or may have one, or a part of one, in
// it: a JWK's member d, or a word that looks random. It is for what is about to be shown.
func MayHoldKey(text string) bool {
	return LooksLikeKey(text) || strings.Contains(text, "PRIVATE KEY") || HideKeys(text) != text
}

// HideKeys returns text with [Redacted] in the place of each word that looks like a key or
// a part of one, and nothing of a text with a JWK's member d. It is for errors of others,
// that quote what they did not expect.
func HideKeys(text string) string {
	if memberD.MatchString(text) {
		return Redacted
	}
	return longWords.ReplaceAllStringFunc(text, func(words string) string {
		if len(strings.Trim(words, "=")) == base64.RawURLEncoding.EncodedLen(scalarSize) {
			return Redacted // whatever it looks like
		}
		for word := range strings.FieldsFuncSeq(words, func(c rune) bool { return c == '/' || c == '=' }) {
			if looksRandom(word) {
				return Redacted
			}
		}
		return words
	})
}

// leastRandom is the length of the shortest word that may be a part of a key worth hiding.
const leastRandom = 32

// longWords are words of base64 or hex, and what may be of several: "/" is in standard base64
// and in paths, "=" behind it and within key=value.
var longWords = regexp.MustCompile(fmt.Sprintf(`[A-Za-z0-9+/_=-]{%d,}`, leastRandom))

// memberD is a JWK's d, also where it is quoted once more.
var memberD = regexp.MustCompile(`"d\\*"\s*:\s*[\\"[0-9]`)

// looksRandom reports whether a word of base64 or hex is long, and not like those that people
// make up, which have few capitals.
func looksRandom(word string) bool {
	if len(word) == base64.RawURLEncoding.EncodedLen(scalarSize) {
		return true
	}
	if len(word) < leastRandom {
		return false
	}
	var lower, upper, digit int
	for _, c := range word {
		switch {
		case 'a' <= c && c <= 'z':
			lower++
		case 'A' <= c && c <= 'Z':
			upper++
		case '0' <= c && c <= '9':
			digit++
		}
	}
	if isHex := strings.Trim(word, "-0123456789abcdefABCDEF") == ""; isHex {
		return digit > 0 && lower+upper > 0
	}
	return lower >= 4 && upper >= 4 && (digit > 0 || upper >= 8)
}

func isNotBase64(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("+-_=", c))
}
