package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Probation watches conn after the signature for d. It returns nil if the
// connection survived, which is all the evidence of success that QuestDB gives,
// [ErrRefused] or [ErrClosedAfterSignature] if not, and the cause if ctx ended
// first. It reads from conn; a caller whose own goroutine reads there uses
// [ClassifyEnd] instead.
func Probation(ctx context.Context, conn net.Conn, d time.Duration) error {
	watch, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	defer interruptWith(watch, conn)()

	var buf [1]byte
	n, err := conn.Read(buf[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: the server spoke after it (0x%02x); is this QuestDB's ILP port?", ErrChallengeMalformed, buf[0])
	case ctx.Err() != nil:
		return fmt.Errorf("wait whether the signature is accepted: %w", context.Cause(ctx))
	case watch.Err() != nil && isTimeout(err):
		return nil
	}
	return ClassifyEnd(err)
}

// ClassifyEnd names the way in which a connection ended during probation: the
// error of a read from it. A clean end (io.EOF, or nil for a FIN) is
// [ErrRefused], everything else [ErrClosedAfterSignature].
func ClassifyEnd(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: unknown key id or wrong private key; compare with the line in QuestDB's auth.txt", ErrRefused)
	}
	return fmt.Errorf("%w: %w", ErrClosedAfterSignature, err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
