package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

// maxIdleBytes is what an idle writer may cost the proxy.
const maxIdleBytes = 6000

// measureIdle measures what a relay grows by with writers that have sent a row
// and then nothing. Each relay is a fresh one, since none gives back what it had.
func (b *bench) measureIdle(ctx context.Context) error {
	b.stopRelays()
	memory := b.report.add(figure{Name: fmt.Sprintf("memory per idle writer, of %d", b.idle), Unit: "bytes", Reference: haproxy, Most: maxIdleBytes, Lower: true})
	for _, name := range []string{haproxy, nginx, proxy, otherProxy} {
		r, err := b.startToSink(ctx, name)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		n, err := b.idleMemory(ctx, r)
		r.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		memory.put(name, n)
		if err := await(ctx, "the sink's connections to end", 10*time.Millisecond, func() bool { return b.sink.open() == 0 }); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) idleMemory(ctx context.Context, r *relay) (perWriter float64, err error) {
	row, length := rows("bench", 1)
	// The first connections make a relay allocate what it needs once.
	before, conns := int64(0), make([]net.Conn, 0, b.idle)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	grow := func(n int) (int64, error) {
		had := b.sink.bytes()
		begin := len(conns)
		for range n {
			c, err := plainDialer(r.addr)(ctx)
			if err != nil {
				return 0, err
			}
			conns = append(conns, c)
			if _, err := c.Write(row); err != nil {
				return 0, err
			}
		}
		want := int64((len(conns) - begin) * length)
		if err := await(ctx, "the idle writers' rows", 10*time.Millisecond, func() bool { return b.sink.bytes()-had >= want }); err != nil {
			return 0, err
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return 0, err
		}
		return residentSize(r.pid())
	}
	if before, err = grow(100); err != nil {
		return 0, err
	}
	after, err := grow(b.idle)
	return float64(after-before) / float64(b.idle), err
}
