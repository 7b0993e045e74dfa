package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"

	"questdb-ilp-proxy/auth"
)

// ErrClosed is what Acquire returns once the pool is closed.
var ErrClosed = errors.New("the pool of connections to QuestDB is closed")

// errNotWanted ends an attempt that nobody needs any more.
var errNotWanted = errors.New("connection not needed any more")

// upkeepEvery is how often idle connections' ages and sockets are looked after.
const upkeepEvery = 5 * time.Second

// Options say what a Pool connects to and how. Addrs and Key are required.
type Options struct {
	// Addrs are host:port in order of preference: each attempt tries them from the
	// first on, and each IP address that a host name has in turn.
	Addrs []string
	Key   *auth.Key

	MinIdle int // connections kept ready; 0: none is made before one is asked for
	Max     int // connections in all, those being made included; 0: 16

	DialTimeout time.Duration // to resolve and connect to one of Addrs; 0: 10 s
	AuthTimeout time.Duration // from connected to the signature sent; 0: 15 s
	RetryBase   time.Duration // the first pause after a failure; 0: 100 ms
	RetryMax    time.Duration // the longest pause, and that after refused credentials; 0: 30 s

	// MaxAge is after how long an idle connection is replaced, less up to a fifth
	// by chance, so that a server's idle timeout rarely meets one. 0: 5 min.
	MaxAge time.Duration

	// Dial connects; nil: a net.Dialer. TCP options are set on a *net.TCPConn.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Logger  *slog.Logger // nil: no log
	Metrics *Metrics     // nil: none
}

// withDefaults returns o with what its zero values stand for.
func (o Options) withDefaults() Options {
	o.Max = cmp.Or(o.Max, 16)
	o.DialTimeout = cmp.Or(o.DialTimeout, 10*time.Second)
	o.AuthTimeout = cmp.Or(o.AuthTimeout, 15*time.Second)
	o.RetryBase = cmp.Or(o.RetryBase, 100*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 30*time.Second)
	o.MaxAge = cmp.Or(o.MaxAge, 5*time.Minute)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return o
}

// check returns every error in o at once.
func (o Options) check() error {
	var errs []error
	if len(o.Addrs) == 0 {
		errs = append(errs, errors.New("no address of QuestDB"))
	}
	for _, a := range o.Addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			errs = append(errs, fmt.Errorf("address of QuestDB: %w", err))
		}
	}
	if o.Key == nil {
		errs = append(errs, errors.New("no key to authenticate with"))
	}
	if o.Max < 1 {
		errs = append(errs, fmt.Errorf("at most %d connections: must be at least 1", o.Max))
	}
	if o.MinIdle < 0 || o.MinIdle > o.Max {
		errs = append(errs, fmt.Errorf("%d connections kept ready: must be 0 to %d, as many as there may be in all", o.MinIdle, o.Max))
	}
	for what, d := range map[string]time.Duration{"dial timeout": o.DialTimeout, "authentication timeout": o.AuthTimeout,
		"shortest retry pause": o.RetryBase, "longest retry pause": o.RetryMax, "longest age": o.MaxAge} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is negative", what, d))
		}
	}
	return errors.Join(errs...)
}

// Pool holds authenticated connections to QuestDB. See the package's comment.
type Pool struct {
	opts    Options
	log     *slog.Logger
	metrics *Metrics
	reports *reports
	gate    *gate
	lookup  func(ctx context.Context, host string) ([]string, error)
	lastID  atomic.Uint64

	ctx        context.Context // ends attempts when the pool closes
	cancel     context.CancelFunc
	goroutines sync.WaitGroup

	// conns keeps the idle ones and counts places; it never has more than Max.
	// Nobody waits in it: it is only asked for an idle one when it has one, and for
	// a new one when there is room, so callers get whatever is ready first.
	// Everything but its CreateResource is called with mu held.
	conns *puddle.Pool[*Conn]

	// mu is never held during I/O that can block.
	mu      sync.Mutex
	started bool
	closed  bool
	began   time.Time          // Start
	all     map[*Conn]struct{} // idle and acquired
	waiters []chan *Conn       // in order of arrival; each gets one Conn, or is closed
	making  int                // goroutines that make a connection, or wait to
	live    liveness
}

// New makes a pool; it opens nothing before Start.
func New(o Options) (*Pool, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Pool{opts: o, log: o.Logger, metrics: o.Metrics, all: map[*Conn]struct{}{}, lookup: net.DefaultResolver.LookupHost}
	p.reports = newReports(o.Logger)
	p.gate = newGate(o.RetryBase, max(o.RetryBase, o.RetryMax), p.reports, p.metrics.Retries.Inc)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	p.conns, err = puddle.NewPool(&puddle.Config[*Conn]{
		Constructor: p.construct,
		Destructor:  (*Conn).close,
		MaxSize:     int32(min(o.Max, 1<<20)),
	})
	return p, err
}

// Start begins to keep MinIdle connections ready, in the background.
func (p *Pool) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return
	}
	p.started = true
	p.began = time.Now()
	p.goroutines.Go(p.upkeep)
	p.reconcile()
}

// Close ends all connections, those handed out too, and returns when nothing of
// the pool runs any more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	for _, w := range p.waiters {
		close(w)
	}
	p.waiters = nil
	var acquired []*Conn
	for c := range p.all {
		if c.state == stateAcquired {
			acquired = append(acquired, c)
		}
	}
	p.mu.Unlock()
	p.gate.close()
	for _, c := range acquired {
		c.Discard()
	}
	p.conns.Close()
	p.goroutines.Wait()
	p.metrics.connections(0, 0, 0)
}

// Acquire hands out a connection that passed its probation and is open: the newest
// idle one, else the next to become ready. It waits for as long as ctx lives, in
// order of arrival. The caller must Discard the connection.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	// Who waits was served as soon as there was an idle one, so nobody is overtaken.
	if c := p.takeIdle(); c != nil {
		p.reconcile()
		p.mu.Unlock()
		return c, nil
	}
	w := make(chan *Conn, 1)
	p.waiters = append(p.waiters, w)
	p.reconcile()
	p.mu.Unlock()
	select {
	case c, ok := <-w:
		if !ok {
			return nil, ErrClosed
		}
		return c, nil
	case <-ctx.Done():
		p.withdraw(w)
		if reason := p.Status().Reason; reason != "" {
			return nil, fmt.Errorf("no connection to QuestDB: %s: %w", reason, context.Cause(ctx))
		}
		return nil, fmt.Errorf("no connection to QuestDB: none became free: %w", context.Cause(ctx))
	}
}

// withdraw takes back what was asked for with w, and what came of it.
func (p *Pool) withdraw(w chan *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = slices.DeleteFunc(p.waiters, func(o chan *Conn) bool { return o == w })
	select {
	case c, ok := <-w:
		if ok && !p.closed && c.state == stateAcquired { // else Close sees to it
			c.state = stateIdle
			c.res.ReleaseUnused()
			c.res = nil
		}
	default:
	}
	p.reconcile()
}

// takeIdle hands out the newest idle connection, nil if there is none. mu is held.
func (p *Pool) takeIdle() *Conn {
	for p.conns.Stat().IdleResources() > 0 {
		// There is one, and only holders of mu take any: this does not begin to make
		// one, and does not wait.
		res, err := p.conns.TryAcquire(p.ctx)
		if err != nil {
			return nil // closed
		}
		c := res.Value()
		if !c.alive() {
			p.remove(res)
			continue
		}
		c.res, c.state = res, stateAcquired
		return c
	}
	return nil
}

// reconcile serves who waits and begins to make what is missing. It is called
// after everything that may change what is missing. mu is held.
func (p *Pool) reconcile() {
	if !p.started || p.closed {
		return
	}
	p.sweep(time.Now())
	for len(p.waiters) > 0 {
		c := p.takeIdle()
		if c == nil {
			break
		}
		p.waiters[0] <- c
		p.waiters = slices.Delete(p.waiters, 0, 1)
	}
	stat := p.conns.Stat()
	// A connection that was just made may be counted twice here, never not at all.
	room := p.opts.Max - int(stat.IdleResources()+stat.AcquiredResources()) - p.making
	for need := p.missing(); need > 0 && room > 0; need, room = need-1, room-1 {
		p.making++
		p.goroutines.Go(p.make)
	}
	p.metrics.connections(int(stat.IdleResources()), int(stat.AcquiredResources()), p.making)
}

// missing is how many connections are needed beyond those ready or being made.
// mu is held.
func (p *Pool) missing() int {
	fresh, _, _ := p.idle(time.Now())
	return p.opts.MinIdle + len(p.waiters) - fresh - p.making
}

// idle counts idle connections: those to keep, those to renew, those that ended.
// mu is held.
func (p *Pool) idle(now time.Time) (fresh, old, dead int) {
	for c := range p.all {
		switch {
		case c.state != stateIdle:
		case !c.alive():
			dead++
		case now.After(c.renewAt):
			old++
		default:
			fresh++
		}
	}
	return fresh, old, dead
}

// sweep removes idle connections that ended, and old ones once there are new ones
// instead, or where there is no room to make those first. mu is held.
func (p *Pool) sweep(now time.Time) {
	fresh, old, dead := p.idle(now)
	drop := 0
	switch {
	case fresh >= p.opts.MinIdle:
		drop = old
	case old > 0 && p.making == 0 && len(p.all) >= p.opts.Max && p.gate.isOpen():
		drop = 1
	}
	if dead+drop == 0 {
		return
	}
	idle := p.conns.AcquireAllIdle()
	// Put back oldest first: what is put back last is taken first.
	slices.SortFunc(idle, func(a, b *puddle.Resource[*Conn]) int { return cmp.Compare(a.Value().id, b.Value().id) })
	for _, res := range idle {
		switch c := res.Value(); {
		case !c.alive():
			p.remove(res)
		case drop > 0 && now.After(c.renewAt):
			drop--
			c.log.Debug("renewing an idle connection", "age", now.Sub(c.established).Round(time.Second))
			p.remove(res)
		default:
			res.ReleaseUnused()
		}
	}
}

// remove closes a connection that was taken from the idle ones. mu is held.
func (p *Pool) remove(res *puddle.Resource[*Conn]) {
	c := res.Value()
	c.state = stateGone
	delete(p.all, c)
	c.close() // before its place is free: Max is a promise
	res.Hijack()
}

// giveBack frees the place of a connection that was handed out and is closed now.
func (p *Pool) giveBack(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state != stateAcquired {
		panic("upstream: Discard of a connection that was not acquired")
	}
	c.state = stateGone
	delete(p.all, c)
	c.res.Hijack() // unlike Destroy, frees the place now
	p.reconcile()
}

// make makes one connection, or fails to; either is a reason to reconcile.
func (p *Pool) make() {
	_ = p.conns.CreateResource(p.ctx) // what failed was reported to the gate
	p.mu.Lock()
	defer p.mu.Unlock()
	p.making--
	p.reconcile()
}

// construct makes one connection when the gate allows it. It has a place in the
// pool from the start.
func (p *Pool) construct(ctx context.Context) (*Conn, error) {
	t, err := p.gate.enter(ctx)
	if err != nil {
		return nil, err
	}
	if !p.stillWanted() {
		p.gate.forgo(t)
		return nil, errNotWanted
	}
	c, f := p.connect(ctx)
	if c != nil && !p.admit(c) {
		c.close()
		f = p.handshakeFailure(ctx, c.addr, auth.ClassifyEnd(c.end.Err))
		c = nil
	}
	switch {
	case c != nil:
		p.gate.succeed(t, c.addr)
		return c, nil
	case f.kind == kindNone:
		p.gate.forgo(t) // the pool is closing
	default:
		p.gate.fail(t, f)
	}
	return nil, f.err
}

// stillWanted reports whether the connection that the caller is about to make is
// needed: who waited for it may have left during the pause.
func (p *Pool) stillWanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && p.missing() >= 0 // the caller itself is among those being made
}

// admit makes a connection one of the pool, unless it has ended or the pool has.
func (p *Pool) admit(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !c.alive() {
		return false
	}
	c.state = stateIdle
	p.all[c] = struct{}{}
	p.live.up(time.Now())
	return true
}

// ended is called by a connection's reader when it has ended, for whatever reason.
func (p *Pool) ended(c *Conn) {
	p.mu.Lock()
	state := c.state
	if state == statePending {
		p.mu.Unlock()
		return // on probation: who made it looks at that
	}
	p.live.down(c.end.At)
	p.reconcile()
	p.mu.Unlock()
	if c.ours {
		return
	}
	age := c.end.At.Sub(c.established)
	if state == stateIdle || state == stateGone && !c.discarded.Load() { // or just swept away as dead
		p.metrics.ClosedIdle.Inc()
		c.log.Debug("QuestDB closed an idle connection; replacing it", "age", age.Round(time.Millisecond), "error", c.end.Err)
	}
	// What its owner sent may have been the reason, and is for the owner to judge.
	if age < youngAge && !c.written.Load() {
		p.gate.died(diedYoung(c.addr, age, c.end.Err))
	}
}

// upkeep looks after the connections until the pool closes.
func (p *Pool) upkeep() {
	ticker := time.NewTicker(upkeepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		p.reconcile()
		conns := make([]*Conn, 0, len(p.all))
		for c := range p.all {
			conns = append(conns, c)
		}
		p.mu.Unlock()
		for _, c := range conns {
			c.sock.tune(c.raw)
		}
	}
}

// renewAt is when a connection established at t is due for replacement.
func renewAt(t time.Time, maxAge time.Duration) time.Time {
	return t.Add(maxAge - time.Duration(rand.Int64N(int64(maxAge)/5+1)))
}
