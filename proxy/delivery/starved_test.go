package delivery

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counted counts the proofs that were asked for.
type counted struct {
	*simServer
	now, soon atomic.Int64
}

func (c *counted) Prove(ctx context.Context, addr string) error {
	c.now.Add(1)
	return c.simServer.Prove(ctx, addr)
}

func (c *counted) ProveSoon(ctx context.Context, addr string) error {
	c.soon.Add(1)
	return c.simServer.ProveSoon(ctx, addr)
}

// TestProofsAreUrgentWhereMemoryIsShort has a writer wait for what settles, and another
// one for nothing.
func TestProofsAreUrgentWhereMemoryIsShort(t *testing.T) {
	for _, starved := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &counted{simServer: newSimServer(1)}
			d := newDispatcher(t, s, Options{Lanes: 1, Memory: 1 << 20, MaxRecord: 4 << 10, ConfirmInterval: 100 * time.Millisecond})
			defer d.Close()
			w := d.NewWriter("w", nil)
			settled := d.lanes[0].progress.wait()
			put(t, w, "t n=0i 0\n")
			<-settled // and the path is known
			s.now.Store(0)
			s.soon.Store(0)
			writes := 1
			if starved {
				writes = 2000
			}
			record := "t s=\"" + strings.Repeat("x", 2000) + "\" 1\n"
			for range writes {
				put(t, w, record)
			}
			if left, _ := d.Drain(t.Context()); left != 0 {
				t.Errorf("%d records left", left)
			}
			now, soon := s.now.Load(), s.soon.Load()
			if starved && now == 0 || !starved && (now > 0 || soon != 2) {
				t.Errorf("starved: %v: %d proofs at once, %d soon", starved, now, soon)
			}
		})
	}
}
