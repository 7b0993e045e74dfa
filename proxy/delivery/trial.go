package delivery

import (
	"context"
	"errors"
	"time"
)

// An answer is how a trial ended.
type answer int

const (
	taken   answer = iota // the server accepted everything
	refused               // it got everything, and refused a record
	broken                // it closed, or the network broke, before it got everything
)

// try sends records (perhaps none) and the padding over a connection of its own
// and says how that ended; an error means that there is no answer.
func (d *Dispatcher) try(ctx context.Context, addr string, records []byte, p path) (a answer, err error) {
	for range timesSeen {
		if a, _, err = d.tryOnce(ctx, addr, records, p); !errors.Is(err, errUnusualFIN) {
			break
		}
	}
	return a, err
}

// tryOnce is try without a second attempt; took is the time from the padding to the end of
// the connection.
func (d *Dispatcher) tryOnce(ctx context.Context, addr string, records []byte, p path) (a answer, took time.Duration, err error) {
	conn, err := d.o.Source.AcquireAddr(ctx, addr)
	if err != nil {
		return broken, 0, err
	}
	defer conn.Discard()
	defer context.AfterFunc(ctx, conn.Discard)() // ends a write that waits
	began := time.Now()
	c := carried{addr, ofTrials}
	pace := d.paths.pace(c)
	w, complete, padded := d.send(ctx, conn, records, p, pace.quiet)
	defer w.Release()
	select {
	case <-conn.Done():
	case <-ctx.Done():
		return broken, 0, ctx.Err()
	}
	end := conn.End()
	took = end.At.Sub(padded)
	conn.Discard() // the proof of life may need its place
	switch {
	case end.Clean():
		// What padding alone takes is what others are compared with: not if it was
		// because the server went away.
		if len(records) == 0 && !d.lives(ctx, addr, w, time.Now()) {
			return broken, took, errNotProven
		}
		if err := d.paths.ended(c, p, took, pace); err != nil {
			return broken, took, err
		}
		if len(records) > 0 {
			d.evidence.took(addr, began)
		}
		return taken, took, nil
	case !d.lives(ctx, addr, w, time.Now()):
		return broken, took, errNotProven
	case complete && (end.Err == nil || !p.hides()):
		return refused, took, nil
	}
	// Where refusals do not end in a reset, a reset is no refusal.
	return broken, took, nil
}

// send writes records and the padding, half-closes, and reports whether all of that went
// through, and when the padding began; w is who else was connected.
func (d *Dispatcher) send(ctx context.Context, conn Conn, records []byte, p path, quiet time.Duration) (w Witness, complete bool, padded time.Time) {
	if !p.hides() {
		w = d.witness(ctx, conn) // trials take connections as soon as they are ready
	}
	_, err := conn.Write(records)
	open := err == nil && d.quiet(ctx, conn, p, quiet)
	switch {
	case w != nil:
	case open:
		w = d.witness(ctx, conn) // the quiet time's proofs may have needed its place
	default:
		w = d.o.Source.Witness(conn) // who is there still
	}
	if !open {
		return w, err == nil, padded // in the quiet time: the server had all records, and closed
	}
	padded = time.Now()
	if p.writePadding(conn, min(len(records), d.o.MaxRecord), max(blankEnd(records)-1, 0)) != nil {
		return w, false, padded
	}
	return w, conn.CloseWrite() == nil, padded
}
