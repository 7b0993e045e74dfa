package standin

import "time"

// Behaviour is how a Server treats its clients. The zero value is a healthy QuestDB.
type Behaviour struct {
	// RefuseKeys: every signature is wrong.
	RefuseKeys bool
	// Challenge is what a key id is answered with.
	Challenge Challenge
	// ChallengeDelay is how long that answer takes.
	ChallengeDelay time.Duration
	// ConnLimit is how many connections are served at once, 0 for any number. The
	// next ones connect, into the kernel's backlog, and hear nothing.
	ConnLimit int
	// RefuseDelay is the time from a wrong signature to the FIN; 0: by chance, 0.1
	// to 10 ms.
	RefuseDelay time.Duration
	// CloseAfterSignature ends connections that were authenticated.
	CloseAfterSignature *Close
	// CloseAfterBytes ends a connection that sent so many bytes after its
	// signature, or more; 0: never.
	CloseAfterBytes int64
	// ResetAfterBytes is the same with a reset.
	ResetAfterBytes int64
	// OnData is called with what comes after the signature, from the connection's
	// goroutine, before it is counted. An error closes the connection; ErrReset
	// resets it.
	OnData func(c *Conn, chunk []byte) error
	// Forget: received bytes are counted, and not kept.
	Forget bool
	// Records has the server parse, refuse and commit records; nil: it only
	// collects bytes. What it says about buffers counts for connections that are
	// authenticated later.
	Records *Records
}

// Close is a way to end a connection.
type Close struct {
	After time.Duration
	Reset bool // with a reset instead of a FIN
}

// Challenge is what a client gets for its key id.
type Challenge int

// The answers to a key id. Only the first is right.
const (
	ChallengeProper    Challenge = iota
	ChallengeNone                // silence for ever, and the connection stays open
	ChallengeClose               // a FIN instead: QuestDB without authentication
	ChallengeReset               // a reset instead
	ChallengeMalformed           // bytes outside 0x20..0x7E
	ChallengeShort               // LF too early
	ChallengeLong                // and no end
)
