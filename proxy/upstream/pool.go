package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

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
	// Key and TLS may be replaced: see [Pool.SetCredentials].
	//
	// TLS is for connections over TLS; nil: without. An empty ServerName means the
	// host in Addrs. Connections share its ClientSessionCache.
	TLS *tls.Config

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
	creds   atomic.Pointer[credentials] // stored with mu held
	// handshakes has a lock of its own.
	handshakes handshakes

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
	waiters []*waiter          // in order of arrival; each gets one Conn, or its channel is closed
	making  int                // goroutines that make a connection, or wait to
	leaving int                // connections that were idle, and have not ended yet
	orders  map[string]int     // those of them that make one to a certain address for waiters; "": to any
	hurry   hurry
	servers map[string]*serverState
	proofs  map[string]*prover
	placing []*proof // proofs without a place, in order of arrival
	sets    []weak.Pointer[Witnesses]
	live    liveness
}

// New makes a pool; it opens nothing before Start.
func New(o Options) (*Pool, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Pool{
		opts: o, log: o.Logger, metrics: o.Metrics, lookup: net.DefaultResolver.LookupHost,
		all: map[*Conn]struct{}{}, orders: map[string]int{}, servers: map[string]*serverState{}, proofs: map[string]*prover{},
	}
	p.creds.Store(&credentials{key: o.Key, tls: o.TLS})
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
		close(w.got)
	}
	p.waiters = nil
	p.closeProofs()
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
	p.metrics.connections(0, 0, 0, 0)
}

// waiter waits for a connection.
type waiter struct {
	addr string // only to this server; "": to any
	got  chan *Conn
}

// Acquire hands out a connection that passed its probation and is open: the newest
// idle one, else the next to become ready. It waits for as long as ctx lives, in
// order of arrival. The caller must Discard the connection.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) { return p.acquire(ctx, "") }

// AcquireAddr is [Pool.Acquire] for one server, as [Conn.Addr] tells it. Where the
// pool is full it closes an idle connection to another server, if there is one.
func (p *Pool) AcquireAddr(ctx context.Context, addr string) (*Conn, error) {
	return p.acquire(ctx, addr)
}

func (p *Pool) acquire(ctx context.Context, addr string) (*Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	// Who waits was served as soon as there was an idle one, so nobody is overtaken.
	if c := p.takeIdle(addr); c != nil {
		p.reconcile()
		p.mu.Unlock()
		return c, nil
	}
	w := &waiter{addr: addr, got: make(chan *Conn, 1)}
	p.waiters = append(p.waiters, w)
	p.reconcile()
	p.mu.Unlock()
	select {
	case c, ok := <-w.got:
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
func (p *Pool) withdraw(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = slices.DeleteFunc(p.waiters, func(o *waiter) bool { return o == w })
	select {
	case c, ok := <-w.got:
		if ok && !p.closed && c.state == stateAcquired { // else Close sees to it
			c.state = stateIdle
			c.res.ReleaseUnused()
			c.res = nil
		}
	default:
	}
	p.reconcile()
}

// takeIdle hands out the newest idle connection to addr ("": to any server), nil if
// there is none. mu is held.
func (p *Pool) takeIdle(addr string) *Conn {
	if p.lastWitness() {
		return nil // another one is being made
	}
	if addr != "" {
		return p.takeIdleAddr(addr)
	}
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

// lastWitness reports whether the only idle connection must stay, to bear witness
// for those that are handed out, which all end soon. Where there is no room to make
// another one it is handed out all the same. mu is held.
func (p *Pool) lastWitness() bool {
	fresh, old, _ := p.idle(time.Now())
	stat := p.conns.Stat()
	return fresh+old == 1 && stat.AcquiredResources() > 0 && (p.making > 0 || p.room() > 0)
}

func (p *Pool) takeIdleAddr(addr string) (c *Conn) {
	if !p.any(func(c *Conn) bool { return c.state == stateIdle && c.addr == addr }) {
		return nil
	}
	idle := p.takeAllIdle()
	for i := len(idle) - 1; i >= 0 && c == nil; i-- {
		if o := idle[i].Value(); o.addr == addr && o.alive() {
			c = o
			c.res, c.state = idle[i], stateAcquired
		}
	}
	for _, res := range idle {
		if res.Value() != c {
			res.ReleaseUnused()
		}
	}
	return c
}

// takeAllIdle takes all idle connections, oldest first; they keep their state. They
// must be put back in that order: what is put back last is taken first. mu is held.
func (p *Pool) takeAllIdle() []*puddle.Resource[*Conn] {
	idle := p.conns.AcquireAllIdle()
	slices.SortFunc(idle, func(a, b *puddle.Resource[*Conn]) int { return cmp.Compare(a.Value().id, b.Value().id) })
	return idle
}

// any reports whether there is such a connection, idle or acquired. mu is held.
func (p *Pool) any(such func(*Conn) bool) bool {
	for c := range p.all {
		if such(c) {
			return true
		}
	}
	return false
}

// reconcile serves who waits and begins to make what is missing. It is called
// after everything that may change what is missing. mu is held.
func (p *Pool) reconcile() {
	if !p.started || p.closed {
		return
	}
	p.sweep(time.Now())
	p.waiters = slices.DeleteFunc(p.waiters, func(w *waiter) bool {
		c := p.takeIdle(w.addr)
		if c != nil {
			w.got <- c
		}
		return c != nil
	})
	// Proofs come first: what others wait for may depend on them.
	for len(p.placing) > 0 && p.place() {
		pr := p.placing[0]
		p.placing = slices.Delete(p.placing, 0, 1)
		p.begin(order{addr: pr.addr, proof: pr})
	}
	for _, w := range p.waiters {
		for w.addr != "" && p.missing(w.addr) > 0 && p.place() {
			p.begin(order{addr: w.addr})
		}
	}
	for need, room := p.missing(""), p.room(); need > 0 && room > 0; need, room = need-1, room-1 {
		p.begin(order{})
	}
	stat := p.conns.Stat()
	p.metrics.connections(int(stat.IdleResources()), int(stat.AcquiredResources()), p.making, p.leaving)
}

// room is how many connections more there may be. One that was just made may be
// counted twice here, never not at all. mu is held.
func (p *Pool) room() int {
	stat := p.conns.Stat()
	return p.opts.Max - int(stat.IdleResources()+stat.AcquiredResources()) - p.making - p.leaving
}

// place reports whether there is room for a connection to a certain server. If there
// is none it ends an idle one, unless one is ending already; once that has ended,
// reconcile comes here again. mu is held.
func (p *Pool) place() bool {
	if p.room() <= 0 && p.leaving == 0 {
		p.evict()
	}
	return p.room() > 0
}

// missing is how many connections to addr ("": to any server) are needed beyond
// those ready or being made. mu is held.
func (p *Pool) missing(addr string) int {
	n := -p.orders[addr]
	if addr == "" {
		now := time.Now()
		fresh, _, _ := p.idle(now)
		n += p.minIdle(now) - fresh
	}
	for _, w := range p.waiters {
		if w.addr == addr {
			n++
		}
	}
	return n
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
	case fresh >= p.minIdle(now):
		drop = old
	case old > 0 && p.making == 0 && len(p.all) >= p.opts.Max && p.gate.isOpen():
		drop = 1
	}
	if dead+drop == 0 {
		return
	}
	for _, res := range p.takeAllIdle() {
		switch c := res.Value(); {
		case !c.alive():
			p.remove(res)
		case drop > 0 && now.After(c.renewAt) && !p.needed(c):
			drop--
			c.log.Debug("renewing an idle connection", "age", now.Sub(c.established).Round(time.Second))
			p.remove(res)
		default:
			res.ReleaseUnused()
		}
	}
}

// evict ends the youngest idle connection that can be spared, to make room. mu is
// held.
func (p *Pool) evict() {
	idle := p.takeAllIdle()
	for i := len(idle) - 1; i >= 0; i-- {
		if c := idle[i].Value(); !p.needed(c) {
			c.log.Debug("closing an idle connection to make room for another", "age", time.Since(c.established).Round(time.Millisecond))
			p.remove(idle[i])
			idle = slices.Delete(idle, i, i+1)
			break
		}
	}
	for _, res := range idle {
		res.ReleaseUnused()
	}
}

// remove ends a connection that was taken from the idle ones. Max is a promise on the
// server's side too, where a connection is until the server has closed it as well: its
// place is free after that, or after politeClose. mu is held.
func (p *Pool) remove(res *puddle.Resource[*Conn]) {
	c := res.Value()
	c.state = stateGone
	delete(p.all, c)
	res.Hijack()
	if !c.alive() || p.closed {
		c.close()
		return
	}
	p.leaving++
	p.goroutines.Go(func() {
		c.leave(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leaving--
		p.reconcile()
	})
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

// order is what is to be made.
type order struct {
	addr  string // "": to the first server that accepts
	proof *proof // nil: for whoever waits, or to be idle
}

type orderKey struct{} // of an order in a context

// begin begins to make one connection, for which there is room. mu is held.
func (p *Pool) begin(o order) {
	p.making++
	if o.proof == nil {
		p.orders[o.addr]++
	}
	p.goroutines.Go(func() { p.make(o) })
}

// make makes one connection, or fails to; either is a reason to reconcile.
func (p *Pool) make(o order) {
	err := p.conns.CreateResource(context.WithValue(p.ctx, orderKey{}, o)) // what failed was reported to the gate
	p.mu.Lock()
	defer p.mu.Unlock()
	p.making--
	if o.proof != nil {
		p.proven(o.proof, err) // unless it was answered
	} else if p.orders[o.addr]--; p.orders[o.addr] == 0 {
		delete(p.orders, o.addr)
	}
	p.reconcile()
}

// construct makes one connection when the gate allows it. It has a place in the
// pool from the start.
func (p *Pool) construct(ctx context.Context) (*Conn, error) {
	o, _ := ctx.Value(orderKey{}).(order)
	if o.proof != nil {
		return p.constructProof(ctx, o.proof)
	}
	t, err := p.gate.enter(ctx)
	if err != nil {
		return nil, err
	}
	if !p.stillWanted(o) {
		p.gate.forgo(t)
		return nil, errNotWanted
	}
	var c *Conn
	var f failure
	if o.addr == "" {
		c, f = p.connect(ctx)
	} else {
		c, f = p.connectIP(ctx, o.addr, time.Now().Add(p.opts.DialTimeout), nil)
	}
	if c != nil && !p.admit(c) {
		c.close()
		f = p.handshakeFailure(ctx, c.addr, c.key, auth.ClassifyEnd(c.end.Err))
		c = nil
	}
	err = p.outcome(t, o.addr, c, f)
	if err != nil && o.addr != "" {
		p.pauseFor(ctx, o.addr)
	}
	return c, err
}

// outcome tells the gate how an attempt went, to addr if that is not "".
func (p *Pool) outcome(t ticket, addr string, c *Conn, f failure) error {
	switch {
	case c != nil:
		p.gate.succeed(t, c.addr)
		return nil
	case f.kind == kindNone:
		p.gate.forgo(t) // the pool is closing
	case addr != "" && p.servedElsewhere(addr):
		// Not everybody's trouble: who can do with the others goes on at once.
		p.gate.forgo(t)
		p.reports.apart(f, addr)
	default:
		p.gate.fail(t, f)
	}
	return f.err
}

// pauseFor keeps attempts for one server apart, for longer each time, as the gate
// does not where it is about one server alone.
func (p *Pool) pauseFor(ctx context.Context, addr string) {
	var d time.Duration
	p.server(addr, func(s *serverState) {
		if s.backoff == nil {
			s.backoff = newBackoff(p.opts.RetryBase, max(p.opts.RetryBase, p.opts.RetryMax))
		}
		d, _ = s.backoff.Next()
	})
	_ = pause(ctx, d, nil) // ctx is the pool's
}

// servedElsewhere reports whether another server accepted the key lately.
func (p *Pool) servedElsewhere(addr string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for other, s := range p.servers {
		if other != addr && s.trusted(now) {
			return true
		}
	}
	return p.any(func(c *Conn) bool { return c.addr != addr && c.alive() })
}

// stillWanted reports whether the connection that the caller is about to make is
// needed: who waited for it may have left during the pause.
func (p *Pool) stillWanted(o order) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && p.missing(o.addr) >= 0 // the caller itself is among those being made
}

// admit makes a connection one of the pool, unless it has ended or the pool has.
func (p *Pool) admit(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admitLocked(c)
}

// admitLocked is admit for who holds mu.
func (p *Pool) admitLocked(c *Conn) bool {
	if p.closed || !c.alive() {
		return false
	}
	if c.creds != p.creds.Load() {
		c.renewAt = time.Time{} // begun before they changed
	}
	c.state = stateIdle
	p.all[c] = struct{}{}
	p.live.up(time.Now())
	return true
}

// hurry raises how many connections are kept ready, for a time.
type hurry struct {
	n     int
	until time.Time
}

// Hurry keeps n connections ready, as far as Max allows, until d from now: someone
// is going to use up many short ones. It never lowers what Options.MinIdle says.
// What is idle at the end of that time stays until it is of age.
func (p *Pool) Hurry(n int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := time.Now().Add(d)
	if old := p.hurry; time.Now().Before(old.until) { // several may be in a hurry
		n, until = max(n, old.n), later(until, old.until)
	}
	p.hurry = hurry{min(n, p.opts.Max), until}
	p.reconcile()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// minIdle is how many connections are to be kept ready. mu is held.
func (p *Pool) minIdle(now time.Time) int {
	n := p.opts.MinIdle
	if now.Before(p.hurry.until) {
		n = max(n, p.hurry.n)
	}
	if len(p.waiters) > 0 && p.conns.Stat().AcquiredResources() > 0 {
		n = max(n, 1) // see lastWitness
	}
	return n
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
	if s := p.servers[c.addr]; s != nil && !c.ours && !c.end.AfterHalfClose {
		s.distrust() // it may have restarted, and with other keys
	}
	p.reconcile()
	p.mu.Unlock()
	if c.ours || state == stateGone && c.end.AfterHalfClose {
		return // our own doing
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
