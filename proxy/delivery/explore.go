package delivery

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// verdictTime is how long the path check waits at least for a server to close because
	// of a malformed record, before it concludes that this one does not: longer if it is slow.
	verdictTime = time.Second
	checkLimit  = 20 * time.Second
	// timesSeen is how often in a row the path check must see the same; weakProofs where
	// the network breaks connections meanwhile.
	timesSeen = 4
)

// errUnclear is why a path is to be found out later.
var errUnclear = errors.New("QuestDB closes on a malformed record at times, and at other times does not")

// checkName is the table of what the path check sends, for who reads the server's log.
const checkName = "questdb-ilp-proxy_path_check"

// malformed has no field.
var malformed = []byte(checkName + "\n")

// A server whose buffer is full to within overflowRoom bytes gets overflowTail more: some
// that it cannot read at once, and so few that they come in one segment of TCP's, which a
// relay that has read all before them reads in one.
const (
	overflowRoom = 200
	overflowTail = 1000
)

// PathKind is what the way to a server, and that server, do with a refused record: a
// value of the metric path's label kind.
type PathKind string

// The kinds of path.
const (
	PathResets PathKind = "resets"          // it ends in a reset, which reaches the proxy
	PathHidden PathKind = "hidden"          // something between hides that
	PathSkips  PathKind = "skips_malformed" // the server goes on with the next record
)

// ExplorePath finds out the path to the server at addr as a Dispatcher does, and of how
// many bytes the padding has to be, with a few connections of source and a malformed
// record. It is for who wants to know it without delivering anything.
func ExplorePath(ctx context.Context, source Source, addr string) (kind PathKind, padding int, err error) {
	d := New(Options{Source: source, Metrics: NewMetrics(nil)})
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	p, err := d.explore(ctx, addr)
	return PathKind(p.String()), p.pad, err
}

// explore finds out the path to addr with a few connections of its own.
func (d *Dispatcher) explore(ctx context.Context, addr string) (path, error) {
	times := timesSeen
	for _, n := range paddings {
		p := path{pad: n, resets: true}
		takes, broke, err := d.takesPadding(ctx, addr, p)
		if err != nil {
			return path{}, err
		}
		if broke {
			times = weakProofs
		}
		if !takes {
			continue // too many LFs for this server
		}
		how, err := d.provokeAgain(ctx, addr, p, times)
		if err != nil {
			return path{}, err
		}
		switch how {
		case skipped:
			p.resets, p.skips = false, true
			return p, nil
		case reset:
			if own, err := d.resetsPass(ctx, addr, p, times/2); err != nil || own {
				return p, err
			}
		case finned:
			// Hidden by something between, or too little padding for this server.
		}
	}
	return hidden, nil
}

// takesPadding reports whether the server takes the padding of p. Once is enough for
// yes. For no it is not: the network may have been it, and with too little padding no
// refusal shows. broke is set if connections ended before all was written.
func (d *Dispatcher) takesPadding(ctx context.Context, addr string, p path) (takes, broke bool, err error) {
	for range timesSeen {
		a, err := d.try(ctx, addr, nil, p)
		if err != nil || a == taken {
			return a == taken, broke, err
		}
		broke = broke || a == broken
	}
	return false, broke, nil
}

type provoked int

const (
	skipped provoked = iota // the server went on
	reset                   // it closed, and a reset came
	finned                  // it closed, and a FIN came
)

// provokeAgain provokes so many times. One reset may be an accident of the network,
// and a server that was silent may have been stopped: to trust in either where it is
// not so would lose rows.
func (d *Dispatcher) provokeAgain(ctx context.Context, addr string, p path, times int) (how provoked, err error) {
	for n := range times {
		this, err := d.provoke(ctx, addr, p)
		switch {
		case err != nil || this == finned:
			return this, err
		case n > 0 && this != how:
			return 0, errUnclear
		}
		how = this
	}
	return how, nil
}

// provoke sends a malformed record and padding, and tells how the server closes.
func (d *Dispatcher) provoke(ctx context.Context, addr string, p path) (provoked, error) {
	conn, err := d.o.Source.AcquireAddr(ctx, addr)
	if err != nil {
		return 0, err
	}
	defer conn.Discard()
	defer context.AfterFunc(ctx, conn.Discard)() // ends a write that waits
	// One write, so that the record and the LFs lie in the same buffer of the
	// server's, as they do at the end of a segment.
	_, _ = conn.Write(slices.Concat(malformed, linefeeds[:p.padding(conn, 0, 0)])) // Done tells
	if err := d.shown(ctx, conn); err != nil {
		return 0, err
	}
	select {
	case <-conn.Done():
		// Over a slow way the server closes before all has arrived: a FIN then, but not
		// one that could be taken for the end of a segment.
		if end := conn.End(); end.Err != nil || end.Unacked > 0 {
			return reset, nil
		}
		return finned, nil
	default:
		return skipped, nil
	}
}

// resetsPass reports whether the server's own reset reaches us. A relay that is slower
// than the server, or far from us, has not got all of the padding when the server closes
// on the record before it, and makes a reset then. At the end of a segment it may have got
// all, where the server comes to the refused record later; and then nothing shows.
func (d *Dispatcher) resetsPass(ctx context.Context, addr string, p path, times int) (bool, error) {
	sizes := []int{128 << 10, 64 << 10, 32 << 10}
	if p.pad == exactPadding {
		sizes = []int{exactPadding + 1}
	}
	for _, size := range sizes {
		for n := 0; ; n++ {
			if n == times {
				return true, nil
			}
			if reset, err := d.overflow(ctx, addr, size); err != nil {
				return false, err
			} else if !reset {
				break
			}
		}
	}
	return false, nil
}

// overflow fills the server's buffer of size bytes, but for a few, with the beginning of a
// malformed record. When everybody has had twice the time to read that which the padding took,
// come its end and a few LFs, for some of which the server has no room: they remain unread when
// it closes because of the record. A relay has read all of it then. It reports whether that
// ended in a reset.
func (d *Dispatcher) overflow(ctx context.Context, addr string, size int) (reset bool, err error) {
	conn, err := d.o.Source.AcquireAddr(ctx, addr)
	if err != nil {
		return false, err
	}
	defer conn.Discard()
	defer context.AfterFunc(ctx, conn.Discard)() // ends a write that waits
	const begin, end = checkName + ",filling=", " f=?"
	filling := bytes.Repeat([]byte{'x'}, size-conn.Pings()-len(begin)-len(end)-overflowRoom)
	_, _ = conn.Write(slices.Concat([]byte(begin), filling, []byte(end))) // Done tells
	wait := max(refusalTime, 2*d.paths.pace(carried{addr, ofTrials}).usual)
	if !acked(ctx, conn) || !stillOpen(ctx, conn, wait) || !d.passed(ctx, conn) {
		return false, ctx.Err() // it does not take a record of that size
	}
	_, _ = conn.Write(linefeeds[:overflowTail])
	if err := d.shown(ctx, conn); err != nil {
		return false, err
	}
	select {
	case <-conn.Done():
		return conn.End().Err != nil, nil
	default:
		return false, errUnclear // it closed on such a record before
	}
}

// passed waits for something else to go to conn's server and back, if a place in the pool
// can be had for it: a relay that was stopped meanwhile goes on then. It reports whether conn is
// still open.
func (d *Dispatcher) passed(ctx context.Context, conn Conn) (open bool) {
	soon, cancel := context.WithTimeout(ctx, verdictTime)
	defer cancel()
	_ = d.o.Source.Prove(soon, conn.Addr()) // the lane that waits for us may have the last place
	return stillOpen(ctx, conn, refusalTime)
}

// shown returns once conn has ended, or its server has had the time to end it. A
// server that is stopped ends nothing, so it must answer at both ends of some time.
func (d *Dispatcher) shown(ctx context.Context, conn Conn) error {
	if !stillOpen(ctx, conn, max(verdictTime, 4*d.paths.pace(carried{conn.Addr(), ofTrials}).usual)) {
		return ctx.Err()
	}
	if err := d.o.Source.Prove(ctx, conn.Addr()); err != nil {
		return err
	}
	if !stillOpen(ctx, conn, quietTime) {
		return ctx.Err()
	}
	if err := d.o.Source.Prove(ctx, conn.Addr()); err != nil {
		return err
	}
	stillOpen(ctx, conn, refusalTime)
	return ctx.Err()
}
