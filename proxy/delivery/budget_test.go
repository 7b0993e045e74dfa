package delivery

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"questdb-ilp-proxy/e2e/bubble"
)

func TestBudgetKeepsGuarantees(t *testing.T) {
	b := NewBudget(100)
	a, c := b.NewShare(20), b.NewShare(20)
	if !a.TryAcquire(80) {
		t.Fatal("a share did not get what is not guaranteed to others")
	}
	if a.TryAcquire(1) {
		t.Error("a share took what is guaranteed to another")
	}
	if !c.TryAcquire(20) {
		t.Error("a share did not get its guarantee")
	}
	if c.TryAcquire(1) {
		t.Error("the limit was exceeded")
	}
	a.Release(1)
	if !c.TryAcquire(1) {
		t.Error("what was released cannot be taken")
	}
	if got := b.Used(); got != 100 {
		t.Errorf("used = %d, want 100", got)
	}
}

func TestBudgetServesInOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		s := b.NewShare(0)
		if !s.TryAcquire(100) {
			t.Fatal("cannot take all")
		}
		order := make(chan int, 3)
		for i, n := range []int64{60, 10, 10} {
			go func() {
				if err := s.Acquire(t.Context(), n); err != nil {
					t.Error(err)
				}
				order <- i
			}()
			synctest.Wait()
		}
		s.Release(50)
		synctest.Wait()
		if len(order) != 0 || s.TryAcquire(1) {
			t.Fatal("a small request overtook a large one of the same share")
		}
		s.Release(10)
		synctest.Wait()
		if got := <-order; got != 0 || len(order) != 0 {
			t.Fatalf("request %d was served first", got)
		}
		s.Release(30)
		synctest.Wait()
		if len(order) != 2 || b.Waiting() != 0 {
			t.Errorf("%d served, %d waiting; want 2 and 0", len(order), b.Waiting())
		}
	})
}

func TestBudgetFullShareDoesNotBlockOthers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		stuck, other := b.NewShare(10), b.NewShare(10)
		if !stuck.TryAcquire(90) || !other.TryAcquire(10) {
			t.Fatal("cannot take all")
		}
		ctx, cancel := context.WithCancel(t.Context())
		waits := make(chan error, 1)
		go func() { waits <- stuck.Acquire(ctx, 5) }()
		synctest.Wait()
		other.Release(4)
		synctest.Wait()
		if len(waits) != 0 {
			t.Fatal("the stuck share took the other's guarantee")
		}
		if !other.TryAcquire(4) {
			t.Error("the other share is held up by the stuck one")
		}
		cancel()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled wait returned %v", err)
		}
		if b.Waiting() != 0 {
			t.Error("who gave up still waits")
		}
	})
}

func TestBudgetForce(t *testing.T) {
	b := NewBudget(100)
	s := b.NewShare(10)
	other := b.NewShare(10)
	s.Force(150)
	if s.TryAcquire(1) || !s.Overdrawn() {
		t.Error("the budget gives although it is exceeded")
	}
	if !other.TryAcquire(10) || other.TryAcquire(1) {
		t.Error("another share gets less or more than its guarantee")
	}
	s.Release(70)
	if s.Overdrawn() {
		t.Error("the budget is exceeded still")
	}
	if !s.TryAcquire(10) {
		t.Error("the budget does not give again")
	}
}

func TestBudgetMisusePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("giving back more than was taken went unnoticed")
		}
	}()
	s := NewBudget(100).NewShare(0)
	s.Release(1)
}

func TestBudgetKnowsWhoseMemoryIsWanted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		large, small, idle, apart := b.NewShare(20), b.NewShare(20), b.NewShare(20), b.NewShare(20)
		apart.most = 20
		want := func(when string, want ...bool) {
			t.Helper()
			for i, s := range b.shares {
				if got := s.Wanted(); got != want[i] {
					t.Errorf("%s: share %d is wanted: %v, want %v", when, i, got, want[i])
				}
			}
		}
		wait := func(s *Share, n int64) (leave func()) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if s.Acquire(ctx, n) == nil {
					t.Error("there was memory")
				}
			}()
			synctest.Wait()
			return func() { cancel(); synctest.Wait() }
		}
		if !large.TryAcquire(40) || !small.TryAcquire(10) || !apart.TryAcquire(20) {
			t.Fatal("cannot take what is free")
		}
		want("nobody waits", false, false, false, false)
		leave := wait(apart, 1)
		want("one waits for its own share, which has as much as it may", false, false, false, true)
		leave()
		leave = wait(small, 11)
		want("one waits for what is not guaranteed", true, true, false, false)
		leave()
		leave = wait(idle, 21)
		want("one with nothing waits for more than its guarantee", true, false, true, false)
		leave()
		want("all have left", false, false, false, false)
	})
}

// TestLargeRecordsAreHeldBack has a writer send records that are larger than a block, while the server is away: it has
// to wait as everybody once memory is full, and other lanes keep what they are sure of.
func TestLargeRecordsAreHeldBack(t *testing.T) {
	d := newDispatcher(t, away{}, Options{Lanes: 2, Memory: 8 << 20})
	w, other := d.NewWriter("10.0.0.1:5", nil), d.NewWriter("10.0.0.2:5", nil)
	const large = 800 << 10
	for n := 0; ; n++ {
		b := w.TryBuffer()
		if b == nil {
			break
		}
		if w.Return(b); n > 10 { // nothing of the record stays in it
			t.Fatalf("%d bytes are held, of %d", d.Used(), d.budget.Limit())
		}
		w.AppendLarge(make([]byte, large), 1)
	}
	if over := d.Used() - d.budget.Limit(); over > large {
		t.Errorf("%d bytes more are held than may be", over)
	}
	b := other.TryBuffer()
	if b == nil {
		t.Fatal("nothing is left for the other lane")
	}
	other.Return(b)
}
