package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
	"questdb-ilp-proxy/proxy/socket"
)

const (
	// quiet is how long a writer must say nothing after a whole record, when the
	// proxy is to end, for the session to be over.
	quiet = 200 * time.Millisecond
	// keepFragment is the largest buffer, in bytes, that a session keeps for its
	// next unfinished record while it has none. Ten thousand sessions may idle.
	keepFragment = 1 << 10
)

// A session reads from one writer. All its fields are its goroutine's, but for
// the atomic ones.
type session struct {
	srv  *Server
	conn net.Conn
	raw  syscall.RawConn
	out  *delivery.Writer
	scan ilp.Scanner
	// stamps gives timestamps to records without; nil: nobody does.
	stamps *stamper

	// fragment holds the record that has begun and whose end was not read yet.
	fragment []byte
	// held is what fragment costs: its capacity in bytes. Others read it.
	held atomic.Int64
	// begun is when the record in fragment began: Unix nanoseconds, 0 without
	// one. Others read it.
	begun atomic.Int64
	// skipping is set within a record that is too long, until its end.
	skipping bool
	// dropped is how many bytes of that record there were already.
	dropped int64

	// in is what receive reads into, and got and failed what came of it.
	in      *delivery.Block
	got     int
	failed  error
	receive func(fd uintptr) bool
	// sinceTurn is how many bytes were read since other goroutines had their turn.
	sinceTurn int

	// bytes is how many were read. Others read it. rate is Server.Writers' own.
	bytes atomic.Int64
	since time.Time
	rate  rate

	lastRead time.Time // only kept for the idle timeout
	armed    time.Time // the read deadline that is set; zero for none

	// kicked is set to wake the session from outside; draining, evicted and
	// unwanted say what for.
	kicked, draining, evicted, unwanted atomic.Bool
	half                                atomic.Int64 // when a drain ends at the latest: Unix nanoseconds, 0 for never
	told                                bool         // our half-close was sent
}

func newSession(srv *Server, conn net.Conn) (*session, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a connection of type %T cannot be read without blocking", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reading from %v: %w", conn.RemoteAddr(), err)
	}
	now := time.Now()
	s := &session{srv: srv, conn: conn, raw: raw, since: now, rate: newRate(now)}
	s.out = srv.o.Dispatcher.NewWriter(remoteName(conn), s.disconnect)
	s.out.OnDemoted(s.kick)
	s.stamps = srv.newStamper()
	s.receive = s.tryReceive // once: a method value allocates
	return s, nil
}

// run reads until the writer ends or ctx does, and returns why it ended.
func (s *session) run(ctx context.Context) (reason string) {
	for {
		n, err := s.read(ctx)
		if n > 0 {
			s.consume(ctx, n)
		}
		if err == nil {
			continue
		}
		if reason, over := s.over(ctx, err); over {
			s.lost()
			return reason
		}
	}
}

// read waits for bytes and leaves them in s.in, behind the fragment if that is
// small. No memory is held while it waits: ten thousand sessions may.
func (s *session) read(ctx context.Context) (int, error) {
	if err := s.out.Ready(ctx); err != nil {
		return 0, err
	}
	s.arm()
	s.takeTurns()
	for {
		s.got, s.failed = -1, nil
		if err := s.raw.Read(s.receive); err != nil {
			if s.in != nil { // waited for until the deadline: its lane may not be the next read's
				s.giveBack()
			}
			return 0, err
		}
		if s.failed != nil {
			return 0, s.failed
		}
		if s.got > 0 {
			return s.got, nil
		}
		if s.got == 0 {
			return 0, io.EOF
		}
		// The budget is used up: wait for it, not for the writer.
		b, err := s.out.Buffer(ctx)
		if err != nil {
			return 0, err
		}
		s.in = b
	}
}

// A session reads about turnBytes in a row before other goroutines get their turn, which
// takes a millisecond or so. A read counts as leastRead at least.
const (
	turnBytes = 2 << 20
	leastRead = 128 << 10
)

// takeTurns lets others run now and then while there is always something to read. Go's
// scheduler is not told of the reads: it would give the processor to another thread
// whenever one takes more than 20 µs, and wake and stop threads all the time for that,
// which costs a fifth of the throughput.
func (s *session) takeTurns() {
	if s.sinceTurn >= turnBytes {
		s.sinceTurn = 0
		runtime.Gosched() // no memory is held meanwhile
	}
	s.sinceTurn += max(s.got, leastRead)
}

// tryReceive reads once, without waiting. It returns false to be called again
// when there is something to read.
func (s *session) tryReceive(fd uintptr) bool {
	if s.in == nil {
		if s.in = s.out.TryBuffer(); s.in == nil {
			return true
		}
	}
	from, to := s.window()
	n, err := socket.Recv(fd, s.in.Bytes()[from:to])
	if err == syscall.EAGAIN {
		s.sinceTurn = 0
		s.giveBack()
		if len(s.fragment) == 0 && cap(s.fragment) > keepFragment {
			s.setFragment(nil)
		}
		return false
	}
	if err != nil {
		s.failed = os.NewSyscallError("read", err)
		s.giveBack()
		return true
	}
	if s.got = n; n == 0 {
		s.giveBack()
	}
	return true
}

func (s *session) giveBack() {
	s.out.Return(s.in)
	s.in = nil
}

// window returns where in a block the next bytes belong: behind the fragment, so
// that they continue it without a copy. A large fragment is continued where it is.
func (s *session) window() (from, to int) {
	size := s.srv.o.Dispatcher.BlockSize()
	fragment := len(s.fragment)
	if s.apart() {
		fragment = 0
	}
	if s.stamps != nil {
		return stampWindow(size, fragment)
	}
	return fragment, size
}

// apart reports whether the fragment is so large that it has memory of its own
// until its record ends.
func (s *session) apart() bool { return len(s.fragment) > s.srv.o.Dispatcher.BlockSize()/2 }

// consume takes the n bytes that were read into s.in.
func (s *session) consume(ctx context.Context, n int) {
	b := s.in
	s.in = nil
	s.srv.m.bytes.Add(int64(n))
	s.bytes.Add(int64(n))
	if s.srv.o.IdleTimeout > 0 {
		s.lastRead = time.Now()
	}

	begin, end, records := s.whole(ctx, b, n)
	if records == 0 { // blank lines at most
		s.out.Return(b)
		return
	}
	if whole := b.Bytes()[begin:end]; manyBlanks(whole) {
		end = begin + len(withoutBlanks(whole))
	}
	if begin > 0 {
		copy(b.Bytes(), b.Bytes()[begin:end])
	}
	s.out.Append(b, end-begin, records)
}

// whole finds the whole records among the n bytes that were read into b, and where
// they begin and end there; what remains is the next fragment. It is apart, like
// join, so that its frame is gone before Append goes deep: an idle session keeps the
// stack that it once needed.
//
//go:noinline
func (s *session) whole(ctx context.Context, b *delivery.Block, n int) (begin, end, records int) {
	begin, _ = s.window()
	from, limit := begin, begin+n
	if len(s.fragment) > 0 || s.skipping {
		var ended bool
		if begin, from, records, ended = s.join(ctx, b.Bytes(), from, limit); !ended {
			return 0, 0, 0
		}
	}
	data := b.Bytes()[from:limit]
	size, more := s.scan.Scan(data)
	s.srv.received(more)
	records += more
	end = from + size
	s.setFragment(append(s.fragment, data[size:]...))
	if begin < end && s.stamps != nil {
		var stamped int
		end, stamped = s.stamps.stamp(b.Bytes(), begin, end)
		begin = 0
		s.srv.m.stamped.Add(float64(stamped))
	}
	if begin < end && s.out.Suspect() {
		var kept []byte
		kept, records = s.checked(ctx, b.Bytes()[begin:end])
		end = begin + len(kept)
	}
	return begin, end, records
}

// join looks for the end of the record that the fragment began, in p from one offset
// to another. It returns where whole records begin, with that one before the others
// if there is room, and from where to look for more.
//
//go:noinline
func (s *session) join(ctx context.Context, p []byte, from, limit int) (begin, next, records int, ended bool) {
	data := p[from:limit]
	end, ok := s.scan.Next(data)
	if !ok {
		s.extend(data)
		return 0, 0, 0, false
	}
	begin, next = from+end, from+end
	switch size := len(s.fragment) + end; {
	case s.skipping, size > s.srv.o.MaxRecord:
		s.tooLong(size)
	case s.apart():
		s.setFragment(append(s.fragment, data[:end]...))
		s.large(ctx)
	default:
		begin = from - copy(p[from-len(s.fragment):], s.fragment)
		if !ilp.IsBlank(p[begin:next]) {
			records = 1
			s.srv.received(1)
		}
	}
	s.setFragment(s.fragment[:0])
	return begin, next, records, true
}

// extend adds data to the record that has not ended yet.
func (s *session) extend(data []byte) {
	if !s.skipping && len(s.fragment)+len(data) <= s.srv.o.MaxRecord {
		s.setFragment(append(s.fragment, data...))
		return
	}
	s.skipping = true
	s.dropped += int64(len(s.fragment) + len(data))
	s.setFragment(s.fragment[:0])
}

// tooLong rejects the record that has just ended: size bytes of it, and what was
// dropped before.
func (s *session) tooLong(size int) {
	s.srv.received(1)
	s.out.CountTooLong()
	s.srv.limit.Log(s.srv.ctx, slog.LevelWarn, rejected.ReasonTooLong, "rejected a record that is longer than ILP_MAX_RECORD",
		slog.String("remote", s.out.Remote()), slog.Int64("bytes", s.dropped+int64(size)), slog.Int("limit", s.srv.o.MaxRecord))
	s.skipping, s.dropped = false, 0
}

// large puts the fragment, now a whole record larger than half a block, on the
// lane: its memory moves there.
func (s *session) large(ctx context.Context) {
	p := s.fragment
	s.setFragment(nil)
	if ilp.IsBlank(p) {
		return
	}
	s.srv.received(1)
	if s.stamps != nil {
		var stamped int
		p, stamped = s.stamps.stampOne(p)
		s.srv.m.stamped.Add(float64(stamped))
	}
	if s.out.Suspect() && !s.acceptable(ctx, p) {
		return
	}
	s.out.AppendLarge(p, 1)
}

// burden says how much the session's unfinished record is in the way of others: its
// memory, weighed with how long it has been waiting for its end. Who has a large
// one, and finishes it, is not the problem. From a few seconds on longer is no
// worse: a small one may be half a day old.
func (s *session) burden(now time.Time) float64 {
	begun := s.begun.Load()
	if begun == 0 {
		return 0
	}
	age := min(now.Sub(time.Unix(0, begun)), 10*time.Second)
	return float64(s.held.Load()) * age.Seconds()
}

// setFragment replaces the fragment and accounts for its memory.
func (s *session) setFragment(p []byte) {
	if len(p) == 0 && len(s.fragment) == 0 && cap(p) == cap(s.fragment) {
		return // as after each read of whole records
	}
	switch {
	case len(p) == 0:
		s.begun.Store(0)
	case len(s.fragment) == 0:
		s.begun.Store(time.Now().UnixNano())
	}
	s.fragment = p
	held := int64(cap(p))
	if before := s.held.Swap(held); held != before {
		sum := s.srv.fragments.Add(held - before)
		s.srv.m.fragmentMemory.Set(float64(sum))
		if held > before && sum > s.srv.o.FragmentMemory {
			s.srv.evict()
		}
	}
}

// checked keeps those of the whole records that may go upstream, and rejects the
// others, as many at once as there are: each time the disk is waited for.
func (s *session) checked(ctx context.Context, whole []byte) (kept []byte, records int) {
	kept = whole[:0]
	var bad []rejected.Record
	var good [][]byte // what is between them
	flush := func() {
		if len(bad) > 0 {
			s.out.Reject(ctx, bad...)
		}
		for _, p := range good {
			kept = append(kept, p...) // not before: it moves over what was rejected
		}
		bad, good = bad[:0], good[:0]
	}
	begin := 0
	for at := 0; at < len(whole); {
		var scan ilp.Scanner
		n, _ := scan.Next(whole[at:]) // all of it, if only the next read could tell that it has ended
		record := whole[at : at+max(n, 1)]
		at += len(record)
		if ilp.IsBlank(record) {
			continue
		}
		reason, detail := s.out.Check(record)
		if reason == "" {
			records++
			continue
		}
		bad = append(bad, rejected.Record{Reason: reason, Detail: detail, Bytes: record})
		if before := at - len(record); before > begin {
			good = append(good, whole[begin:before])
		}
		if begin = at; len(bad) == delivery.RejectAtOnce {
			flush()
		}
	}
	good = append(good, whole[begin:])
	flush()
	return kept, records
}

// acceptable says whether record may go upstream, and rejects it if not.
func (s *session) acceptable(ctx context.Context, record []byte) bool {
	reason, detail := s.out.Check(record)
	if reason == "" {
		return true
	}
	s.out.Reject(ctx, rejected.Record{Reason: reason, Detail: detail, Bytes: record})
	return false
}

// lost says that the writer ended within a record.
func (s *session) lost() {
	n := s.dropped + int64(len(s.fragment))
	if n == 0 {
		return
	}
	s.srv.m.fragments.Inc()
	s.srv.m.fragmentBytes.Add(float64(n))
	s.srv.limit.Log(s.srv.ctx, slog.LevelWarn, "fragment", "a writer ended in the middle of a record; that record is dropped",
		slog.String("remote", s.out.Remote()), slog.Int64("bytes", n))
}

// over says whether a failed read ends the session, and why.
func (s *session) over(ctx context.Context, err error) (reason string, over bool) {
	s.kicked.Store(false)
	switch {
	case s.evicted.Load():
		s.srv.limit.Log(ctx, slog.LevelWarn, endNoMemory, "disconnected a writer with a long unfinished record: unfinished records used up their part of ILP_BUFFER",
			slog.String("remote", s.out.Remote()), slog.Int("bytes", len(s.fragment)))
		return endNoMemory, true
	case s.unwanted.Load():
		return endRejected, true
	case errors.Is(err, io.EOF):
		return endByWriter, true
	case ctx.Err() != nil:
		return endDrain, true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.timeout()
	}
	s.srv.log.Debug("a writer's connection failed", "remote", s.out.Remote(), "error", err)
	return endError, true
}

// close ends the connection. What was appended is still delivered.
func (s *session) close() {
	_ = s.conn.Close()
	if s.in != nil {
		s.giveBack()
	}
	s.setFragment(nil)
	s.out.Close()
}
