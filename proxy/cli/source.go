package cli

import (
	"context"
	"time"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/upstream"
)

// source gives the lanes the pool's connections.
type source struct{ pool *upstream.Pool }

func (s source) Acquire(ctx context.Context) (delivery.Conn, error) {
	return conn(s.pool.Acquire(ctx))
}

func (s source) AcquireAddr(ctx context.Context, addr string) (delivery.Conn, error) {
	return conn(s.pool.AcquireAddr(ctx, addr))
}

// conn keeps a nil connection from becoming an interface that is not nil.
func conn(c *upstream.Conn, err error) (delivery.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s source) Witness(c delivery.Conn) delivery.Witness {
	return s.pool.Witnesses(c.Addr(), c.(*upstream.Conn))
}

func (s source) Prove(ctx context.Context, addr string) error { return s.pool.Prove(ctx, addr) }

func (s source) ProveSoon(ctx context.Context, addr string) error {
	return s.pool.ProveSoon(ctx, addr)
}
func (s source) Hurry(n int, d time.Duration) { s.pool.Hurry(n, d) }
