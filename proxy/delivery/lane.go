package delivery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sethvargo/go-retry"
)

// suspicion is how long a lane's sessions check what they read after the server
// closed a connection of that lane in the middle of the work: most likely it
// did not like a record.
const suspicion = 10 * time.Second

// aliveLong is how long a connection must have worked for the next failure to
// be a new one, and not one more of the same trouble.
const aliveLong = 5 * time.Second

// A Lane is one upstream connection at a time and the journal of what is not
// settled yet.
//
// Who writes: the field writing is the right to write to conn. A session takes
// it if it is free, writes what conn takes without waiting, and gives it back;
// if bytes remain, the right stays taken and passes to the lane's goroutine,
// which waits for the server to read. So bytes never mix, and a session never
// waits for the upstream.
type Lane struct {
	id    int
	d     *Dispatcher
	share *Share
	// wake tells the lane's goroutine to look at the state; one is enough.
	wake chan struct{}
	// state is what the lane does or waits for: a laneState.
	state atomic.Int32
	// suspect is until when sessions check their records: Unix nanoseconds.
	suspect atomic.Int64

	sessions int // guarded by d.mu

	mu sync.Mutex
	j  journal
	// conn is nil while there is no connection, or it failed.
	conn Conn
	// writing is set while somebody has the right to write to conn.
	writing bool
	// handed is set when that right was left to the lane's goroutine.
	handed bool
	// still is signalled when no session writes any more.
	still sync.Cond
}

type laneState int32

const (
	laneIdle laneState = iota
	laneConnecting
	laneOpen
	laneBlocked
	laneBackoff
	laneEnding
	laneStates
)

// String returns the state as metrics name it.
func (s laneState) String() string {
	return [...]string{"idle", "connecting", "open", "blocked", "backoff", "ending"}[s]
}

func newLane(d *Dispatcher, id int, share *Share) *Lane {
	l := &Lane{id: id, d: d, share: share, wake: make(chan struct{}, 1)}
	l.still.L = &l.mu
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

func (l *Lane) unsettled() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.j.recordsAfter(l.j.sent) // what is written is settled, see wrote
}

func (l *Lane) oldest() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.j.unsettled == 0 {
		return time.Time{}, false
	}
	return l.j.blocks[l.j.head].accepted, true
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
	for l.conn != nil {
		p := l.j.pending()
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
}

// stop gives back the right to write.
func (l *Lane) stop() {
	l.writing, l.handed = false, false
	l.still.Broadcast()
}

// wrote accounts for n bytes that were written. What is written is settled:
// confirmation will come between the two.
func (l *Lane) wrote(n int) {
	if n == 0 {
		return
	}
	l.d.m.bytes.Add(float64(n))
	l.d.m.records.Add(float64(l.j.advance(n)))
	l.j.settle(l.j.sent, l.release)
}

// finish does the writes that a session left to the lane, waiting for the
// server as long as the connection lives.
func (l *Lane) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing && !l.handed {
		return // a session is at it
	}
	l.writing = true
	defer l.stop()
	for l.conn != nil {
		p := l.j.pending()
		if len(p) == 0 {
			return
		}
		conn := l.conn
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
		if err != nil {
			return // conn.Done follows
		}
	}
}

// run is the lane's goroutine: it takes a connection when there is something to
// write, and another one when that has failed.
func (l *Lane) run(ctx context.Context) {
	var delay retry.Backoff
	for l.await(ctx) {
		l.set(laneConnecting)
		conn, err := l.d.o.Source.Acquire(ctx)
		if err != nil {
			return // only because ctx ended
		}
		began := time.Now()
		failed := l.carry(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		if !failed {
			delay = nil
			continue
		}
		if delay == nil || time.Since(began) > aliveLong {
			delay = newBackoff(l.d.o.RetryBase, l.d.o.RetryMax)
		}
		l.set(laneBackoff)
		wait, _ := delay.Next()
		if !sleep(ctx, wait) {
			return
		}
		l.d.m.retries.Inc()
	}
}

// await waits until there is something to write. It returns false when the lane
// is to end.
func (l *Lane) await(ctx context.Context) bool {
	for {
		l.mu.Lock()
		pending := l.j.sent < l.j.end
		l.mu.Unlock()
		if pending {
			return ctx.Err() == nil
		}
		l.set(laneIdle)
		select {
		case <-l.wake:
		case <-l.d.draining:
			return l.unwritten() && ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}
}

func (l *Lane) unwritten() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.j.sent < l.j.end
}

// carry writes the journal to conn until conn ends, or the lane does. It
// reports whether the connection failed, that is, ended with work on it.
func (l *Lane) carry(ctx context.Context, conn Conn) (failed bool) {
	defer conn.Discard()
	// A write that waits for the server must end with the lane.
	stop := context.AfterFunc(ctx, conn.Discard)
	defer stop()

	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	l.set(laneOpen)
	for {
		l.finish()
		draining := l.d.draining
		if l.unwritten() {
			draining = nil
		}
		select {
		case <-l.wake:
		case <-conn.Done():
			return l.detach(ctx, conn)
		case <-draining:
			if l.unwritten() {
				continue
			}
			l.set(laneEnding)
			_ = conn.CloseWrite() // an error means that it ended: Done follows
			select {
			case <-conn.Done():
			case <-ctx.Done():
			}
			return l.detach(ctx, conn)
		}
	}
}

// detach takes the ended conn away from the journal and reports whether it had
// been in use: whether the last thing it did was not simply to be idle.
func (l *Lane) detach(ctx context.Context, conn Conn) (failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing && !l.handed {
		l.still.Wait()
	}
	l.stop()
	l.conn = nil
	l.j.rewind()
	pending := l.j.sent < l.j.end
	end := conn.End()
	if ctx.Err() != nil || end.AfterHalfClose && end.Err == nil {
		return false
	}
	if !pending {
		l.d.log.Debug("upstream connection ended while idle", "lane", l.id, "server", conn.Addr(), "cause", cause(end.Err))
		return false
	}
	l.d.m.failures.Inc()
	l.suspect.Store(time.Now().Add(suspicion).UnixNano())
	l.d.log.LogAttrs(ctx, slog.LevelWarn, "QuestDB closed a connection with records on it; what was not written goes over the next one",
		slog.Int("lane", l.id), slog.String("server", conn.Addr()), slog.String("cause", cause(end.Err)))
	return true
}

func cause(err error) string {
	if err == nil {
		return "closed by the server"
	}
	return err.Error()
}

func newBackoff(base, limit time.Duration) retry.Backoff {
	return retry.WithCappedDuration(limit, retry.WithJitterPercent(20, retry.NewExponential(base)))
}

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
