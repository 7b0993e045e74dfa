package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// ChallengeSize is the length of QuestDB's challenge in bytes, without its LF.
const ChallengeSize = 512

// Result is what a handshake has to tell besides that it went through.
type Result struct {
	// Challenge is the time from the key id sent to the challenge complete.
	Challenge time.Duration
}

// Handshake runs QuestDB's challenge-response on conn, which must be fresh: key
// id and LF; 512 bytes and LF back; their signature in standard base64 and LF.
//
// It returns as soon as the signature is written. QuestDB then says nothing if
// it accepts the key, and closes the connection if not; see [Probation].
//
// The whole handshake has timeout to finish (none if it is not positive), and
// ends early when ctx does. The connection's deadlines are used for that and
// cleared afterwards. On error the connection is still open, and of no use.
func Handshake(ctx context.Context, conn net.Conn, key *Key, timeout time.Duration) (Result, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	defer interruptWith(ctx, conn)()

	if _, err := conn.Write([]byte(key.ID() + "\n")); err != nil {
		return Result{}, beforeChallenge(ctx, "send the key id", err)
	}
	start := time.Now()
	challenge, err := readChallenge(ctx, conn)
	result := Result{Challenge: time.Since(start)}
	if err != nil {
		return result, err
	}
	signature, err := key.Sign(challenge)
	if err != nil {
		return result, err
	}
	line := append(base64.StdEncoding.AppendEncode(nil, signature), '\n')
	if _, err := conn.Write(line); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return result, fmt.Errorf("send the signature: %w: %w", ErrClosedAfterSignature, err)
	}
	return result, nil
}

// readChallenge reads up to and including the challenge's LF, never more than
// 513 bytes, and returns the 512 before it. It gives up at the first byte that
// does not belong: some other protocol's greeting needs no timeout.
func readChallenge(ctx context.Context, conn net.Conn) ([]byte, error) {
	var buf [ChallengeSize + 1]byte
	for n := 0; n < len(buf); {
		m, err := conn.Read(buf[n:])
		for end := n + m; n < end; n++ {
			if err := checkChallengeByte(n, buf[n]); err != nil {
				return nil, fmt.Errorf("read the challenge: %w", err)
			}
		}
		if err != nil && n < len(buf) {
			return nil, beforeChallenge(ctx, fmt.Sprintf("read the challenge (%d of %d bytes came)", n, len(buf)), err)
		}
	}
	return buf[:ChallengeSize], nil
}

// checkChallengeByte returns an error if c cannot be byte i of a challenge.
func checkChallengeByte(i int, c byte) error {
	switch {
	case i < ChallengeSize && c == '\n':
		return fmt.Errorf("%w: it ended after %d bytes, should be %d", ErrChallengeMalformed, i, ChallengeSize)
	case i == ChallengeSize && c != '\n':
		return fmt.Errorf("%w: longer than %d bytes", ErrChallengeMalformed, ChallengeSize)
	case i < ChallengeSize && (c < 0x20 || c > 0x7e):
		return fmt.Errorf("%w: byte 0x%02x at %d; is this QuestDB's ILP port?", ErrChallengeMalformed, c, i)
	}
	return nil
}

// beforeChallenge names the kind of an I/O error that came instead of the
// challenge. What the caller cancelled is no kind of its own.
func beforeChallenge(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", doing, ErrNoChallenge, context.DeadlineExceeded)
	default:
		return fmt.Errorf("%s: %w: %w", doing, ErrClosedBeforeChallenge, err)
	}
}

// interruptWith lets conn's I/O fail when ctx ends. The function that it
// returns ends that and clears the deadlines; nothing of it runs afterwards.
func interruptWith(ctx context.Context, conn net.Conn) (release func()) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		// An error means that conn is closed, which ends its I/O as well.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-interrupted
		}
		_ = conn.SetDeadline(time.Time{})
	}
}
