package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrLate is what Prove returns if the server answered, but much later than it
// usually does: it may have been stopped meanwhile.
var ErrLate = errors.New("QuestDB answered much later than usual")

// shareFor is how far apart the handshakes begin that [Pool.ProveSoon] makes. Under load
// something settles all the time. A handshake costs QuestDB some 3 ms of CPU time, and
// several times that for its workers that look for more to do before they sleep. It is
// half of the usual settle time and a little more, so that who asks again after that
// half, and the answer, is in time for the next one.
const shareFor = 300 * time.Millisecond

// politeClose is how long a connection that is not wanted has to end well.
const politeClose = time.Second

// prover makes the proofs for one server, one after the other.
type prover struct {
	running *proof // nil if there is none, then there is no next one either
	next    *proof // for those who asked after running had begun
}

// proof is one handshake whose answer several callers wait for.
type proof struct {
	addr     string
	done     chan struct{} // closed when err is valid
	err      error
	callers  int
	begun    bool // nobody can join any more
	finished bool
	urgent   bool        // not to wait for shareFor, once it is scheduled
	timer    *time.Timer // set while it is scheduled for later
}

// Prove makes a handshake with the server at addr (an IP address and port, see
// [Conn.Addr]) that begins after the call, and returns nil if it was answered as
// fast as usual: the challenge came within 250 ms, or 8 times the median of this
// server's latest 20 challenges. If it came later, the error is [ErrLate]; anything
// else is why there was none. It waits for as long as ctx lives, and at most
// Options.AuthTimeout.
//
// Callers share a handshake that began after the last of them called. It takes a
// place in the pool: where that is full, the place of the youngest idle connection
// that no [Witnesses] needs, and if there is none, the next to become free. While
// connections fail, it waits its turn like any attempt, and fails if the next
// attempt does. It does not wait for the probation; a connection that survives that
// stays in the pool if it is wanted there; see admitSpare.
func (p *Pool) Prove(ctx context.Context, addr string) error {
	return p.prove(ctx, addr, true, p.opts.AuthTimeout)
}

// ProveSoon is [Pool.Prove] for callers that can wait up to 300 ms more: all that ask
// within that time share one handshake, unless somebody asks who cannot wait.
func (p *Pool) ProveSoon(ctx context.Context, addr string) error {
	return p.prove(ctx, addr, false, p.opts.AuthTimeout+shareFor)
}

func (p *Pool) prove(ctx context.Context, addr string, urgent bool, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", p.opts.AuthTimeout))
	defer cancel()
	p.mu.Lock()
	if p.closed || !p.started {
		p.mu.Unlock()
		return ErrClosed
	}
	pr := p.joinProof(addr, urgent)
	p.mu.Unlock()
	select {
	case <-pr.done:
		return pr.err
	case <-ctx.Done():
		p.leaveProof(pr)
		return fmt.Errorf("prove that QuestDB at %s answers: %w", addr, context.Cause(ctx))
	}
}

// joinProof finds the proof to wait for, and has it made. mu is held.
func (p *Pool) joinProof(addr string, urgent bool) *proof {
	q := p.proofs[addr]
	if q == nil {
		q = &prover{}
		p.proofs[addr] = q
	}
	pr := q.running
	switch {
	case pr == nil:
		pr = newProof(addr)
		pr.urgent = urgent
		q.running = pr
		p.schedule(pr)
	case !pr.begun:
		if urgent {
			p.release(pr)
		}
	default:
		if q.next == nil {
			q.next = newProof(addr)
		}
		pr = q.next
		pr.urgent = pr.urgent || urgent
	}
	pr.callers++
	return pr
}

// schedule has a proof made: now if it is urgent, else as soon as the last one is
// shareFor old. mu is held.
func (p *Pool) schedule(pr *proof) {
	wait := time.Duration(0)
	if s := p.servers[pr.addr]; s != nil && !pr.urgent {
		wait = time.Until(s.proofBegun.Add(shareFor))
	}
	if wait <= 0 {
		p.want(pr)
		return
	}
	pr.timer = time.AfterFunc(wait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.release(pr)
	})
}

// release has a scheduled proof made now, if it is not yet. mu is held.
func (p *Pool) release(pr *proof) {
	if p.unschedule(pr) {
		p.want(pr)
	}
}

// unschedule reports whether pr was to be made later; it is not any more. mu is held.
func (p *Pool) unschedule(pr *proof) bool {
	if pr.timer == nil {
		return false
	}
	pr.timer.Stop()
	pr.timer = nil
	return true
}

func newProof(addr string) *proof { return &proof{addr: addr, done: make(chan struct{})} }

// want has a place found for a proof. mu is held.
func (p *Pool) want(pr *proof) {
	p.placing = append(p.placing, pr)
	p.reconcile()
}

// leaveProof is called by who does not wait any more. A proof that nobody waits
// for is not begun.
func (p *Pool) leaveProof(pr *proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr.callers--
	if pr.callers > 0 || pr.finished {
		return
	}
	if p.unschedule(pr) {
		p.proven(pr, errNotWanted)
		return
	}
	for i, o := range p.placing {
		if o == pr {
			p.placing = append(p.placing[:i:i], p.placing[i+1:]...)
			p.proven(pr, errNotWanted)
			return
		}
	}
	if q := p.proofs[pr.addr]; q != nil && q.next == pr {
		q.next = nil
	}
}

// proven says how a proof went; the first answer counts. mu is held.
func (p *Pool) proven(pr *proof, err error) {
	if pr.finished {
		return
	}
	pr.finished, pr.err = true, err
	close(pr.done)
	q := p.proofs[pr.addr]
	if q == nil || q.running != pr {
		return // the pool closed
	}
	q.running, q.next = q.next, nil
	switch {
	case q.running == nil:
		delete(p.proofs, pr.addr)
	default:
		p.schedule(q.running)
	}
}

// closeProofs ends all proofs. mu is held, and the pool closed.
func (p *Pool) closeProofs() {
	for _, q := range p.proofs {
		for _, pr := range []*proof{q.running, q.next} {
			if pr != nil && !pr.finished {
				p.unschedule(pr)
				pr.finished, pr.err = true, ErrClosed
				close(pr.done)
			}
		}
	}
	clear(p.proofs)
	p.placing = nil
}

// constructProof makes a proof, and perhaps a connection for the pool of it.
func (p *Pool) constructProof(ctx context.Context, pr *proof) (*Conn, error) {
	wait, cancel := context.WithTimeout(ctx, p.opts.AuthTimeout)
	t, err := p.gate.enterOrFail(wait)
	cancel()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	wanted := pr.callers > 0 && !pr.finished
	pr.begun = true
	if wanted {
		p.serverState(pr.addr).proofBegun = time.Now()
	} else {
		p.proven(pr, errNotWanted)
	}
	p.mu.Unlock()
	if !wanted {
		p.gate.forgo(t)
		return nil, errNotWanted
	}
	dialUntil := time.Now().Add(min(p.opts.DialTimeout, p.opts.AuthTimeout))
	c, f := p.connectIP(ctx, pr.addr, dialUntil, func(challenge time.Duration) { p.answered(pr, challenge) })
	if c == nil {
		// The gate hears of it first, so that the next proof does not go past it; make
		// tells those who wait.
		return nil, p.outcome(t, pr.addr, nil, f)
	}
	p.gate.succeed(t, c.addr)
	if p.admitSpare(c) {
		return c, nil
	}
	c.leave(ctx)
	return nil, errNotWanted
}

// answered says how long the challenge took.
func (p *Pool) answered(pr *proof, challenge time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := lateMin
	if s := p.servers[pr.addr]; s != nil {
		late = s.late()
	}
	var err error
	if challenge > late {
		err = fmt.Errorf("%w: QuestDB at %s took %v, at most %v would be usual", ErrLate, pr.addr,
			challenge.Round(time.Millisecond), late.Round(time.Millisecond))
	}
	p.proven(pr, err)
}

// chosenFor is how long a server counts as the one that the pool chooses.
const chosenFor = 10 * time.Second

// admitSpare is admit for a connection that was made for another reason than that
// the pool wanted it: it does so if somebody waits for one to that server, or the pool
// wants one now, or is going to, and has chosen that server itself lately. Lanes would
// never go back to a preferred one if connections to the other stayed because proofs are
// asked of that. For who waits for any, it need not be lately: an attempt that tries the
// preferred one first is under way for them, and may take long.
func (p *Pool) admitSpare(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	want := 0
	if c.addr == p.chosen.addr {
		for _, w := range p.waiters {
			if w.addr == "" {
				want++
			}
		}
		if now.Sub(p.chosen.at) < chosenFor {
			want += p.minIdle(now)
			if p.opts.MinIdle > 0 && p.room() > 0 { // else the next proof would have to end one
				want += p.drawn(now)
			}
		}
	}
	fresh, _, _ := p.idle(now)
	waited := slices.ContainsFunc(p.waiters, func(w *waiter) bool { return w.addr == c.addr })
	return (waited || fresh < want) && p.admitLocked(c, false)
}

// leave ends a connection that nobody holds, well if the server lets us: within
// politeClose, and while ctx lives. Over TLS the half-close may have to wait as well.
func (c *Conn) leave(ctx context.Context) {
	limit := time.AfterFunc(politeClose, c.close)
	defer limit.Stop()
	defer context.AfterFunc(ctx, c.close)()
	if c.CloseWrite() == nil {
		<-c.done
	}
	c.close()
}
