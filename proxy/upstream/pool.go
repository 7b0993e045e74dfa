package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/jackc/puddle/v2"
)

// ErrClosed is what Acquire returns once the pool is closed.
var ErrClosed = errors.New("the pool of connections to QuestDB is closed")

// errNotWanted ends an attempt that nobody needs any more.
var errNotWanted = errors.New("connection not needed any more")

// upkeepEvery is how often idle connections' ages and sockets are looked after.
const upkeepEvery = 5 * time.Second

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
	making  int                // connections that are being made, or waited for to be
	leaving int                // connections that were idle, and have not ended yet
	orders  map[string]int     // how many goroutines make one to a certain address for waiters; "": to any
	hurry   hurry
	draws   []time.Time // of the last connections that were handed out to whoever wanted any
	chosen  struct {    // the server of the last connection that could go to any
		addr string
		at   time.Time
	}
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
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.all)
	p.making = 0
	p.metrics.Connections.set(0, 0, 0, 0)
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
	p.publish()
}

// publish has the metrics show how many connections there are. mu is held.
func (p *Pool) publish() {
	idle, acquired := p.count()
	p.metrics.Connections.set(idle, acquired, p.making, p.leaving)
}

// count is how many connections are ready and handed out. mu is held.
func (p *Pool) count() (idle, acquired int) {
	for c := range p.all {
		if c.state == stateAcquired {
			acquired++
		}
	}
	return len(p.all) - acquired, acquired
}

// room is how many connections more there may be. mu is held.
func (p *Pool) room() int { return p.opts.Max - len(p.all) - p.making - p.leaving }

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
	if len(p.waiters) > 0 && p.bearsWitness() {
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
	if c.ours || c.end.AfterHalfClose {
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
