package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
	"questdb-ilp-proxy/proxy/upstream"
)

var (
	errReset = errors.New("connection reset by peer")
	errOurs  = errors.New("closed by us")
)

// simServer behaves as a real QuestDB was measured to: it reads in pieces of its
// receive buffer, closes a while after it refused a record and discards what
// follows, with a reset if bytes remain unread and a FIN otherwise; at EOF it
// closes its side first and commits later; killed, it loses what it had not
// committed. It is meant for a synctest bubble: its delays cost nothing.
type simServer struct {
	rng *rand.Rand // under mu
	// recvBuffer is how much it reads at once.
	recvBuffer int
	// refuse says which well-formed records it refuses.
	refuse func(record []byte) bool
	// relay hides resets behind a FIN; skips goes on after a malformed record.
	relay, skips bool
	// blanks is how many bytes of blank lines in a row it refuses, as 8.x does; 0 for none.
	blanks int
	// window is how many bytes a connection takes before it blocks.
	window int
	// reading is how long it takes to each read.
	reading time.Duration
	// busy is how long it takes from the client's FIN to its own.
	busy time.Duration
	// idle is after how long without a byte a relay ends a connection; 0 for never.
	idle time.Duration
	// cut is how many bytes a connection carries before the network resets it;
	// asked for each new connection, 0 for never.
	cut func(*rand.Rand) int

	mu        sync.Mutex
	read      sync.Cond // somebody's bytes were
	up        bool
	paused    bool
	full      bool // its disk is: it refuses every record
	process   int  // changes with each start
	alone     bool // the pool knows no other connection
	conns     map[*simConn]bool
	made      int
	committed [][]byte
	parsed    [][]byte // every accepted record in the order of parsing, lost ones too
	twice     bool     // a record was parsed twice on one connection
	longest   int      // how many bytes of blank lines stood before a record
}

func newSimServer(seed uint64) *simServer {
	s := &simServer{rng: rand.New(rand.NewPCG(seed, 99)), recvBuffer: 128 << 10, window: 256 << 10, reading: time.Millisecond, up: true, conns: map[*simConn]bool{}}
	s.read.L = &s.mu
	return s
}

// between returns a random duration. The caller holds mu.
func (s *simServer) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

// kill ends the process: what was not committed is lost. polite commits nothing
// either, but closes with FINs where everything was read.
func (s *simServer) kill(polite bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.paused = false, false
	s.process++
	for c := range s.conns {
		c.uncommitted = nil
		if polite && c.wire.Len() == 0 && !s.relay {
			c.over(nil)
		} else {
			c.over(s.hide(errReset))
		}
	}
}

func (s *simServer) start() { s.change(func() { s.up = true }) }

// connections returns how many there were.
func (s *simServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

func (s *simServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	for c := range s.conns {
		c.cond.Broadcast()
	}
}

// hide is what a relay makes of a reset.
func (s *simServer) hide(err error) error {
	if s.relay {
		return nil
	}
	return err
}

// cutOne resets one connection somewhere between.
func (s *simServer) cutOne() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.over(errReset)
		break
	}
}

func (s *simServer) connect(ctx context.Context) (*simConn, error) {
	pause := 50 * time.Millisecond
	for {
		s.mu.Lock()
		if s.up && !s.paused {
			s.made++
			c := &simConn{s: s, wire: wires.Get().(*bytes.Buffer), id: s.made, process: s.process, done: make(chan struct{}), born: time.Now()}
			c.cond.L = &s.mu
			if s.cut != nil {
				c.cutAfter = s.cut(s.rng)
			}
			s.conns[c] = true
			if s.idle > 0 {
				c.idle = time.AfterFunc(s.idle, func() { s.change(func() { c.over(nil) }) })
			}
			s.mu.Unlock()
			go c.serve()
			return c, nil
		}
		s.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// Acquire and the rest make it a Source with a pool of its own.
func (s *simServer) Acquire(ctx context.Context) (Conn, error) {
	t := time.NewTimer(time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *simServer) AcquireAddr(ctx context.Context, _ string) (Conn, error) { return s.Acquire(ctx) }
func (s *simServer) Hurry(int, time.Duration)                                {}

// ProveSoon lets others ask meanwhile.
func (s *simServer) ProveSoon(ctx context.Context, addr string) error {
	s.mu.Lock()
	wait := s.between(0, 300*time.Millisecond)
	s.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return s.Prove(ctx, addr)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Prove needs a server that is there, and lets a stopped one be late.
func (s *simServer) Prove(ctx context.Context, _ string) error {
	began := time.Now()
	for {
		s.mu.Lock()
		up, paused := s.up, s.paused
		s.mu.Unlock()
		switch {
		case !up:
			return errors.New("connection refused")
		case !paused && time.Since(began) > 100*time.Millisecond:
			return errors.New("late")
		case !paused:
			return nil
		}
		t := time.NewTimer(20 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

type simWitness struct {
	s       *simServer
	process int
	some    bool
	up      bool
}

// Witness stands for connections that the pool has open to the same process.
func (s *simServer) Witness(conn Conn) Witness {
	s.mu.Lock()
	defer s.mu.Unlock()
	return simWitness{s, s.process, !s.alone, s.up}
}

func (w simWitness) Some() bool { return w.some }

func (w simWitness) Release() {}

func (w simWitness) Gone() bool { return !w.Alive(context.Background()) }

func (w simWitness) Alive(context.Context) bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.some && w.up && w.s.up && w.s.process == w.process
}

// simConn is one connection. All its fields are under s.mu.
type simConn struct {
	s        *simServer
	cond     sync.Cond // something of it has changed, or of the server
	id       int
	process  int
	born     time.Time
	wire     *bytes.Buffer // sent by the client, not read by the server; nil once it is over and read
	half     bool          // the client's FIN was sent
	carried  int
	cutAfter int
	end      upstream.End
	done     chan struct{}
	idle     *time.Timer
	ended    bool
	rest     []byte // read, not a whole record yet
	blank    int    // bytes of blank lines behind the last record
	// uncommitted is what was parsed.
	uncommitted [][]byte
	broken      bool // a record was refused
}

func (c *simConn) over(err error) {
	if c.ended {
		return
	}
	c.ended = true
	unacked := 0
	if c.wire.Len() > 0 && err == nil && !c.s.relay {
		unacked = c.wire.Len()
	}
	c.end = upstream.End{Err: err, At: time.Now(), AfterHalfClose: c.half, Unacked: unacked}
	delete(c.s.conns, c)
	close(c.done)
	c.cond.Broadcast()
}

func (c *simConn) TryWrite(p []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.take(p)
}

func (c *simConn) take(p []byte) (int, error) {
	if c.ended {
		return 0, errReset
	}
	n := max(min(len(p), c.s.window-c.wire.Len()), 0)
	if c.cutAfter > 0 && c.carried+n >= c.cutAfter {
		n = c.cutAfter - c.carried
		c.wire.Write(p[:n])
		c.over(errReset)
		return n, errReset
	}
	if n > 0 {
		if c.idle != nil && c.idle.Stop() {
			c.idle.Reset(c.s.idle)
		}
		c.carried += n
		c.wire.Write(p[:n])
		c.cond.Broadcast()
	}
	return n, nil
}

func (c *simConn) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	sum := 0
	for {
		n, err := c.take(p[sum:])
		sum += n
		if err != nil || sum == len(p) {
			return sum, err
		}
		c.cond.Wait()
	}
}

func (c *simConn) CloseWrite() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.ended {
		return errReset
	}
	c.half = true
	if c.idle != nil {
		c.idle.Stop()
	}
	c.cond.Broadcast()
	return nil
}

func (c *simConn) Done() <-chan struct{} { return c.done }
func (c *simConn) End() upstream.End     { return c.end }
func (c *simConn) Addr() string          { return "sim:9009" }
func (c *simConn) Pings() int            { return 0 }
func (c *simConn) Unacked() (int, error) { return 0, nil } // its kernel has what the window takes

func (c *simConn) Discard() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.over(errOurs)
}

// serve is the server's side.
func (c *simConn) serve() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		c.wire.Reset()
		wires.Put(c.wire)
		c.wire = nil
	}()
	lastCommit := time.Now()
	for {
		for !c.ended && (s.paused || c.wire.Len() == 0 && !c.half) {
			c.cond.Wait()
		}
		if c.process != s.process {
			return // killed: what it had read is gone
		}
		if c.ended { // cut: what arrived is read and committed all the same
			c.read()
			c.commitLater()
			return
		}
		if c.wire.Len() == 0 { // our FIN
			if busy := s.busy; busy > 0 {
				s.mu.Unlock()
				select {
				case <-time.After(busy):
				case <-c.done:
				}
				s.mu.Lock()
				if c.process != s.process || c.ended {
					return
				}
			}
			c.rest = nil
			c.over(nil)
			c.commitLater()
			return
		}
		reading := s.reading
		s.mu.Unlock()
		<-time.After(reading)
		s.mu.Lock()
		if c.process != s.process || s.paused {
			continue
		}
		c.read()
		if c.broken {
			s.mu.Unlock()
			time.Sleep(30 * time.Millisecond)
			s.mu.Lock()
			if c.process != s.process {
				return
			}
			if c.wire.Len() > 0 {
				c.over(s.hide(errReset))
			} else {
				c.over(nil)
			}
			c.commitLater()
			return
		}
		if time.Since(lastCommit) > 500*time.Millisecond {
			lastCommit = time.Now()
			s.committed = append(s.committed, c.uncommitted...)
			c.uncommitted = nil
		}
	}
}

// read reads once and parses.
func (c *simConn) read() {
	s := c.s
	size := s.recvBuffer
	for size <= len(c.rest) {
		size *= 4
	}
	in := c.wire.Next(size - len(c.rest))
	if len(c.rest) > 0 {
		in = append(c.rest, in...)
	}
	for !c.broken {
		before := len(in)
		in = trimPadding(in)
		c.blank += before - len(in)
		if c.broken = s.blanks > 0 && c.blank >= s.blanks; c.broken {
			break
		}
		var scan ilp.Scanner
		n, ok := scan.Next(in)
		if !ok {
			break
		}
		record := bytes.Clone(in[:n])
		in = in[n:]
		if ilp.IsBlank(record) {
			c.blank += n
		} else {
			s.longest = max(s.longest, c.blank)
			c.blank = 0
		}
		switch bad := ilp.Validate(record) != nil; {
		case ilp.IsBlank(record):
		case bad && s.skips:
		case bad, s.full, s.refuse != nil && s.refuse(record):
			c.broken = true
		default:
			for _, u := range c.uncommitted {
				if bytes.Equal(u, record) {
					s.twice = true
				}
			}
			c.uncommitted = append(c.uncommitted, record)
			s.parsed = append(s.parsed, record)
		}
	}
	c.rest = nil
	if !c.broken {
		c.rest = bytes.Clone(in)
	}
	c.cond.Broadcast()
	s.read.Broadcast()
}

// manyLFs is padding by the piece: nearly all that the server reads is padding.
var manyLFs = bytes.Repeat([]byte{'\n'}, 4<<10)

func trimPadding(b []byte) []byte {
	for size := len(manyLFs); size > 0; size /= 8 {
		for bytes.HasPrefix(b, manyLFs[:size]) {
			b = b[size:]
		}
	}
	return b
}

// wires are buffers of connections that are over. Growing them anew for each
// padding took most of the time of a history.
var wires = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// commitLater commits, unless the process dies before. The caller holds mu.
func (c *simConn) commitLater() {
	s := c.s
	rows := c.uncommitted
	c.uncommitted = nil
	delay := s.between(14*time.Millisecond, 135*time.Millisecond)
	process := s.process
	go func() {
		// The time of a stopped process does not pass.
		for waited := time.Duration(0); waited < delay; {
			time.Sleep(10 * time.Millisecond)
			s.mu.Lock()
			if !s.paused {
				waited += 10 * time.Millisecond
			}
			s.mu.Unlock()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.process == process {
			s.committed = append(s.committed, rows...)
		}
	}()
}

// counted is a simServer that counts the connections that lanes took, apart from those
// for trials, and the proofs that were asked for.
type counted struct {
	*simServer
	conns, now, soon atomic.Int64
}

func (c *counted) Acquire(ctx context.Context) (Conn, error) {
	c.conns.Add(1)
	return c.simServer.Acquire(ctx)
}

func (c *counted) Prove(ctx context.Context, addr string) error {
	c.now.Add(1)
	return c.simServer.Prove(ctx, addr)
}

func (c *counted) ProveSoon(ctx context.Context, addr string) error {
	c.soon.Add(1)
	return c.simServer.ProveSoon(ctx, addr)
}

// memoryRejects is a Rejects that keeps what it is given.
type memoryRejects struct {
	mu      sync.Mutex
	records []rejected.Record
	lost    []string
	err     error
}

func (r *memoryRejects) Put(records ...rejected.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	for _, x := range records {
		x.Bytes = bytes.Clone(x.Bytes)
		r.records = append(r.records, x)
	}
	return nil
}

func (r *memoryRejects) Lost(records ...rejected.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range records {
		r.lost = append(r.lost, x.Reason+" "+x.Remote+" "+string(x.Bytes))
	}
}

// fail has Put fail with err from now on; nil: work.
func (r *memoryRejects) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *memoryRejects) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

func (r *memoryRejects) all() []rejected.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]rejected.Record(nil), r.records...)
}

// row is the record number n of writer w; its table and value tell what it is.
func row(w, n int) string { return fmt.Sprintf("t%d n=%di %d\n", w, n, n) }

// rowOf is the writer and the number of a row; not ok if it is something else.
func rowOf(record string) (w, n int, ok bool) {
	writer, rest, _ := strings.Cut(strings.TrimPrefix(record, "t"), " n=")
	number, _, _ := strings.Cut(rest, "i ")
	w, err := strconv.Atoi(writer)
	n, err2 := strconv.Atoi(number)
	return w, n, err == nil && err2 == nil && record == row(w, n)
}
