package upstream

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/puddle/v2"
)

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
		p.noteDrawn(time.Now())
		return c
	}
	return nil
}

// drawnFor is how long a connection that was handed out is a reason to keep another one.
const drawnFor = time.Second

// maxDrawn is the most that drawn returns.
const maxDrawn = 16

// noteDrawn remembers that a connection was handed out. mu is held.
func (p *Pool) noteDrawn(now time.Time) {
	most := min(p.opts.Max/4, maxDrawn)
	p.draws = append(p.draws, now)
	p.draws = p.draws[max(0, len(p.draws)-most):]
}

// drawn is how many connections were handed out lately: about as many will be wanted,
// and one that is there already need not be made. noteDrawn sees to it that it is a
// quarter of Max at the most. What is kept for it stays until it is of age. mu is held.
func (p *Pool) drawn(now time.Time) (n int) {
	for _, at := range p.draws {
		if now.Sub(at) < drawnFor {
			n++
		}
	}
	return n
}

// lastWitness reports whether the only idle connection must stay, to bear witness
// for those that are handed out, which all end soon, or for those that have ended.
// Where there is no room to make another one, or that fails, it is handed out all the
// same. mu is held.
func (p *Pool) lastWitness() bool {
	fresh, old, _ := p.idle(time.Now())
	return fresh+old == 1 && p.bearsWitness() && (p.making > 0 || p.room() > 0) && p.gate.isOpen()
}

// bearsWitness reports whether there is somebody whom an idle connection bears
// witness for, or is going to. mu is held.
func (p *Pool) bearsWitness() bool {
	return p.conns.Stat().AcquiredResources() > 0 ||
		p.any(func(c *Conn) bool { return c.state == stateIdle && p.needed(c) })
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

// renewAt is when a connection established at t is due for replacement.
func renewAt(t time.Time, maxAge time.Duration) time.Time {
	return t.Add(maxAge - time.Duration(rand.Int64N(int64(maxAge)/5+1)))
}
