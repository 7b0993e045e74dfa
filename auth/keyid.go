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
	case id[0] == '#':
		return fmt.Errorf("%w: %.40q starts with #, which makes it a comment in auth.txt", ErrKeyID, id)
	case len(id) > MaxIDLength:
		return fmt.Errorf("%w: %d bytes long, at most %d are allowed", ErrKeyID, len(id), MaxIDLength)
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c == ' ', c == '\t', c == '\n', c == '\r':
			return fmt.Errorf("%w: %q has white space at byte %d, which would end it in auth.txt or in the handshake", ErrKeyID, id, i)
		case c < 0x21 || c > 0x7e:
			return fmt.Errorf("%w: %q has a byte 0x%02x at byte %d, only printable ASCII is allowed", ErrKeyID, id, c, i)
		}
	}
	return nil
}
