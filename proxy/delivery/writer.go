package delivery

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// A Writer is one session's way into its lane. Its methods are for the
// session's goroutine only.
type Writer struct {
	lane       *Lane
	remote     string
	born       time.Time
	disconnect func()
	wake       func()
	closed     atomic.Bool

	// strict is set once the writer sent a malformed record: from then on its
	// records are checked before they go upstream.
	strict atomic.Bool
	// refused counts its records that QuestDB refused; demoted is set when there
	// were too many of them, and has it moved to a lane apart.
	refused atomic.Int32
	demoted atomic.Bool
	// taken is set once QuestDB has accepted a record of it after it had refused another
	// one of the same table.
	taken atomic.Bool
	// guessed is when a record of it was tried because others' were refused; under the
	// quarantine's mu.
	guessed time.Time
	// last is the lane's offset behind the writer's last record. moving is set while the
	// session waits to change its lane, and handed once what was pending was handed over,
	// up to the offset apart of the other lane. All are under the lane's mu.
	last           int64
	moving, handed bool
	apart          int64
}

// Remote returns the address of the writer at the other end of the session.
func (w *Writer) Remote() string { return w.remote }

// host returns the address without its port: the same for all connections of a client.
func (w *Writer) host() string {
	if host, _, err := net.SplitHostPort(w.remote); err == nil {
		return host
	}
	return w.remote
}

// Lane returns the number of the lane that the writer is on.
func (w *Writer) Lane() int { return w.lane.id }

// Close takes the writer off its lane. What it appended is still delivered.
func (w *Writer) Close() {
	if !w.closed.Swap(true) {
		w.lane.d.leave(w)
	}
}

// OnDemoted has f be called, by another goroutine, once Ready has to be called although
// nothing may come to be read: others wait for that. It is for before the first Append.
func (w *Writer) OnDemoted(f func()) { w.wake = f }

// Ready must be called before each read. It waits, while ctx lives, where the
// writer has to change its lane: QuestDB refuses its records again and again, and
// others must not pay for that.
func (w *Writer) Ready(ctx context.Context) error {
	apart := w.lane.d.apart
	if !w.demoted.Load() || w.lane == apart || apart == nil {
		return nil
	}
	return w.move(ctx, apart)
}

// move takes the writer to another lane when nothing of it is left on its own, so
// that the order of its records is kept.
func (w *Writer) move(ctx context.Context, to *Lane) error {
	l := w.lane
	for {
		next := l.progress.wait()
		l.mu.Lock()
		done := l.j.settled >= w.last || w.handed
		w.moving = !done
		l.mu.Unlock()
		if done {
			break
		}
		select {
		case <-next:
		case <-ctx.Done():
			l.mu.Lock()
			w.moving = false
			l.mu.Unlock()
			return ctx.Err()
		}
	}
	l.d.mu.Lock()
	l.sessions--
	to.sessions++
	l.d.mu.Unlock()
	w.lane, w.last = to, w.apart
	l.d.m.demoted.Inc()
	l.d.log.Warn("a writer goes on sending records that QuestDB refuses; it is on a lane of its own now, and slower", "remote", w.remote)
	return nil
}

// TryBuffer returns an empty block to read into, or nil if the budget has none
// left now.
func (w *Writer) TryBuffer() *Block {
	l := w.lane
	if l.share.Overdrawn() {
		l.freeSpare() // and ask for it, as everybody
	} else if b := l.takeSpare(); b != nil {
		return b
	}
	f := &l.d.free
	if !l.share.TryAcquire(blockCost(f.size)) {
		return nil
	}
	return f.get()
}

// Buffer returns an empty block to read into, waiting until the budget allows
// it. It fails only when ctx ends, with ctx's error.
func (w *Writer) Buffer(ctx context.Context) (*Block, error) {
	if b := w.TryBuffer(); b != nil {
		return b, nil
	}
	l := w.lane
	l.nudge() // it may have something to confirm, and so to free
	f := &l.d.free
	if err := l.share.Acquire(ctx, blockCost(f.size)); err != nil {
		return nil, err
	}
	return f.get(), nil
}

// Return gives back a block of which nothing is to be kept.
func (w *Writer) Return(b *Block) { w.lane.putSpare(b) }

// Suspect reports whether the session should look at each record before it
// appends it: then it asks Check.
func (w *Writer) Suspect() bool {
	return w.strict.Load() || w.lane.d.quarantine.watching()
}

// Append puts the first n bytes of b, which are whole records, into the
// journal, and writes them upstream if that is possible at once. The block
// belongs to the lane from then on. Few bytes are copied into the lane's last
// block, so that many small reads share one, and more of them where others wait
// there already; many stay where they are, unless Options.Gather says otherwise.
func (w *Writer) Append(b *Block, n, records int) {
	l := w.lane
	now := time.Now()
	l.mu.Lock()
	tail := l.j.room(n)
	copied := tail != nil && (l.d.o.Gather || n <= len(b.buf)/4 && (n <= maxGathered || tail.n > 0))
	if copied {
		copy(tail.buf[tail.n:], b.buf[:n])
	} else {
		l.j.push(b)
	}
	l.accept(w, n, records, now)
	l.mu.Unlock()
	if copied {
		l.putSpare(b) // after the write, which waits for nothing that it need not
	}
}

// AppendLarge puts p, whole records that have memory of their own, into the
// journal: one that is larger than a block, or the last ones, for which no block can
// be waited for. The memory of p belongs to the lane from then on.
func (w *Writer) AppendLarge(p []byte, records int) {
	l := w.lane
	b := &Block{buf: p, charge: int64(cap(p))}
	l.share.Force(b.charge)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.j.push(b)
	l.accept(w, len(p), records, now)
}

// accept takes n bytes of the last block into the journal. The caller holds mu.
func (l *Lane) accept(w *Writer, n, records int, now time.Time) {
	l.j.accept(w, n, records, now)
	w.last = l.j.end
	l.flush()
}
