package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// latencyRate is in rows a second.
const latencyRate = 1000

func (b *bench) measureLatency(ctx context.Context) error {
	peers, err := b.toSink(ctx)
	if err != nil {
		return err
	}
	duration := max(b.duration, 1500*time.Millisecond) // for a p99 of 15 rows
	quantiles := []struct {
		name string
		at   float64
	}{{"p50", 0.50}, {"p99", 0.99}}
	var way, added []*series
	for _, q := range quantiles {
		way = append(way, b.report.add(figure{Name: "latency one way, " + q.name, Unit: "µs", Reference: haproxy, Lower: true}))
	}
	for _, q := range quantiles {
		added = append(added, b.report.add(figure{Name: "latency added, " + q.name, Unit: "µs", Reference: haproxy, Target: 1, Lower: true}))
	}
	round := map[string][]int64{}
	return b.eachRound(ctx, peers, func(_ int, r *relay) error {
		ages, err := b.pace(ctx, r, duration)
		if err != nil {
			return err
		}
		slices.Sort(ages)
		for i, q := range quantiles {
			way[i].put(r.name, micros(quantile(ages, q.at)))
		}
		if round[r.name] = ages; len(round) < len(peers) {
			return nil
		}
		// The round is complete.
		if straight := round[direct]; straight != nil {
			for name, ages := range round {
				for i, q := range quantiles {
					if name != direct {
						added[i].put(name, micros(quantile(ages, q.at)-quantile(straight, q.at)))
					}
				}
			}
		}
		clear(round)
		return nil
	})
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }

// quantile of sorted values.
func quantile(sorted []int64, at float64) int64 {
	return sorted[min(int(at*float64(len(sorted))), len(sorted)-1)]
}

// pace has one writer send a row each millisecond and returns the rows' ages at
// the sink.
func (b *bench) pace(ctx context.Context, r *relay, duration time.Duration) ([]int64, error) {
	c, err := plainDialer(r.addr)(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b.sink.timed(true)
	defer b.sink.timed(false)
	if _, err := sendPaced(c, warmup); err != nil {
		return nil, err
	}
	if err := b.sink.settle(ctx); err != nil {
		return nil, err
	}
	b.sink.timed(true) // forget those
	sent, err := sendPaced(c, duration)
	if err != nil {
		return nil, err
	}
	err = await(ctx, "the last rows", 5*time.Millisecond, func() bool { return len(b.sink.ages()) >= sent })
	if err != nil {
		return nil, fmt.Errorf("%w: %d of %d came", err, len(b.sink.ages()), sent)
	}
	return b.sink.ages(), nil
}

// sendPaced sends rows that carry the time, latencyRate of them a second.
func sendPaced(c net.Conn, duration time.Duration) (sent int, err error) {
	// A thread of its own, which the kernel wakes: Go's timers are too coarse.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	row := []byte("bench,host=host-01,region=eu-west-1 usage=42.125,free=12345678i ")
	begin := len(row)
	start := monotonic()
	for next := start; next < start+duration.Nanoseconds(); next += int64(time.Second / latencyRate) {
		if pause := next - monotonic(); pause > 0 {
			t := unix.NsecToTimespec(pause)
			_ = unix.Nanosleep(&t, nil) // woken early by a signal: sends early
		}
		row = fmt.Appendf(row[:begin], "%0*d\n", timestampSize, monotonic())
		if _, err := c.Write(row); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}
