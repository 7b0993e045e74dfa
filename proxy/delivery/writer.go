package delivery

import (
	"context"
	"sync/atomic"
	"time"
)

// A Writer is one session's way into its lane. Its methods are for the
// session's goroutine only, except Remote.
type Writer struct {
	lane   *Lane
	remote string
	closed atomic.Bool
}

// Remote returns the address of the writer at the other end of the session.
func (w *Writer) Remote() string { return w.remote }

// Lane returns the number of the lane that the writer is on.
func (w *Writer) Lane() int { return w.lane.id }

// Close takes the writer off its lane. What it appended is still delivered.
func (w *Writer) Close() {
	if w.closed.CompareAndSwap(false, true) {
		w.lane.d.leave(w.lane)
	}
}

// TryBuffer returns an empty block to read into, or nil if the budget has none
// left now.
func (w *Writer) TryBuffer() *Block {
	f := &w.lane.d.free
	if !w.lane.share.TryAcquire(blockCost(f.size)) {
		return nil
	}
	return f.get()
}

// Buffer returns an empty block to read into, waiting until the budget allows
// it. It fails only when ctx ends, with ctx's error.
func (w *Writer) Buffer(ctx context.Context) (*Block, error) {
	f := &w.lane.d.free
	if err := w.lane.share.Acquire(ctx, blockCost(f.size)); err != nil {
		return nil, err
	}
	return f.get(), nil
}

// Return gives back a block of which nothing is to be kept.
func (w *Writer) Return(b *Block) { w.lane.release(b) }

// Suspect reports whether a record on this writer's lane was refused lately, so
// that the session should put only well-formed records into the journal.
func (w *Writer) Suspect() bool { return w.lane.suspect.Load() > time.Now().UnixNano() }

// Append puts the first n bytes of b, which are whole records, into the
// journal, and writes them upstream if that is possible at once. The block
// belongs to the lane from then on. Few bytes are copied into the lane's last
// block, so that many small reads share one; many stay where they are.
func (w *Writer) Append(b *Block, n, records int) {
	l := w.lane
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if tail := l.j.room(n); tail != nil && n <= len(b.buf)/4 {
		copy(tail.buf[tail.n:], b.buf[:n])
		l.release(b)
	} else {
		l.j.push(b)
	}
	l.j.grow(w, n, records, now)
	l.flush()
}

// AppendLarge puts p, one whole record that is larger than a block, into the
// journal. The memory of p belongs to the lane from then on.
func (w *Writer) AppendLarge(p []byte) {
	l := w.lane
	b := &Block{buf: p, charge: int64(cap(p))}
	l.share.Force(b.charge)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.j.push(b)
	l.j.grow(w, len(p), 1, now)
	l.flush()
}
