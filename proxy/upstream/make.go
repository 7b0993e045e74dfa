package upstream

import (
	"context"
	"time"

	"questdb-ilp-proxy/auth"
)

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
	if err != nil && !p.closed {
		p.making-- // else admitLocked counted it as one that is there
	}
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
	if c != nil && !p.admit(c, o.addr == "") {
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

// admit makes a connection one of the pool, unless it has ended or the pool has. chosen
// says that it could have been one to any server.
func (p *Pool) admit(c *Conn, chosen bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admitLocked(c, chosen)
}

// admitLocked is admit for who holds mu. From here on the connection counts as one that
// is there, and not as one that is being made.
func (p *Pool) admitLocked(c *Conn, chosen bool) bool {
	if p.closed || !c.alive() {
		return false
	}
	if c.creds != p.creds.Load() {
		c.renewAt = time.Time{} // begun before they changed
	}
	c.state = stateIdle
	p.all[c] = struct{}{}
	p.making--
	p.publish()
	now := time.Now()
	if chosen {
		p.chosen.addr, p.chosen.at = c.addr, now
	}
	p.live.up(now)
	return true
}
