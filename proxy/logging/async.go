package logging

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// asyncLines is how many lines wait for a slow reader of the log.
const asyncLines = 1000

// Async writes the log in a goroutine of its own. A log that nobody reads any more
// (a full pipe) must not hold up the data: lines that do not fit into the queue are
// dropped and counted, and the count is written when there is room again.
//
// Each Write is one line. Close must be called.
type Async struct {
	w       io.Writer
	lines   chan []byte
	done    chan struct{}
	dropped atomic.Int64

	mu     sync.RWMutex // held for reading while a line is queued
	closed bool
}

// NewAsync returns an Async that writes to w.
func NewAsync(w io.Writer) *Async {
	a := &Async{w: w, lines: make(chan []byte, asyncLines), done: make(chan struct{})}
	go a.run()
	return a
}

// Write queues p, and never waits or fails.
func (a *Async) Write(p []byte) (int, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		return len(p), nil
	}
	select {
	case a.lines <- append([]byte(nil), p...):
	default:
		a.dropped.Add(1)
	}
	return len(p), nil
}

func (a *Async) run() {
	defer close(a.done)
	for line := range a.lines {
		// An error has nowhere to be told.
		_, _ = a.w.Write(line)
		if n := a.dropped.Swap(0); n > 0 {
			_, _ = fmt.Fprintf(a.w, "{\"level\":\"WARN\",\"msg\":\"log lines were dropped: nobody read them in time\",\"lines\":%d}\n", n)
		}
	}
}

// Close writes what is queued, for as long as d allows it.
func (a *Async) Close(d time.Duration) {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.lines)
	}
	a.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-a.done:
	case <-t.C:
	}
}
