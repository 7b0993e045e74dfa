package upstream

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/puddle/v2"

	"questdb-ilp-proxy/auth"
)

// errClosedByServer is why a write failed after the server's FIN.
var errClosedByServer = errors.New("QuestDB closed the connection")

// Conn is an authenticated connection to QuestDB that survived its probation.
//
// One goroutine may write (Write, TryWrite, CloseWrite) while others use the
// remaining methods.
type Conn struct {
	id   uint64
	addr string
	nc   net.Conn
	pool *Pool
	log  *slog.Logger

	challenge   time.Duration // how long the server took to send its challenge
	established time.Time     // when it had survived its probation; set before it is handed out
	renewAt     time.Time     // when an idle one is replaced

	creds   *credentials    // that it was made with
	key     *auth.Key       // of them, that it was authenticated with
	tls     *secured        // nil: plain
	raw     syscall.RawConn // of the TCP connection, below TLS too; nil if there is none
	plain   bool            // nc is that TCP connection: a write is one write(2)
	try     tryWrite
	written atomic.Bool // something was written to it after the handshake
	sock    sockState   // only for the pool's upkeep goroutine

	// closeWrite is held while the half-close is made and judged, so that the
	// reader never reports an end while that is unsettled.
	closeWrite struct {
		sync.Mutex
		done  bool // we half-closed
		first bool // and the kernel says that it did so before the server's FIN came
		// notified gets how our close_notify went, over TLS; nil until it is begun.
		notified <-chan error
	}

	closeOnce sync.Once
	closing   atomic.Bool // we are closing it
	ours      bool        // that is why it ended; written before done is closed
	discarded atomic.Bool
	done      chan struct{}
	end       End // written before done is closed

	// writing keeps the pool's pings apart from its owner's writes where a ping is
	// no single write(2); see [Conn.ping].
	writing sync.Mutex

	// Guarded by pool.mu.
	res      *puddle.Resource[*Conn] // set while acquired
	state    connState
	nudges   int       // callers of Witnesses.Alive that want its keep-alive probes
	pings    int       // LFs that the pool sent over it
	pingedAt time.Time // the latest of them
	// successors are the other connections to its server before its half-close.
	successors []*Conn
	leaving    bool // its owner is about to half-close it: no witness for anything later
}

type connState uint8

const (
	statePending  connState = iota // on probation
	stateIdle                      // ready, in the pool
	stateAcquired                  // handed out
	stateGone                      // given back or removed
)

// End is how a connection ended.
type End struct {
	// Err is nil if the server closed its side (FIN), net.ErrClosed (wrapped) if
	// we closed the connection ourselves, else what broke it (a reset, say).
	Err error
	// At is when that was noticed.
	At time.Time
	// AfterHalfClose is true if our half-close was made, as far as the kernel
	// can tell, before the server's FIN or reset arrived. It is false in doubt.
	AfterHalfClose bool
	// Unacked is how many bytes of ours, our FIN counting as one, the server's
	// kernel had not acknowledged when the end was noticed; -1 if unknown. Noticed
	// may be a moment after it happened, and acknowledgements go on: 0 excludes
	// lost bytes, but not for certain that the two FINs crossed.
	Unacked int
}

// Clean reports whether the server read everything and then closed: its FIN came,
// after our half-close, and nothing of ours was unacknowledged. It does not mean
// that anything was committed or accepted.
func (e End) Clean() bool { return e.Err == nil && e.AfterHalfClose && e.Unacked == 0 }

func newConn(p *Pool, id uint64, addr string, nc net.Conn, challenge time.Duration) *Conn {
	c := &Conn{
		id: id, addr: addr, nc: nc, pool: p, challenge: challenge,
		log:  p.log.With("addr", addr, "conn", id),
		done: make(chan struct{}),
	}
	c.tls, _ = nc.(*secured)
	if tcp, ok := below(nc).(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw, c.plain = raw, c.tls == nil
			c.try.init()
		}
	}
	return c
}

// below is the connection below TLS, or nc itself.
func below(nc net.Conn) net.Conn {
	if s, ok := nc.(*secured); ok {
		return s.below.Conn
	}
	return nc
}

// ID tells connections of one pool apart, in logs for instance.
func (c *Conn) ID() uint64 { return c.id }

// Addr is the IP address and port that the connection goes to. A host name that
// resolves to several addresses is several servers.
func (c *Conn) Addr() string { return c.addr }

// Established is when the connection had survived its probation.
func (c *Conn) Established() time.Time { return c.established }

// Done is closed when the connection has ended: the server's FIN, a reset or
// another error, or our own Discard.
func (c *Conn) Done() <-chan struct{} { return c.done }

// End tells how the connection ended. It is valid once Done is closed.
func (c *Conn) End() End { return c.end }

// Write writes all of p, and blocks for as long as the server takes nothing, or
// until the connection ends.
func (c *Conn) Write(p []byte) (int, error) {
	c.markWritten()
	if !c.plain {
		c.writing.Lock()
		defer c.writing.Unlock()
	}
	n, err := c.nc.Write(p)
	return n, c.writeError(err)
}

// writeError, which is apart so that the stack of every session that writes stays
// small, says why a write failed: one that came upon the deadline that
// [Conn.finish] sets failed because the connection had ended.
//
//go:noinline
func (c *Conn) writeError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.alive() {
		if err = c.end.Err; err == nil {
			err = errClosedByServer
		}
	}
	return fmt.Errorf("write to QuestDB at %s: %w", c.addr, err)
}

// TryWrite makes one attempt to write p without waiting, and returns how much
// went into the socket's buffer: 0 and no error when that is full. Anything but
// plain TCP (TLS) has no such attempt: then it always returns 0 and no error, and
// the caller uses Write. It does not allocate unless it fails.
func (c *Conn) TryWrite(p []byte) (int, error) {
	if !c.plain || len(p) == 0 {
		return 0, nil
	}
	c.markWritten()
	n, err := c.try.write(c.raw, p)
	if err != nil {
		return n, c.writeError(err)
	}
	return n, nil
}

func (c *Conn) markWritten() {
	if !c.written.Load() {
		c.written.Store(true)
	}
}

// Pings is how many LFs the pool had sent over the connection before it was handed
// out. QuestDB 8.x counts them as part of what follows: a run of LFs, or LFs and a
// record, over its buffer of 32,768 bytes is refused there.
func (c *Conn) Pings() int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.pings
}

// ping sends one LF, which QuestDB ignores, over an idle connection. It is one
// write(2) under pool.mu, so it cannot meet the writes of whoever acquires the
// connection next. It reports false if it could not.
func (c *Conn) ping() bool {
	n, err := c.try.write(c.raw, blankLine)
	return n == 1 && err == nil
}

// pingSlowly is ping for what is not plain TCP. It may block until the
// connection's end, and an owner's writes wait for it.
func (c *Conn) pingSlowly() bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.nc.Write(blankLine)
	return err == nil
}

var blankLine = []byte{'\n'}

// CloseWrite half-closes: the server reads everything up to here and then closes
// its side, which Done reports. A second call does nothing.
//
// Over TLS both TLS and TCP are half-closed, and the former waits like a write.
func (c *Conn) CloseWrite() error {
	c.pool.mu.Lock()
	if !c.leaving {
		c.leaving = true
		c.successors = c.pool.others(c)
	}
	c.pool.mu.Unlock()
	if c.tls != nil {
		return c.closeWriteTLS()
	}
	c.closeWrite.Lock()
	defer c.closeWrite.Unlock()
	if c.closeWrite.done {
		return nil
	}
	first, err := c.halfClose()
	if err != nil {
		return fmt.Errorf("half-close the connection to QuestDB at %s: %w", c.addr, err)
	}
	c.closeWrite.done, c.closeWrite.first = true, first
	return nil
}

// closeWriteTLS is CloseWrite over TLS. What counts is the order of the two
// close_notify: TCP ends behind them, on either side at any time.
func (c *Conn) closeWriteTLS() error {
	c.writing.Lock() // a ping may be under way
	defer c.writing.Unlock()
	c.closeWrite.Lock()
	if c.closeWrite.done {
		c.closeWrite.Unlock()
		return nil
	}
	// Nothing has come that TLS has not dealt with, so the server had not ended when this
	// was asked; ours follows at once.
	c.closeWrite.done, c.closeWrite.first = true, c.alive() && (c.raw == nil || heardOut(c.raw, &c.tls.below.handled))
	notified := make(chan error, 1)
	c.closeWrite.notified = notified
	c.closeWrite.Unlock() // the reader must be able to end the connection, and the write with it
	err := c.tls.closeNotify()
	notified <- err
	if err != nil {
		return fmt.Errorf("half-close the connection to QuestDB at %s: %w", c.addr, c.writeError(err))
	}
	if half, ok := below(c.nc).(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the server may have answered already, and all be over
	}
	return nil
}

// halfClosedFirst tells the reader, which has seen the connection's end, whether our
// half-close was made before the server's.
func (c *Conn) halfClosedFirst() bool {
	c.closeWrite.Lock()
	defer c.closeWrite.Unlock()
	if c.closeWrite.notified == nil {
		return c.closeWrite.first
	}
	// A close_notify that still waits for room was not answered.
	_ = below(c.nc).SetWriteDeadline(time.Unix(1, 0))
	return <-c.closeWrite.notified == nil && c.closeWrite.first
}

// halfCloseAny half-closes whatever can be, without the kernel's evidence.
func halfCloseAny(c *Conn) (first bool, err error) {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return false, errors.ErrUnsupported
	}
	first = c.alive()
	return first, half.CloseWrite()
}

// Unacked is how many bytes that were written the server's kernel has not
// acknowledged (SIOCOUTQ on Linux). A half-close counts as one byte.
func (c *Conn) Unacked() (int, error) {
	if c.raw == nil {
		return 0, errors.ErrUnsupported
	}
	return unacked(c.raw)
}

// Discard closes the connection and gives its place in the pool back. It must be
// called once for each acquired connection; more calls do nothing.
//
// The kernel still tries to deliver what was written. But should the server have
// more to say after that, it gets a reset and drops what it had not read yet: for
// an end that counts, CloseWrite, wait for Done with a deadline, then Discard.
func (c *Conn) Discard() {
	if c.discarded.CompareAndSwap(false, true) {
		c.close()
		c.pool.giveBack(c)
	}
}

// close closes the socket and waits until the reader has noticed.
func (c *Conn) close() {
	c.closeOnce.Do(func() {
		c.closing.Store(true)
		// Whatever Close has to say, the connection is gone.
		// Not nc: TLS would first wait until it can say so.
		_ = below(c.nc).Close()
	})
	<-c.done
}

// maxSurplus is how many bytes of a server that should say nothing are ignored.
const maxSurplus = 4096

// errTalks is how a connection ends whose server says more than maxSurplus.
var errTalks = fmt.Errorf("%w: the server goes on talking after the handshake", auth.ErrChallengeMalformed)

// read waits for the connection's end, for its whole life. The server never says
// anything after the handshake, so whatever it says is only counted; one that does
// not stop is no QuestDB, and would keep us busy.
func (c *Conn) read() {
	var buf [64]byte
	var surplus int64
	for {
		n, err := c.nc.Read(buf[:])
		if n > 0 {
			if surplus == 0 {
				c.log.Debug("QuestDB sent bytes, which it never does on this port; ignored", "bytes", n)
			}
			surplus += int64(n)
		}
		if err == nil && surplus > maxSurplus {
			err = errTalks
			c.closeOnce.Do(func() { _ = below(c.nc).Close() })
		}
		if err != nil {
			c.finish(err, surplus)
			return
		}
	}
}

// finish records how the connection ended.
func (c *Conn) finish(err error, surplus int64) {
	end := End{Err: err, At: time.Now(), Unacked: -1}
	c.ours = c.closing.Load()
	switch {
	case errors.Is(err, io.EOF):
		end.Err = nil
		if c.raw != nil {
			// A reset that came behind the FIN does not show in reads any more.
			end.Err = socketError(c.raw)
		}
	case c.ours && !errors.Is(err, net.ErrClosed):
		end.Err = fmt.Errorf("%w: %w", net.ErrClosed, err) // not every kind of connection says so
	}
	if n, err := c.Unacked(); err == nil {
		end.Unacked = n
	}
	end.AfterHalfClose = c.halfClosedFirst()
	if c.tls != nil && end.Err == nil && end.AfterHalfClose {
		if end.Err = c.tls.endedWell(); end.Err == nil {
			c.closedTLS(&end)
		}
	}
	c.end = end
	if end.Clean() {
		c.pool.succeed(c) // before anybody can see that it ended
	}
	close(c.done)
	// Whoever is blocked in a write to it must not stay there: after the server's
	// FIN that might be for ever.
	_ = below(c.nc).SetWriteDeadline(time.Unix(1, 0)) // closed already, or of no use: then no write blocks
	if surplus > 0 {
		c.log.Debug("QuestDB had sent bytes before the connection ended", "bytes", surplus)
	}
	c.pool.ended(c)
}

// finWait is how long the acknowledgement of our FIN may come after close_notify.
const finWait = 2 * time.Second

// closedTLS waits until the server's kernel has acknowledged our FIN, where its TLS
// was closed: it answers our close_notify, and our FIN is a segment of its own right
// behind that. Its acknowledgement is under way then.
func (c *Conn) closedTLS(end *End) {
	for wait := 100 * time.Microsecond; end.Unacked > 0 && time.Since(end.At) < finWait; wait = min(2*wait, 20*time.Millisecond) {
		time.Sleep(wait)
		n, err := c.Unacked()
		if err == nil {
			err = socketError(c.raw) // a reset empties the queue as well
		}
		if err != nil {
			end.Err = err
			return
		}
		end.Unacked = n
	}
}

// alive reports whether the connection has not ended yet.
func (c *Conn) alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}
