package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/upstream"
)

// A server that lives may take closeLooks times closeLook from our half-close to
// its FIN, and twice as long each time that this was not enough. A segment that
// creates tables takes 13 to 30 ms for each of them, or ten times that on a busy
// machine, and takes no less when it is sent again.
const (
	closeLook  = time.Minute
	closeLooks = 10
)

// discardGrace is how long a connection that is given up may take to end, before
// it is closed in a way that makes the server drop what it has not read.
const discardGrace = time.Second

// tailSize is how much of a stream the server's last read may hold, unless its buffer
// has grown.
const tailSize = 128 << 10

// witnessWait is how long to wait for another connection to the same server before
// one is ended that has to be confirmed.
const witnessWait = 2 * time.Second

// errNoFIN is why a connection was given up that nothing had broken.
var errNoFIN = errors.New("QuestDB took too long to close it")

// errNotProven is why a segment is replayed although its connection ended well.
var errNotProven = errors.New("QuestDB, or the way to it, went away before it had committed")

// A verdict is what became of a settling segment.
type verdict struct {
	s   *segment
	err error // nil: it is settled
}

// confirm ends the segment s on conn: padding, half-close, the server's FIN. If
// all went well, s is settling, and a watcher will give its verdict.
func (l *Lane) confirm(ctx context.Context, conn Conn, s *segment) {
	path := l.d.paths.check(ctx, conn.Addr())
	l.tight = path.hides() && l.d.o.Connections == 2
	l.quiesce()
	// A session may have left a record half written.
	if end := l.j.boundaryAfter(l.j.sent); end > l.j.sent {
		if err := l.push(conn, l.j.pending(end)); err != nil {
			l.mu.Unlock()
			l.failed(ctx, conn, s, err)
			return
		}
	}
	l.d.m.records.Add(l.j.close(s))
	largest, blanks := l.j.largest(s.start, s.end), s.blanks()
	l.mu.Unlock()
	l.set(laneClosing)
	if path.hides() && l.tail(ctx, conn, s, grown(tailSize, largest)) {
		return
	}

	w, took, err := l.end(ctx, conn, path, largest, blanks)
	if err != nil {
		l.failed(ctx, conn, s, err)
		return
	}
	conn.Discard()
	l.mu.Lock()
	l.j.finish(s)
	l.mu.Unlock()
	l.trouble.accepted(s.end)
	l.tookSegment(s, conn.Addr())
	l.d.m.closeSeconds.Observe(took.Seconds())
	l.d.watchers.Go(func() {
		defer w.Release()
		err := l.d.settle(ctx, conn, w, max(l.d.o.Settle, took), l.urgent)
		l.mu.Lock()
		l.verdicts = append(l.verdicts, verdict{s, err})
		l.mu.Unlock()
		l.nudge()
	})
}

// tail looks for malformed records in what the server reads last, size bytes: where
// resets are hidden, their refusal would not show. It reports whether there were any;
// then the segment has failed, and goes again without them.
func (l *Lane) tail(ctx context.Context, conn Conn, s *segment, size int) (found bool) {
	if l.d.o.AtMostOnce {
		return false
	}
	l.mu.Lock()
	from := l.j.boundaryBefore(max(s.start, s.end-int64(size)))
	l.j.records(from, s.end, func(_, _ int64, _ *Writer, record []byte) bool {
		found = ilp.Validate(record) != nil
		return !found
	})
	if found {
		l.lost(l.j.fail(s), errors.New("a malformed record is among the last"))
	}
	l.mu.Unlock()
	if found {
		l.d.discard(conn)
		l.investigate(ctx, conn.Addr(), s.start, s.end)
	}
	return found
}

// tookSegment says that the server at addr took all records of s. Line feeds are no
// records: a server that refuses everything takes them too.
func (l *Lane) tookSegment(s *segment, addr string) {
	l.ailing.Store(s.records == 0)
	if s.records > 0 {
		defer l.d.evidence.took(addr, s.began)
	}
	if r := l.d.refusing.Load(); r != 0 && s.began.UnixNano() > r && l.d.refusing.CompareAndSwap(r, 0) {
		l.d.log.Info("QuestDB takes records again")
	}
	if !l.d.quarantine.watching() && !l.d.refusals.watching() || l.d.o.AtMostOnce {
		return
	}
	writers := map[string]map[*Writer]bool{} // by table
	l.walk(s.start, s.end, func(_, _ int64, w *Writer, record []byte) {
		if table, ok := tableOf(record); ok {
			if writers[table] == nil {
				writers[table] = map[*Writer]bool{}
			}
			writers[table][w] = true
		}
	})
	for table, some := range writers {
		l.d.quarantine.accepted(table, s.began, time.Now(), slices.Collect(maps.Keys(some))...)
		l.d.refusals.accepted(table, s.began)
	}
}

// witness notes who else is connected to conn's server. Where nobody is, as in a
// pool that is too small, it waits a little for somebody.
func (d *Dispatcher) witness(ctx context.Context, conn Conn) Witness {
	deadline := time.Now().Add(witnessWait)
	for {
		w := d.o.Source.Witness(conn)
		if w.Some() || time.Now().After(deadline) {
			return w
		}
		d.o.Source.Hurry(1, witnessWait+d.o.Settle) // somebody has to stay
		t := time.NewTimer(10 * time.Millisecond)
		select {
		case <-t.C:
		case <-conn.Done():
			return w
		case <-ctx.Done():
			return w
		}
		w.Release()
	}
}

// end pads and half-closes conn and waits for the server's FIN. It returns no error if
// that is as it should be, everything was read, and no record refused; then took is how long
// that took, and w who was connected before it.
func (l *Lane) end(ctx context.Context, conn Conn, path path, largest, blanks int) (w Witness, took time.Duration, err error) {
	c := carried{conn.Addr(), l.id}
	pace := l.d.paths.pace(c)
	if !l.d.quiet(ctx, conn, path, pace.quiet) {
		l.d.paths.cut(c, pace)
		return nil, 0, fmt.Errorf("QuestDB at %s closed the connection", conn.Addr())
	}
	// Before the FIN can come; but not before the quiet time, whose proofs may need its place.
	who := l.d.witness(ctx, conn)
	defer func() {
		if err != nil {
			who.Release()
		}
	}()
	began := time.Now()
	if err := path.writePadding(conn, largest, blanks); err != nil {
		return nil, 0, err
	}
	if err := conn.CloseWrite(); err != nil {
		return nil, 0, err
	}
	if err := l.awaitFIN(ctx, conn, who); err != nil {
		return nil, 0, err
	}
	end := conn.End()
	switch {
	case end.Err != nil:
		return nil, 0, end.Err
	case !end.Clean():
		return nil, 0, fmt.Errorf("QuestDB at %s closed the connection before it had read everything", conn.Addr())
	}
	l.trouble.slow = 0
	took = end.At.Sub(began)
	if path.hides() && pace.sooner(took) {
		conn.Discard() // that may need its place
		if l.d.isFaster(ctx, conn.Addr(), path, took) {
			pace.soonest = took // the path check may have been on a busy machine
		}
	}
	return who, took, l.d.paths.ended(c, path, took, pace)
}

// awaitFIN returns nil once conn has ended. It waits for as long as the server
// lives, within the limit that closeLook tells; half of it is gone with each proof
// of life that the server fails to give.
func (l *Lane) awaitFIN(ctx context.Context, conn Conn, w Witness) error {
	look := time.NewTicker(closeLook)
	defer look.Stop()
	for left := closeLooks << min(l.trouble.slow, 10); left > 0; left-- {
		select {
		case <-conn.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		err := l.d.o.Source.Prove(ctx, conn.Addr())
		switch {
		case err == nil || errors.Is(err, upstream.ErrLate):
		case w.Some() && w.Gone():
			return errNotProven
		default:
			left -= closeLooks / 2
		}
	}
	l.trouble.slow++
	return errNoFIN
}

// settle waits until the server has lived for long enough after its FIN on conn,
// and proves it: it answers a handshake, and it is the one that w has been
// connected to since before the FIN. A stopped process keeps its sockets, so
// being connected proves nothing by itself; an answer that is late means that it
// was stopped, and has the settle time begin again.
//
// One proof would not do: a server that was stopped right after its FIN, and goes on
// just when it is asked, answers in time and has not lived at all. With one in the
// middle too it has lived for half of the time at least, whenever it was stopped.
//
// Proofs can wait a little, to be shared, unless urgent says otherwise.
func (d *Dispatcher) settle(ctx context.Context, conn Conn, w Witness, settle time.Duration, urgent func() bool) error {
	witnesses := []Witness{w}
	defer func() { release(witnesses[1:]) }()
	for proven := 0; proven < 2; {
		t := time.NewTimer(settle / 2)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		now := d.o.Source.Witness(conn)
		prove := d.o.Source.ProveSoon
		if urgent() {
			prove = d.o.Source.Prove
		}
		proof := prove(ctx, conn.Addr())
		alive := slices.ContainsFunc(witnesses, func(w Witness) bool { return w.Alive(ctx) })
		if alive {
			// It was the same one when now was taken, so whoever was connected then
			// can bear witness from here on: the first may all end meanwhile.
			release(witnesses[1:])
			witnesses = []Witness{w, now}
		} else {
			now.Release()
		}
		switch {
		case alive:
		case ctx.Err() != nil:
			return ctx.Err()
		case slices.ContainsFunc(witnesses, func(w Witness) bool { return !w.Gone() }):
			proven = 0
			continue // no answer is no proof of anything: a busy machine, or the network
		default:
			if proof != nil {
				return fmt.Errorf("%w (%w)", errNotProven, proof)
			}
			return errNotProven
		}
		proven++
		if proof != nil {
			proven = 0
		}
	}
	return nil
}

func release(witnesses []Witness) {
	for _, w := range witnesses {
		w.Release()
	}
}

// judge applies the verdicts that have come. It reports whether a segment failed.
func (l *Lane) judge() (failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.verdicts) > 0 {
		v := l.verdicts[0]
		l.verdicts = slices.Delete(l.verdicts, 0, 1)
		switch {
		case v.err == nil:
			l.settled(v.s)
		case errors.Is(v.err, context.Canceled):
		case slices.Contains(l.j.segments, v.s): // else it failed with an older one
			// A session may be writing to the open segment, which fails with this one.
			for l.writing && !l.handed {
				l.still.Wait()
			}
			l.stop()
			l.conn = nil
			failed = true
			l.lost(l.j.fail(v.s), v.err)
		}
	}
	return failed
}

// settled says that s is proven. The caller holds mu.
func (l *Lane) settled(s *segment) {
	before := l.j.settled
	for _, x := range l.j.segments {
		if x == s {
			if s.records > 0 {
				l.d.m.settleSeconds.Observe(time.Since(l.j.arrivals.at(s.start)).Seconds())
			}
			n := l.j.prove(s)
			l.d.m.settledRecords.Add(float64(n))
			l.d.m.settledBytes.Add(float64(l.j.settled - before))
			break
		}
	}
	l.progress.broadcast()
}

// lost accounts for n records whose connection failed. The caller holds mu.
func (l *Lane) lost(n int64, err error) {
	if l.d.o.AtMostOnce {
		l.d.m.uncertain.Add(float64(n))
		l.d.note(l, "records may be lost: their connection failed, and ILP_DELIVERY=at-most-once forbids to send them again", n, err)
		return
	}
	l.d.m.replayed.Add(float64(n))
	l.d.note(l, "sending records again: their connection failed before they were settled", n, err)
}

// discard gives up a connection without losing, if it can be helped, what the server
// has not read yet, and returns when it has ended: a server that reads the rest of it
// later than what goes over the next one would have the records in another order.
func (d *Dispatcher) discard(conn Conn) {
	limit := time.AfterFunc(discardGrace, conn.Discard) // over TLS even the half-close may wait
	defer limit.Stop()
	if conn.CloseWrite() == nil {
		<-conn.Done()
	}
	conn.Discard()
}
