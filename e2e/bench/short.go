package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shortWriters = 4
	// shortAhead is how many rows may be on their way: no relay's backlog is to
	// overflow, or the kernel's one second of patience is what is measured.
	shortAhead = 256
)

// measureShort counts connections of one row each by the rows that arrive.
func (b *bench) measureShort(ctx context.Context) error {
	peers, err := b.toSink(ctx)
	if err != nil {
		return err
	}
	rate := b.report.add(figure{Name: "short connections", Unit: "/s", Reference: haproxy, Target: 1})
	row, length := rows("bench", 1)
	return b.eachRound(ctx, peers, func(_ int, r *relay) error {
		addr, err := netip.ParseAddrPort(r.addr)
		if err != nil {
			return err
		}
		s := &shorts{to: unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}, row: row,
			arrived: func(since int64) int64 { return (b.sink.bytes() - since) / int64(length) }}
		s.start(b.sink.bytes())
		err = sleep(ctx, warmup)
		begin, had := time.Now(), b.sink.bytes()
		err = errors.Join(err, sleep(ctx, b.duration))
		rate.put(r.name, float64(s.arrived(had))/time.Since(begin).Seconds())
		if err := errors.Join(err, s.stop()); err != nil {
			return err
		}
		err = await(ctx, "the last rows", 10*time.Millisecond, func() bool { return s.arrived(s.since) >= s.sent.Load() })
		if err != nil {
			b.report.note(fmt.Sprintf("%s: %d of %d short connections' rows never arrived", r.name, s.sent.Load()-s.arrived(s.since), s.sent.Load()))
		}
		return nil
	})
}

// shorts connects, sends a row and closes, from several threads, without Go's
// poller: it is to be cheap.
type shorts struct {
	to      unix.SockaddrInet4
	row     []byte
	arrived func(since int64) int64
	since   int64
	sent    atomic.Int64
	over    atomic.Bool
	wg      sync.WaitGroup
	mu      sync.Mutex
	err     error
}

func (s *shorts) start(since int64) {
	s.since = since
	for range shortWriters {
		s.wg.Go(func() {
			for !s.over.Load() {
				if s.sent.Load()-s.arrived(s.since) > shortAhead {
					t := unix.NsecToTimespec(50_000)
					_ = unix.Nanosleep(&t, nil)
					continue
				}
				if err := s.one(); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
					s.mu.Lock()
					s.err = err
					s.mu.Unlock()
					return
				}
			}
		})
	}
}

func (s *shorts) one() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &s.to); err != nil {
		return err
	}
	if _, err := unix.Write(fd, s.row); err != nil {
		return err
	}
	s.sent.Add(1)
	return nil
}

func (s *shorts) stop() error {
	s.over.Store(true)
	s.wg.Wait()
	return s.err
}
