// Package secrets looks for secrets where they must not be: in logs, pages, metrics and
// the dumps of a process that ended badly. It knows the ways in which a program may come to
// write one: as it is, in hex or base64 of any kind and alignment, as a number, as a
// list of bytes, escaped; and of a key it knows parts as well.
package secrets

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// part is how many bytes of a key in a row are found: by chance they are nowhere.
	part = 8
	// digits is the same for those of a decimal number.
	digits = 18
	// shortest is the length of the shortest form that is looked for: each is found by
	// its first bytes.
	shortest = 8
)

// Set is what must not be seen. The zero value is empty.
type Set struct {
	begins [1 << 16]bool // whether a form begins with these two bytes
	forms  map[uint64][]form
}

// form is one way to write a secret, or a part of it.
type form struct{ text, name string }

// AddKey adds a private key: random bytes, of which a part tells something.
func (s *Set) AddKey(name string, key []byte) {
	if len(key) < part {
		panic("secrets: this is no key")
	}
	backwards := slices.Clone(key) // as arithmetic has it
	slices.Reverse(backwards)
	for order, bytes := range map[string][]byte{"": key, " backwards": backwards} {
		for i := range len(bytes) - part + 1 {
			s.addBytes(name+order, bytes[i:i+part])
		}
		number := new(big.Int).SetBytes(bytes).String()
		for i := range max(1, len(number)-digits+1) {
			s.add(number[i:min(i+digits, len(number))], name+order+" as a number")
		}
		for i := 0; i+part <= len(bytes); i += part {
			word := binary.BigEndian.Uint64(bytes[i:])
			s.add(strconv.FormatUint(word, 10), name+order+" as words")
			s.add(strconv.FormatUint(word, 16), name+order+" as words")
		}
	}
}

// AddText adds a password, a token, or a key in a form that is a secret by itself. Of one
// that is long, either half is looked for; one that is shorter than 8 bytes is not.
func (s *Set) AddText(name, text string) {
	const long = 32
	switch {
	case len(text) < shortest:
		return // it could be anything
	case len(text) < long:
		s.addBytes(name, []byte(text))
		return
	}
	s.addBytes(name, []byte(text[:len(text)/2]))
	s.addBytes(name, []byte(text[len(text)/2:]))
}

// addBytes adds all forms of some bytes.
func (s *Set) addBytes(name string, b []byte) {
	lower, upper := hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b))
	s.add(string(b), name+" as it is")
	s.add(lower, name+" in hex")
	s.add(upper, name+" in hex")
	for _, between := range []string{" ", ":", `\x`, "%", ", 0x", " 0x", ",0x"} {
		s.add(spread(lower, between), name+" in hex, spread")
		s.add(spread(upper, between), name+" in hex, spread")
	}
	numbers := make([]string, len(b))
	bare := make([]string, len(b)) // %#x and the like leave out zeros
	for i, c := range b {
		numbers[i], bare[i] = strconv.Itoa(int(c)), fmt.Sprintf("0x%x", c)
	}
	for _, between := range []string{" ", ",", ", "} {
		s.add(strings.Join(numbers, between), name+" as a list of numbers")
		s.add(strings.Join(bare, between), name+" as a list of numbers")
	}
	s.add(strings.Trim(strconv.QuoteToASCII(string(b)), `"`), name+" quoted")
	s.add(strings.Trim(strconv.Quote(string(b)), `"`), name+" quoted")
	s.add(url.QueryEscape(string(b)), name+" escaped for a URL")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			// The characters that do not depend on what stands before and behind it.
			all := encoding.EncodeToString(append(make([]byte, before), b...))
			from, to := (before*8+5)/6, (before+len(b))*8/6
			s.add(all[from:to], name+" in base64")
		}
	}
}

// spread puts between between the pairs of hex digits.
func spread(digits, between string) string {
	var pairs []string
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, between)
}

func (s *Set) add(text, name string) {
	if len(text) < shortest {
		return
	}
	if s.forms == nil {
		s.forms = map[uint64][]form{}
	}
	begin := binary.BigEndian.Uint64([]byte(text))
	f := form{text, name}
	if !slices.Contains(s.forms[begin], f) {
		s.forms[begin] = append(s.forms[begin], f)
		s.begins[begin>>48] = true
	}
}

// Len is how many forms are looked for.
func (s *Set) Len() (n int) {
	for _, forms := range s.forms {
		n += len(forms)
	}
	return n
}

// Find returns the names of the secrets that are in text, and of their forms, each once.
func (s *Set) Find(text string) (found []string) {
	if len(s.forms) == 0 {
		return nil
	}
	for i := 0; i+shortest <= len(text); i++ {
		if !s.begins[uint16(text[i])<<8|uint16(text[i+1])] {
			continue
		}
		for _, f := range s.forms[binary.BigEndian.Uint64([]byte(text[i:i+shortest]))] {
			if strings.HasPrefix(text[i:], f.text) && !slices.Contains(found, f.name) {
				found = append(found, f.name)
			}
		}
	}
	return found
}
