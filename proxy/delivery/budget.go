package delivery

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes that all journals and fragments hold together.
//
// It is split into shares, one for each lane. Every share has a guarantee that
// nobody else can use up; what is not guaranteed is for whoever comes first.
// So a lane whose upstream connection is stuck cannot take all memory from the
// others.
type Budget struct {
	mu     sync.Mutex
	limit  int64
	used   int64
	shares []*Share
	// turn is the share that is served first when memory comes free.
	turn int
	// spare is what the guarantees still hold back: the sum over all shares of
	// guarantee-used, where that is positive.
	spare int64
	// waiting counts the waiters of all shares.
	waiting atomic.Int32
	// overdrawn is whether more is used than leaves every share its guarantee; see Force.
	overdrawn atomic.Bool
	// reclaim, if it is set, gives back what is kept for speed only. It is called without
	// mu when somebody begins to wait.
	reclaim func()
}

// Share is one lane's part of a Budget. Its fields are guarded by the Budget's
// mutex.
type Share struct {
	b         *Budget
	guarantee int64
	most      int64 // what it may hold at most; 0: the whole budget
	used      int64
	waiters   list.List   // of *budgetWaiter, the oldest in front
	beyond    atomic.Bool // more than most is used
}

type budgetWaiter struct {
	n     int64
	ready chan struct{} // closed when the bytes are taken
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit}
}

// NewShare returns a share for which guarantee bytes are kept free. What is
// acquired at once must fit into the guarantee, or it may wait for ever while
// others are busy.
func (b *Budget) NewShare(guarantee int64) *Share {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &Share{b: b, guarantee: guarantee}
	b.spare += guarantee
	b.shares = append(b.shares, s)
	return s
}

// Limit returns the budget's size in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Used returns the bytes in use.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Waiting returns how many callers wait for memory.
func (b *Budget) Waiting() int {
	return int(b.waiting.Load())
}

// Wanted reports whether somebody waits for memory that s can give back: a caller of its
// own, or one of another share while s holds more than its guarantee.
func (s *Share) Wanted() bool {
	if s.b.waiting.Load() == 0 {
		return false
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.waiters.Len() > 0 {
		return true
	}
	if s.used <= s.guarantee {
		return false
	}
	for _, o := range s.b.shares {
		if e := o.waiters.Front(); e != nil && (o.most == 0 || o.used+e.Value.(*budgetWaiter).n <= o.most) {
			return true
		}
	}
	return false
}

// TryAcquire takes n bytes if they are free and nobody waits on this share.
func (s *Share) TryAcquire(n int64) bool {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return s.waiters.Len() == 0 && s.take(n)
}

// TryTransfer is TryAcquire for what another share holds and gives back before long: it counts
// what s may hold at most for nothing.
func (s *Share) TryTransfer(n int64) bool {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return s.takeFree(n)
}

// Acquire takes n bytes, waiting for them in order of arrival among those of
// the same share. It fails only when ctx ends, with ctx's error.
func (s *Share) Acquire(ctx context.Context, n int64) error {
	b := s.b
	b.mu.Lock()
	if s.waiters.Len() == 0 && s.take(n) {
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{n: n, ready: make(chan struct{})}
	e := s.waiters.PushBack(w)
	b.waiting.Add(1)
	b.mu.Unlock()
	if b.reclaim != nil {
		b.reclaim()
	}

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // granted in the meantime
		s.give(n)
	default:
		s.waiters.Remove(e)
		b.waiting.Add(-1)
	}
	b.grant()
	return ctx.Err()
}

// Force takes n bytes without asking: for memory that exists already. The
// budget may be exceeded by it, and then grants nothing beyond guarantees until it is not.
func (s *Share) Force(n int64) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.add(n)
}

// Overdrawn reports whether more may be in use than this share, or the budget, allows: then
// memory that s holds already must not be used again without asking.
func (s *Share) Overdrawn() bool { return s.b.overdrawn.Load() || s.beyond.Load() }

// Release gives n bytes back.
func (s *Share) Release(n int64) {
	if n == 0 {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.give(n)
	s.b.grant()
}

// take moves n bytes to s if s may hold them, and that leaves every other share its
// guarantee. The caller holds the mutex, here and below.
func (s *Share) take(n int64) bool {
	return (s.most == 0 || s.used+n <= s.most) && s.takeFree(n)
}

// takeFree is take whatever s may hold. What is within its guarantee it always gets: it is
// not its doing if the budget is exceeded.
func (s *Share) takeFree(n int64) bool {
	b := s.b
	if more := n - min(n, max(s.guarantee-s.used, 0)); more > 0 && b.used+b.spare+more > b.limit {
		return false
	}
	s.add(n)
	return true
}

func (s *Share) give(n int64) {
	if n > s.used {
		panic("delivery: more given back to the budget than was taken from it")
	}
	s.add(-n)
}

// add accounts for n bytes more, or fewer.
func (s *Share) add(n int64) {
	b := s.b
	held := max(s.guarantee-s.used, 0)
	s.used += n
	b.used += n
	b.spare += max(s.guarantee-s.used, 0) - held
	b.overdrawn.Store(b.used+b.spare > b.limit)
	s.beyond.Store(s.most > 0 && s.used > s.most)
}

// grant serves whoever can be served. A waiter that does not fit holds back
// the younger ones of its own share only: a large record is not overtaken for
// ever, and a full lane does not block the others.
func (b *Budget) grant() {
	if b.waiting.Load() == 0 {
		return
	}
	b.turn++
	for i := range b.shares {
		s := b.shares[(b.turn+i)%len(b.shares)]
		for e := s.waiters.Front(); e != nil; e = s.waiters.Front() {
			w := e.Value.(*budgetWaiter)
			if !s.take(w.n) {
				break
			}
			s.waiters.Remove(e)
			b.waiting.Add(-1)
			close(w.ready)
		}
	}
}
