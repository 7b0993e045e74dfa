package delivery

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/logging"
	"questdb-ilp-proxy/proxy/rejected"
)

// Options configure a Dispatcher. Source and Metrics must be set.
type Options struct {
	// Source gives the lanes their upstream connections.
	Source Source
	// Lanes is how many upstream connections carry records at the same time, 1
	// if zero; with more than one, there is one more for writers whose records are
	// refused again and again. There are fewer if Memory is too small.
	Lanes int
	// Connections is how many Source makes in all at most; zero: more than two.
	Connections int
	// Memory is the limit in bytes of what all journals hold, 64 MiB if zero.
	Memory int64
	// MaxRecord is the size in bytes of the largest record that is ever
	// appended, 1 MiB if zero. Blocks are not larger.
	MaxRecord int
	// RetryBase and RetryMax bound how long a lane waits before it goes on after
	// one connection after the other failed; 100 ms and 5 s if zero.
	RetryBase, RetryMax time.Duration
	// ConfirmBytes and ConfirmInterval bound how much, and for how long, a lane
	// writes to one connection before it has that confirmed; 16 MiB and 5 s if
	// zero. With little Memory it is less than ConfirmBytes.
	ConfirmBytes    int64
	ConfirmInterval time.Duration
	// Settle is for how long the server must live on after it has closed a
	// connection, for the records to be settled; 500 ms if zero.
	Settle time.Duration
	// AtMostOnce never writes a byte twice; what was not settled when a connection
	// failed is counted as uncertain.
	AtMostOnce bool
	// Gather has all that is appended copied into a lane's last block if it fits there:
	// for sessions that fill a part of the blocks only that they read into, so that
	// the rest is not lost.
	Gather bool
	// NoPathCheck assumes that connection resets do not reach the proxy.
	NoPathCheck bool
	// Rejects keeps what is not delivered; nil: it is only logged. LogOnly says that
	// it only logs, too: then what is left at the end is not given to it.
	Rejects Rejects
	LogOnly bool
	// TooLong, unless nil, is told the remote of the writer of each record that was
	// longer than is allowed: those do not reach Rejects. It must not block.
	TooLong func(remote string)
	// Disconnect ends the connection of a writer when a record of it is rejected.
	Disconnect bool
	Logger     *slog.Logger
	Metrics    *Metrics
}

// Dispatcher owns the lanes and the memory that their journals share.
type Dispatcher struct {
	o       Options
	log     *slog.Logger
	limiter *logging.Limiter
	m       *Metrics
	budget  *Budget
	free    freeList
	// lanes are those for everybody and, last, apart: the one for writers that go
	// on sending records which QuestDB refuses. There is none with one lane.
	lanes []*Lane
	apart *Lane

	paths      paths
	quarantine quarantine
	refusals   refusedTables
	// refusing is when QuestDB was last seen to refuse everything: Unix nanoseconds, 0
	// for never or not any more.
	refusing atomic.Int64
	// evidence tells that a server takes records.
	evidence evidence
	unsaved  atomic.Int64

	mu       sync.Mutex        // guards late, and the number of sessions of the lanes, of all, and of each host
	late     []rejected.Record // what sessions could not save
	sessions int
	hosts    map[string]int
	draining chan struct{}
	drain    sync.Once
	ctx      context.Context // ends every lane at once
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	// watchers are goroutines that lanes start. They end with ctx, or soon.
	watchers sync.WaitGroup
}

// New returns a Dispatcher whose lanes run until Close.
func New(o Options) *Dispatcher {
	defaults(&o)
	d := &Dispatcher{
		o:        o,
		log:      o.Logger,
		limiter:  logging.NewLimiter(o.Logger, logEvery),
		m:        o.Metrics,
		budget:   NewBudget(o.Memory),
		hosts:    map[string]int{},
		draining: make(chan struct{}),
	}
	d.paths = paths{d: d, off: o.NoPathCheck, known: map[string]*pathEntry{}, paces: map[carried]pace{}}
	if o.Rejects == nil {
		d.o.Rejects, d.o.LogOnly = logRejects{d}, true
	}
	// A lane needs a few blocks to itself, even small ones.
	lanes := int(max(1, min(int64(o.Lanes), o.Memory/(16*blockCost(minBlockSize)))))
	apart := 0
	if lanes > 1 {
		apart = 1
	}
	lanes += apart
	d.free.size = blockSize(&o, lanes)
	d.ctx, d.cancel = context.WithCancel(context.Background())
	each := guarantee(o.Memory, lanes)
	for id := range lanes {
		l := newLane(d, id, d.budget.NewShare(each))
		d.lanes = append(d.lanes, l)
	}
	if apart > 0 {
		d.apart = d.lanes[lanes-1]
		d.apart.share.most = each // and no more
	}
	d.budget.reclaim = func() {
		for _, l := range d.lanes {
			l.freeSpare()
		}
	}
	d.m.observe(d)
	for _, l := range d.lanes {
		d.wg.Go(func() { l.run(d.ctx) })
	}
	return d
}

func defaults(o *Options) {
	o.Lanes = max(o.Lanes, 1)
	o.Memory = cmp.Or(o.Memory, 64<<20)
	o.MaxRecord = cmp.Or(o.MaxRecord, 1<<20)
	o.RetryBase = cmp.Or(o.RetryBase, 100*time.Millisecond)
	o.RetryMax = max(cmp.Or(o.RetryMax, 5*time.Second), o.RetryBase)
	o.ConfirmBytes = cmp.Or(o.ConfirmBytes, 16<<20)
	o.ConfirmInterval = cmp.Or(o.ConfirmInterval, 5*time.Second)
	o.Settle = cmp.Or(o.Settle, 500*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// enoughForLane is what a lane can do with for long, in bytes: several MB/s.
const enoughForLane = 4 << 20

// guarantee returns how many of the bytes of memory each lane is sure of. What is not
// guaranteed is for whoever needs it: half of a small memory, three quarters of a
// large one, since a single busy lane has to hold what it sends in half a second and
// more.
func guarantee(memory int64, lanes int) int64 {
	return max(min(memory/int64(2*lanes), enoughForLane), memory/int64(4*lanes))
}

// blockSize returns a size of which every lane's guarantee holds a few, and
// which is not larger than a record may be: then a record that lies within one
// block cannot be too long.
func blockSize(o *Options, lanes int) int {
	most := int64(maxBlockSize)
	if o.AtMostOnce {
		most = maxPassing
	}
	size := min(o.Memory/int64(8*lanes), most, int64(o.MaxRecord))
	return max(int(size)&^(minBlockSize-1), minBlockSize)
}

// BlockSize returns the size in bytes of the blocks that sessions read into.
func (d *Dispatcher) BlockSize() int { return d.free.size }

// NewWriter returns a Writer for a session with remote, on the lane that has
// the fewest sessions. With Options.Disconnect, disconnect is called, from any
// goroutine, when a record of the session is rejected.
func (d *Dispatcher) NewWriter(remote string, disconnect func()) *Writer {
	w := &Writer{remote: remote, born: time.Now(), disconnect: disconnect}
	suspected := d.quarantine.suspects(w)
	d.mu.Lock()
	defer d.mu.Unlock()
	w.lane = d.lanes[0]
	for _, l := range d.lanes {
		if l != d.apart && l.sessions < w.lane.sessions {
			w.lane = l
		}
	}
	host := w.host()
	if others := d.sessions - d.hosts[host]; suspected && d.apart != nil && d.hosts[host] <= 4*others {
		// Who connects anew for each record is never demoted. Where nearly all are of one
		// host, as in a sidecar, that does not tell who it is.
		w.lane = d.apart
	}
	w.lane.sessions++
	d.sessions++
	d.hosts[host]++
	return w
}

func (d *Dispatcher) leave(w *Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.lane.sessions--
	d.sessions--
	host := w.host()
	if d.hosts[host]--; d.hosts[host] == 0 {
		delete(d.hosts, host)
	}
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

func (d *Dispatcher) segmentsIn(p phase) (n int) {
	for _, l := range d.lanes {
		l.mu.Lock()
		for _, s := range l.j.segments {
			if s.phase == p {
				n++
			}
		}
		l.mu.Unlock()
	}
	return n
}

func (d *Dispatcher) lanesIn(s laneState) (n int) {
	for _, l := range d.lanes {
		if laneState(l.state.Load()) == s {
			n++
		}
	}
	return n
}

// isDraining reports whether Drain was called.
func (d *Dispatcher) isDraining() bool {
	select {
	case <-d.draining:
		return true
	default:
		return false
	}
}

// alone reports whether no more than one session is on l.
func (d *Dispatcher) alone(l *Lane) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return l.sessions <= 1
}

// others reports whether another lane than l is busy, with something to deliver; and
// whether one of those is well: no connection of it has failed since records were taken.
func (d *Dispatcher) others(l *Lane) (busy, well bool) {
	for _, o := range d.lanes {
		if o != l && laneState(o.state.Load()) != laneIdle {
			busy = true
			well = well || !o.ailing.Load()
		}
	}
	return busy, well
}

// segmentSize returns how many bytes a lane writes to one connection. When
// memory is short, it has to be confirmed, and so freed, sooner; but not by so little
// that QuestDB is busy with connections.
func (d *Dispatcher) segmentSize() int64 {
	if d.o.AtMostOnce {
		return noLimit // it holds no memory: confirming now and then is enough to count by
	}
	busy := int64(0)
	for _, l := range d.lanes {
		if laneState(l.state.Load()) != laneIdle {
			busy++
		}
	}
	size := d.o.Memory / (3 * max(busy, 1))
	return min(d.o.ConfirmBytes, max(size, leastSegment))
}

// leastSegment is the size in bytes of a segment at the least, but for what comes in
// an interval.
const leastSegment = 64 << 10

// logEvery is how often a repeated message is logged at most.
const logEvery = 10 * time.Second

// note logs that something happened to n records of l.
func (d *Dispatcher) note(l *Lane, msg string, n int64, err error) {
	d.limiter.Log(context.Background(), slog.LevelWarn, msg, msg,
		slog.Int64("records", n), slog.Int("lane", l.id), slog.String("cause", err.Error()))
}

// Drain delivers what was appended, until QuestDB is known to have it, and ends
// the upstream connections politely. No Writer may be used any more. It returns
// when everything is settled, or when ctx ends: then with how many records were
// left, and how many of those the Rejects did not take.
func (d *Dispatcher) Drain(ctx context.Context) (left, lost int64) {
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
	d.cancel() // a look at a path, or a trial, is for records to come
	d.watchers.Wait()
	return d.keepUndelivered()
}

// Close ends everything at once and waits for it.
func (d *Dispatcher) Close() {
	d.cancel()
	d.wg.Wait()
	d.watchers.Wait()
	d.saveLate()
	d.limiter.Flush()
}

// Used returns the bytes of memory that the journals hold.
func (d *Dispatcher) Used() int64 { return d.budget.Used() }

// Unreachable says that no connection could be made to the server at addr: another one may
// answer there next, or something be between.
func (d *Dispatcher) Unreachable(addr string) { d.paths.forget(addr) }

// Waiting returns how many sessions do not read because the journals are full.
func (d *Dispatcher) Waiting() int { return d.budget.Waiting() }
