package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Options configure a Dispatcher. Source and Metrics must be set.
type Options struct {
	// Source gives the lanes their upstream connections.
	Source Source
	// Lanes is how many upstream connections carry records at the same time, 1
	// if zero. There are fewer if Memory is too small for that many.
	Lanes int
	// Memory is the limit in bytes of what all journals hold, 64 MiB if zero.
	Memory int64
	// MaxRecord is the size in bytes of the largest record that is ever
	// appended, 1 MiB if zero. Blocks are not larger.
	MaxRecord int
	// RetryBase and RetryMax bound how long a lane waits before it goes on after
	// one connection after the other failed; 100 ms and 1 s if zero.
	RetryBase, RetryMax time.Duration
	Logger              *slog.Logger
	Metrics             *Metrics
}

// Dispatcher owns the lanes and the memory that their journals share.
type Dispatcher struct {
	o      Options
	log    *slog.Logger
	m      *Metrics
	budget *Budget
	free   freeList
	lanes  []*Lane

	mu       sync.Mutex // guards the lanes' number of sessions
	draining chan struct{}
	drain    sync.Once
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// New returns a Dispatcher whose lanes run until Close.
func New(o Options) *Dispatcher {
	defaults(&o)
	d := &Dispatcher{
		o:        o,
		log:      o.Logger,
		m:        o.Metrics,
		budget:   NewBudget(o.Memory),
		draining: make(chan struct{}),
	}
	// A lane needs a few blocks to itself, even small ones.
	lanes := int(max(1, min(int64(o.Lanes), o.Memory/(16*blockCost(minBlockSize)))))
	d.free.size = blockSize(o.Memory, lanes, o.MaxRecord)

	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	for id := range lanes {
		// Half of the memory is guaranteed, the other half is for whoever needs it.
		l := newLane(d, id, d.budget.NewShare(o.Memory/int64(2*lanes)))
		d.lanes = append(d.lanes, l)
	}
	d.m.observe(d)
	for _, l := range d.lanes {
		d.wg.Go(func() { l.run(ctx) })
	}
	return d
}

func defaults(o *Options) {
	o.Lanes = max(o.Lanes, 1)
	if o.Memory <= 0 {
		o.Memory = 64 << 20
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = 1 << 20
	}
	if o.RetryBase <= 0 {
		o.RetryBase = 100 * time.Millisecond
	}
	if o.RetryMax <= 0 {
		o.RetryMax = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// blockSize returns a size of which every lane's guarantee holds a few, and
// which is not larger than a record may be: then a record that lies within one
// block cannot be too long.
func blockSize(memory int64, lanes, maxRecord int) int {
	size := min(memory/int64(8*lanes), maxBlockSize, int64(maxRecord))
	return max(int(size)&^(minBlockSize-1), minBlockSize)
}

// BlockSize returns the size in bytes of the blocks that sessions read into.
func (d *Dispatcher) BlockSize() int { return d.free.size }

// NewWriter returns a Writer for a session with remote, on the lane that has
// the fewest sessions.
func (d *Dispatcher) NewWriter(remote string) *Writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	best := d.lanes[0]
	for _, l := range d.lanes {
		if l.sessions < best.sessions {
			best = l
		}
	}
	best.sessions++
	return &Writer{lane: best, remote: remote}
}

func (d *Dispatcher) leave(l *Lane) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.sessions--
}

// Left returns how many records are accepted and not settled.
func (d *Dispatcher) Left() (records int64) {
	for _, l := range d.lanes {
		records += l.unsettled()
	}
	return records
}

// Oldest returns when the oldest record that is not settled was accepted; ok is
// false if there is none.
func (d *Dispatcher) Oldest() (t time.Time, ok bool) {
	for _, l := range d.lanes {
		if at, has := l.oldest(); has && (!ok || at.Before(t)) {
			t, ok = at, true
		}
	}
	return t, ok
}

func (d *Dispatcher) lanesIn(s laneState) (n int) {
	for _, l := range d.lanes {
		if laneState(l.state.Load()) == s {
			n++
		}
	}
	return n
}

// Drain delivers what was appended and ends the upstream connections politely.
// No Writer may be used any more. It returns when everything is settled, or
// when ctx ends: then with how many records were left.
func (d *Dispatcher) Drain(ctx context.Context) (left int64) {
	d.drain.Do(func() { close(d.draining) })
	for _, l := range d.lanes {
		l.nudge() // it may have looked away while a session wrote
	}
	done := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		d.cancel()
		<-done
	}
	return d.Left()
}

// Close ends everything at once and waits for it.
func (d *Dispatcher) Close() {
	d.cancel()
	d.wg.Wait()
}

// Used returns the bytes of memory that the journals hold.
func (d *Dispatcher) Used() int64 { return d.budget.Used() }

// Waiting returns how many sessions do not read because the journals are full.
func (d *Dispatcher) Waiting() int { return d.budget.Waiting() }
