package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/logging"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("proxy: server closed")

// logEvery is how often a message about writers is logged at most; what happens
// in between is counted.
const logEvery = 10 * time.Second

// Options configure a Server. Dispatcher and Metrics must be set.
type Options struct {
	// Dispatcher takes the records.
	Dispatcher *delivery.Dispatcher
	// Allow says who may connect; nil means everybody.
	Allow func(netip.Addr) bool
	// MaxClients is how many writers are served at a time, 10,000 if zero. More
	// are not accepted until one leaves.
	MaxClients int
	// MaxClientsPerAddress is how many connections one address may have, no limit if
	// zero. Those over it are closed.
	MaxClientsPerAddress int
	// IdleTimeout is how long a writer may say nothing before it is
	// disconnected; zero means for ever.
	IdleTimeout time.Duration
	// MaxRecord is the size in bytes of the longest record that is passed on,
	// its line end included; 1 MiB if zero.
	MaxRecord int
	// FragmentMemory is how many bytes the records may hold whose end was not
	// read yet, of all writers together; 16 MiB if zero.
	FragmentMemory int64
	// Stamp gives records without a timestamp the time at which they were read.
	Stamp   bool
	Logger  *slog.Logger
	Metrics *Metrics

	now func() int64 // for stamps, Unix nanoseconds; nil: the clock
}

// A Server accepts writers and makes a session of each.
type Server struct {
	o     Options
	log   *slog.Logger
	limit *logging.Limiter
	m     *Metrics
	slots chan struct{}
	// addresses is how many connections each address has.
	addresses addresses
	// fragments is what the sessions' unfinished records hold, in bytes.
	fragments atomic.Int64
	// waiting is how many are not admitted for want of a place.
	waiting atomic.Int64
	ctx     context.Context // ends every session at once
	cancel  context.CancelFunc

	lastCall atomic.Bool // writers that are connected already are the last

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]chan struct{} // closed when its Serve returns
	sessions  map[*session]struct{}
	packets   map[*packets]struct{}
	wg        sync.WaitGroup // one for each session and each Serve
}

// NewServer returns a Server that serves nothing yet.
func NewServer(o Options) *Server {
	if o.MaxClients <= 0 {
		o.MaxClients = 10000
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = 1 << 20
	}
	if o.FragmentMemory <= 0 {
		o.FragmentMemory = 16 << 20
	}
	if o.now == nil {
		o.now = func() int64 { return time.Now().UnixNano() }
	}
	if o.Allow == nil {
		o.Allow = func(netip.Addr) bool { return true }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		o:         o,
		log:       o.Logger,
		limit:     logging.NewLimiter(o.Logger, logEvery),
		m:         o.Metrics,
		slots:     make(chan struct{}, o.MaxClients),
		listeners: make(map[net.Listener]chan struct{}),
		sessions:  make(map[*session]struct{}),
		packets:   make(map[*packets]struct{}),
		addresses: addresses{limit: o.MaxClientsPerAddress},
	}
	s.m.fragmentLimit.Set(float64(o.FragmentMemory))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Sessions returns how many writers are connected.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Records returns how many whole records were read from writers, those rejected
// included.
func (s *Server) Records() int64 { return s.m.records.Load() }

// received counts whole records.
func (s *Server) received(records int) { s.m.records.Add(int64(records)) }

// newStamper returns what gives one writer's records timestamps; nil if nothing is to.
func (s *Server) newStamper() *stamper {
	if !s.o.Stamp {
		return nil
	}
	return &stamper{now: s.o.now, most: s.o.MaxRecord}
}

// Shutdown closes the listeners and ends the sessions: each writer is told by a
// half-close and read on until it ends, or has been quiet for a moment after a
// whole record. Sessions that go on when half of ctx's time is over are ended
// then. It returns when no session is left.
func (s *Server) Shutdown(ctx context.Context) {
	var half time.Time // zero: no limit
	if deadline, ok := ctx.Deadline(); ok {
		half = time.Now().Add(time.Until(deadline) / 2)
	}
	s.callLast(half)
	for _, se := range s.close() {
		se.drain(half)
	}
	for p := range s.packets { // no more follow
		p.drain(half)
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	var over <-chan time.Time
	if !half.IsZero() {
		t := time.NewTimer(time.Until(half))
		defer t.Stop()
		over = t.C
	}
	select {
	case <-done:
	case <-over:
	case <-ctx.Done():
	}
	s.Close()
	<-done
}

// lastCallFor is how long writers may still come at the end, and callLastLimit how long
// it may take to accept those who came, on a busy machine, or where all places are
// taken.
const (
	lastCallFor   = 10 * time.Millisecond
	callLastLimit = time.Second
)

// callLast has the listeners accept who is connected already, as far as the writer can
// tell, and end: a shell command that wrote its row and closed is not to lose it.
func (s *Server) callLast(half time.Time) {
	s.lastCall.Store(true)
	s.mu.Lock()
	var served []chan struct{}
	for l, done := range s.listeners {
		if l, ok := l.(interface{ SetDeadline(time.Time) error }); ok && l.SetDeadline(time.Now().Add(lastCallFor)) == nil {
			served = append(served, done)
		}
	}
	s.mu.Unlock()
	most := callLastLimit
	if !half.IsZero() {
		most = max(min(most, time.Until(half)), 10*lastCallFor)
	}
	limit := time.NewTimer(most)
	defer limit.Stop()
	for _, done := range served {
		select {
		case <-done:
		case <-limit.C:
			return
		}
	}
}

// Close ends everything at once, without reading what writers still have to say,
// and waits for it.
func (s *Server) Close() {
	s.cancel()
	for _, se := range s.close() {
		se.kick()
	}
	for p := range s.packets {
		p.drain(time.Time{})
	}
	s.wg.Wait()
	s.limit.Flush()
}

// close closes the listeners and returns the sessions there are; no more follow.
func (s *Server) close() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for l := range s.listeners {
		_ = l.Close()
	}
	all := make([]*session, 0, len(s.sessions))
	for se := range s.sessions {
		all = append(all, se)
	}
	return all
}

// evict ends the session whose unfinished record is the greatest burden, and more
// of them, until the memory for those suffices again. Whoever sends whole records
// is never held up by those who don't.
func (s *Server) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum int64 // without those that are about to end and give theirs back
	for se := range s.sessions {
		if !se.evicted.Load() {
			sum += se.held.Load()
		}
	}
	now := time.Now()
	for sum > s.o.FragmentMemory {
		var worst *session
		var most float64
		for se := range s.sessions {
			if burden := se.burden(now); !se.evicted.Load() && (worst == nil || burden > most) {
				worst, most = se, burden
			}
		}
		if worst == nil {
			return
		}
		sum -= worst.held.Load()
		worst.evict()
	}
}
