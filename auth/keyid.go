package auth

import (
	"errors"
	"fmt"
)

// MaxIDLength is the longest key id accepted, in bytes. QuestDB names no limit;
// this one keeps a mistaken value (a whole file, say) off the wire.
const MaxIDLength = 256

// ErrKeyID is the error for a key id that QuestDB could not read.
var ErrKeyID = errors.New("key id not usable")

// CheckID returns nil if id can stand where QuestDB has it: on a line of its
// own in the handshake, and as the first word of a line in auth.txt, where
// white space separates words and # starts a comment.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrKeyID)
	case len(id) > MaxIDLength:
		return fmt.Errorf("%w: %d bytes long, at most %d are allowed", ErrKeyID, len(id), MaxIDLength)
	case id[0] == '#':
		return fmt.Errorf("%w: %s starts with #, which makes it a comment in auth.txt", ErrKeyID, quoteID(id))
	case id[0] == '{':
		return fmt.Errorf("%w: it looks like a JWK, should be its kid only", ErrKeyID)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c == ' ', c == '\t', c == '\n', c == '\r':
			return fmt.Errorf("%w: %s has white space at byte %d, which would end it in auth.txt or in the handshake", ErrKeyID, quoteID(id), i)
		case c < 0x21 || c > 0x7e:
			return fmt.Errorf("%w: %s has a byte 0x%02x at byte %d, only printable ASCII is allowed", ErrKeyID, quoteID(id), c, i)
		}
	}
	return nil
}

// quoteID quotes a key id for an error, unless a private key may have got into it.
func quoteID(id string) string {
	if MayHoldKey(id) {
		return "it, not shown because it may hold a key,"
	}
	return fmt.Sprintf("%q", id)
}
