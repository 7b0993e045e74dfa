package delivery

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Lane is one upstream connection at a time and the journal of what is not
// settled yet.
//
// Who writes: the field writing is the right to write to conn. A session takes
// it if it is free, writes what conn takes without waiting, and gives it back;
// if bytes remain, the right stays taken and passes to the lane's goroutine,
// which waits for the server to read. So bytes never mix, and a session never
// waits for the upstream.
//
// Everything else is the lane's goroutine's: it opens and ends segments (run,
// carry in this file; end in confirm.go) and finds out what a failure means
// (failure.go, isolate.go).
type Lane struct {
	id    int
	d     *Dispatcher
	share *Share
	// wake tells the lane's goroutine to look at the state; one is enough.
	wake chan struct{}
	// spare is a block, charged to share, for the next read; nil for none.
	spare atomic.Pointer[Block]
	// state is what the lane does or waits for: a laneState.
	state atomic.Int32

	// ailing is set while a connection has failed and no record was taken since.
	ailing atomic.Bool

	sessions int // guarded by d.mu

	// The lane's goroutine's own.
	trouble   trouble
	patience  patience
	tight     bool          // see settleFirst
	interval  time.Duration // of the next segment; 0: ConfirmInterval
	swept     uint64        // the version of the quarantine that pending records were checked with
	looked    int64         // the offset up to which they were; nothing from there on is written
	rejects   []reject      // set aside, to be saved
	saveTimer *time.Timer

	// unsaved counts the rejects that the sink did not take.
	unsaved atomic.Int64
	// progress tells that something was settled.
	progress broadcast

	mu sync.Mutex
	j  journal
	// conn is nil while there is no connection that takes records.
	conn Conn
	// limit is the offset up to which conn takes records.
	limit int64
	// writing is set while somebody has the right to write to conn.
	writing bool
	// handed is set when that right was left to the lane's goroutine.
	handed bool
	// still is signalled when no session writes any more.
	still sync.Cond
	// verdicts are what became of settling segments; see confirm.go.
	verdicts []verdict
	// ended is set when nothing is left to do in a drain.
	ended bool
	// most is mostHoles and mostUnsaved, but in tests.
	most struct{ holes, unsaved int }
}

// noLimit lets a connection take everything that is pending.
const noLimit = 1<<63 - 1

type laneState int32

const (
	laneIdle       laneState = iota // nothing is pending
	laneConnecting                  // waiting for an authenticated connection
	laneOpen                        // writing
	laneBlocked                     // waiting for the server to read
	laneClosing                     // waiting for the server's FIN
	laneSettling                    // nothing pending, waiting for proof
	laneBackoff                     // pausing after a failure
	laneIsolating                   // looking for a record that the server refuses
	laneStates
)

// String returns the state as metrics name it.
func (s laneState) String() string {
	return [...]string{"idle", "connecting", "open", "blocked", "closing", "settling", "backoff", "isolating"}[s]
}

func newLane(d *Dispatcher, id int, share *Share) *Lane {
	l := &Lane{id: id, d: d, share: share, looked: noLimit, wake: make(chan struct{}, 1), saveTimer: time.NewTimer(0)}
	l.still.L = &l.mu
	l.most.holes, l.most.unsaved = mostHoles, mostUnsaved
	l.j.free = l.release
	l.j.forget = d.o.AtMostOnce
	return l
}

func (l *Lane) set(s laneState) { l.state.Store(int32(s)) }

func (l *Lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// release gives a block's memory back.
func (l *Lane) release(b *Block) {
	n := b.charge
	l.d.free.put(b)
	l.share.Release(n)
}

// takeSpare returns the block that was put by; nil if there is none.
func (l *Lane) takeSpare() *Block {
	if l.spare.Load() == nil {
		return nil
	}
	return l.spare.Swap(nil)
}

// putSpare takes back a block of which nothing is kept. One is put by for the next read of
// any session, still charged: for a row now and then, free list and budget cost more than
// the read. Not while somebody waits for memory.
func (l *Lane) putSpare(b *Block) {
	if !l.spare.CompareAndSwap(nil, b) {
		l.release(b)
		return
	}
	if l.d.budget.Waiting() > 0 { // asked afterwards: who begins to wait looks at the spare ones then
		l.freeSpare()
	}
}

// freeSpare gives the memory of the block that was put by back, if there is one.
func (l *Lane) freeSpare() {
	if b := l.takeSpare(); b != nil {
		l.release(b)
	}
}

func (l *Lane) unsettled() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.j.unsettled
}

func (l *Lane) oldest() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.j.oldest()
}

// flush writes what is pending as far as the connection takes it at once. The
// caller holds mu, which is let go of during each write.
func (l *Lane) flush() {
	if l.conn == nil {
		l.nudge()
		return
	}
	if l.writing {
		return
	}
	l.writing = true
	full := false
	for l.conn != nil {
		if full = l.full(); full {
			break
		}
		p := l.j.pending(l.limit)
		if len(p) == 0 {
			break
		}
		conn := l.conn
		l.mu.Unlock()
		n, err := conn.TryWrite(p)
		l.mu.Lock()
		l.wrote(n)
		if err != nil || n < len(p) {
			// The lane's goroutine waits, or finds out what happened.
			l.handed = true
			l.still.Broadcast()
			l.nudge()
			return
		}
	}
	l.stop()
	if full {
		l.nudge()
	}
}

// stop gives back the right to write.
func (l *Lane) stop() {
	l.writing, l.handed = false, false
	l.still.Broadcast()
}

// wrote accounts for n bytes that were written.
func (l *Lane) wrote(n int) {
	if n == 0 {
		return
	}
	l.d.m.bytes.Add(int64(n))
	l.d.m.records.Add(l.j.wrote(n))
}

// finish does the writes that a session left to the lane, waiting for the
// server as long as the connection lives. It reports whether the segment is full.
func (l *Lane) finish() (full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing && !l.handed {
		return false // a session is at it
	}
	cut := l.handed // maybe in the middle of a record
	l.writing = true
	defer l.stop()
	for l.conn != nil {
		if full = l.full(); full && !cut {
			return true
		}
		p := l.j.pending(l.limit)
		if len(p) == 0 || l.push(l.conn, p) != nil {
			return full // after an error, conn.Done follows
		}
		cut = false
	}
	return false
}

// push writes p to the end, waiting if need be. The caller has the right to
// write and holds mu, which is let go of meanwhile.
func (l *Lane) push(conn Conn, p []byte) error {
	l.mu.Unlock()
	n, err := conn.TryWrite(p)
	if err == nil && n < len(p) {
		l.d.m.blocked.Inc()
		l.set(laneBlocked)
		var more int
		more, err = conn.Write(p[n:])
		n += more
		l.set(laneOpen)
	}
	l.mu.Lock()
	l.wrote(n)
	return err
}

// quiesce waits until no session writes, and keeps them from it. It returns with
// mu held; conn is nil then.
func (l *Lane) quiesce() {
	l.mu.Lock()
	for l.writing && !l.handed {
		l.still.Wait()
	}
	l.stop()
	l.conn = nil
}

// run is the lane's goroutine: one connection after the other, as long as there
// is something to write or to settle.
func (l *Lane) run(ctx context.Context) {
	defer l.saveTimer.Stop()
	for l.await(ctx) && l.settleFirst(ctx) {
		l.set(laneConnecting)
		conn, err := l.d.o.Source.Acquire(ctx)
		if err != nil {
			return // only because ctx ended
		}
		l.carry(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		if wait := l.trouble.pause(l.d.o); wait > 0 {
			l.set(laneBackoff)
			l.sleep(ctx, wait)
			l.d.m.retries.Inc()
		}
	}
}

// await waits until there is something to write. It returns false when the lane
// is to end.
func (l *Lane) await(ctx context.Context) bool {
	draining := l.d.draining
	for {
		l.judge()
		l.save()
		l.sweep()
		last := l.d.isDraining() // asked first: nothing comes after Drain, so what is seen then is all
		l.mu.Lock()
		idle := l.j.idle()
		pending, settled := !idle && l.j.sent < l.looked, idle && len(l.j.segments) == 0 && len(l.j.holes) == 0
		l.ended = settled && last
		l.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return false
		case pending:
			return true
		case settled && last:
			l.set(laneIdle) // nobody is to wait for it
			return false
		case settled:
			l.set(laneIdle)
		default:
			l.set(laneSettling)
		}
		if last {
			draining = nil // it would wake the lane for ever
		}
		select {
		case <-l.wake:
		case <-draining:
		case <-ctx.Done():
			return false
		case <-l.saveTimer.C:
		}
	}
}

// settleFirst waits, where that is needed, until what is settling is settled: with two connections
// in all, one is its witness, and while this lane holds the other there is no place for its
// proofs, nor for those that the end of a connection needs where resets are hidden. It returns
// false when the lane is to end.
func (l *Lane) settleFirst(ctx context.Context) bool {
	for l.tight {
		l.judge()
		l.mu.Lock()
		settling := len(l.j.segments) > 0
		l.mu.Unlock()
		if !settling {
			break
		}
		l.set(laneSettling)
		select {
		case <-l.wake:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// carry opens a segment on conn, writes the journal to it until the segment is
// to end, and ends it; or conn fails.
func (l *Lane) carry(ctx context.Context, conn Conn) {
	// A write that waits for the server must end with the lane.
	stop := context.AfterFunc(ctx, conn.Discard)
	defer stop()

	l.d.paths.prepare(conn.Addr())
	l.mu.Lock()
	s := l.j.begin()
	l.limit = min(l.trouble.limit(&l.j), l.looked)
	l.conn = conn
	l.mu.Unlock()
	l.set(laneOpen)

	interval := time.NewTimer(l.confirmWithin())
	defer interval.Stop()
	quiet := time.NewTicker(quietFor)
	defer quiet.Stop()
	overdue, seen, rested := false, int64(0), false
	for {
		full := l.finish()
		if l.judge() { // an older segment failed, and this one with it
			l.abandon(conn, s)
			return
		}
		last := l.d.isDraining() // asked first, as in await
		l.mu.Lock()
		idle, written := l.j.idle(), s.bytes > 0
		last = last && idle
		due := full || l.full() || overdue || l.j.sent >= l.limit || last
		l.mu.Unlock()
		switch {
		case due && written:
			l.confirm(ctx, conn, s)
			return
		case last:
			l.abandon(conn, s)
			return
		case overdue: // nothing was written yet
			overdue = false
			interval.Reset(l.d.o.ConfirmInterval)
		}
		select {
		case <-l.wake:
		case <-interval.C:
			overdue = true
		case <-quiet.C:
			l.mu.Lock()
			same := s.bytes == seen
			overdue = overdue || same && rested
			seen, rested = s.bytes, same && s.bytes > 0
			l.mu.Unlock()
		case <-conn.Done():
			l.failed(ctx, conn, s, nil)
			return
		}
	}
}

// quietFor is how long nothing must have been written, once or twice, until a
// segment is confirmed before its time: the server may close a connection on
// which nothing comes (line.tcp.net.connection.timeout), and what is on it and
// not settled would have to go again.
const quietFor = 500 * time.Millisecond

// firstInterval is the interval of confirmation after a failure. It doubles from
// there: who has just come back may go again soon, and what is settled by then
// does not come twice.
const firstInterval = 500 * time.Millisecond

// confirmWithin returns how long the next segment may take.
func (l *Lane) confirmWithin() time.Duration {
	if l.interval == 0 || l.interval >= l.d.o.ConfirmInterval {
		return l.d.o.ConfirmInterval
	}
	d := l.interval
	l.interval *= 2
	return d
}

// full reports whether the open segment has reached its size, or its age while another
// lane waits for what it shows. Where memory is short and nothing is left to write, a third
// of that size will do: then writers wait for what is not settled. While there is something
// to write it is the server that they wait for, and each segment costs that a connection at
// least. The caller holds mu.
func (l *Lane) full() bool {
	s := l.j.current()
	if s == nil || s.bytes == 0 {
		return false
	}
	if l.d.evidence.wanted.Load() > 0 && time.Since(s.began) >= evidenceAfter {
		return true
	}
	if s.bytes < min(l.d.o.ConfirmBytes, leastSegment) {
		return false // so it is with most rows, and no look at the other lanes is needed
	}
	size := l.d.segmentSize()
	if l.j.idle() && l.share.Wanted() {
		size = max(size/3, min(size, leastSegment))
	}
	return s.bytes >= size
}

// urgent reports whether somebody waits for what settles: the proxy's end, or writers for
// the memory although everything is written, so that it is not the server they wait for.
func (l *Lane) urgent() bool {
	if l.d.isDraining() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.j.idle() && l.share.Wanted()
}

// abandon gives up a connection on which nothing counts any more.
func (l *Lane) abandon(conn Conn, s *segment) {
	l.quiesce()
	l.j.fail(s)
	l.mu.Unlock()
	l.d.discard(conn)
}

// sleep waits for d, but not when the lane ends.
func (l *Lane) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
