package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// warmup is how long a load runs before it is measured: TCP opens its windows.
const warmup = 300 * time.Millisecond

func (b *bench) measureThroughput(ctx context.Context) error {
	peers, err := b.toSink(ctx)
	if err != nil {
		return err
	}
	pieces := chunks(rows("bench", payloadSize))
	for _, writers := range []int{1, 8} {
		rate := b.report.add(figure{Name: "throughput, " + plural(writers, "writer"), Unit: "MiB/s", Reference: haproxy, Target: 1})
		cost := b.report.add(figure{Name: "CPU of the relay, " + plural(writers, "writer"), Unit: "s/GiB", Reference: haproxy, Target: 1, Lower: true})
		err := b.eachRound(ctx, peers, func(_ int, r *relay) error {
			l, err := startLoad(ctx, plainDialer(r.addr), slices.Repeat([][][]byte{pieces}, writers), 0)
			if err != nil {
				return err
			}
			bytes, cpu, took, err := b.watch(ctx, r)
			if err := l.stop(); err != nil {
				return err
			}
			if err != nil {
				return err
			}
			rate.put(r.name, float64(bytes)/mib/took.Seconds())
			if r.cmd != nil {
				cost.put(r.name, cpu.Seconds()/(float64(bytes)/gib))
			}
			return b.sink.settle(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// watch measures a load that runs.
func (b *bench) watch(ctx context.Context, r *relay) (bytes int64, cpu, took time.Duration, err error) {
	if err := sleep(ctx, warmup); err != nil {
		return 0, 0, 0, err
	}
	var before, after time.Duration
	if r.cmd != nil {
		if before, err = cpuTime(r.pid()); err != nil {
			return 0, 0, 0, err
		}
	}
	start, had := time.Now(), b.sink.bytes()
	err = sleep(ctx, b.duration)
	bytes, took = b.sink.bytes()-had, time.Since(start)
	if err == nil && r.cmd != nil {
		after, err = cpuTime(r.pid())
	}
	if err == nil && bytes == 0 {
		err = fmt.Errorf("nothing arrived at the sink in %v", took)
	}
	return bytes, after - before, took, err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
