package auth

import "errors"

// The ways in which the handshake fails; tell them apart with errors.Is.
var (
	// ErrClosedBeforeChallenge: the connection was closed or reset instead of a
	// challenge. QuestDB without authentication does that, and a full one.
	ErrClosedBeforeChallenge = errors.New("closed before the challenge")

	// ErrNoChallenge: the challenge did not come in time. The server is full or
	// stuck, or something else listens there. It says nothing about the key.
	ErrNoChallenge = errors.New("no challenge in time")

	// ErrChallengeMalformed: what came is not 512 bytes of 0x20..0x7E and LF.
	ErrChallengeMalformed = errors.New("malformed challenge")

	// ErrRefused: QuestDB closed the connection after the signature, which is
	// all it ever says of an unknown key id and of a wrong key.
	ErrRefused = errors.New("authentication refused")

	// ErrClosedAfterSignature: the connection broke after the challenge, but not
	// in the way in which QuestDB refuses a key.
	ErrClosedAfterSignature = errors.New("connection lost after the signature")
)
