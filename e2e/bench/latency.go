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
	duration := max(b.duration, 1500*time.Millisecond) // for a p99 that 15 rows exceed
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
	for range b.rounds {
		ages, err := b.pace(ctx, peers, duration)
		if err != nil {
			return err
		}
		straight := ages[direct]
		for name, ages := range ages {
			for i, q := range quantiles {
				way[i].put(name, micros(quantile(ages, q.at)))
				if name != direct && straight != nil {
					added[i].put(name, micros(quantile(ages, q.at)-quantile(straight, q.at)))
				}
			}
		}
	}
	return nil
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }

// quantile of sorted values.
func quantile(sorted []int64, at float64) int64 {
	return sorted[min(int(at*float64(len(sorted))), len(sorted)-1)]
}

// latencySlice is how long one peer has its turn. Short turns, since the
// machine's pauses are what a p99 is made of: all are to meet the same.
const latencySlice = 50 * time.Millisecond

// pace has one writer on each peer send a row each millisecond, for duration in
// turns, and returns the rows' ages at the sink, sorted.
func (b *bench) pace(ctx context.Context, peers []*relay, duration time.Duration) (map[string][]int64, error) {
	conns := make([]net.Conn, len(peers))
	for i, r := range peers {
		c, err := plainDialer(r.addr)(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		conns[i] = c
	}
	b.sink.timed(true)
	defer b.sink.timed(false)
	ages := map[string][]int64{}
	for turn := range int(duration / latencySlice) {
		for i, r := range peers {
			b.sink.forget()
			sent, err := sendPaced(conns[i], latencySlice)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			err = await(ctx, "the last rows", time.Millisecond, func() bool { return len(b.sink.ages()) >= sent })
			if err != nil {
				return nil, fmt.Errorf("%s: %w: %d of %d came", r.name, err, len(b.sink.ages()), sent)
			}
			if turn > 0 { // the first is to warm up
				ages[r.name] = append(ages[r.name], b.sink.ages()...)
			}
		}
	}
	for _, a := range ages {
		slices.Sort(a)
	}
	return ages, ctx.Err()
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
