package upstream

import (
	"context"
	"slices"
	"time"
	"weak"
)

const (
	// aliveWait is how long a sign of life may take: a keep-alive probe comes up to
	// a second after it was asked for.
	aliveWait = 1500 * time.Millisecond

	// clockTick is how coarse the kernel's clock may be.
	clockTick = 10 * time.Millisecond

	aliveLookFirst = time.Millisecond
	aliveLookEvery = 20 * time.Millisecond

	// aliveAsk is after how long an idle connection is asked. Until then whatever goes
	// over one of them anyway may be answered, or what somebody else has asked: each LF
	// is one of maxPings.
	aliveAsk = clockTick + 5*time.Millisecond

	// aliveAskAll is after how long more than one idle connection is asked.
	aliveAskAll = 200 * time.Millisecond

	// pingEvery is the most often that Witnesses keeps a connection from idling.
	pingEvery = time.Second

	// maxPings is how many LFs an idle connection carries before it is renewed: 8.x
	// has room for 32,768 bytes between two ends of records, LFs included.
	maxPings = 256
)

// Witnesses are the connections to one server that were open at one moment. As long
// as one of them is open, the server process that was there has been there since.
type Witnesses struct {
	pool    *Pool
	members []*Conn
}

// Witnesses notes the connections to the server at addr that are open and past
// their probation now, idle or handed out, other than not. It also sends an LF, which
// QuestDB ignores, over the idle ones, at most once a second, so that a short idle
// timeout of the server's does not end them soon.
//
// The pool closes none of its idle connections of its own accord (for their age, or
// to make room) that is the last one of a Witnesses which was not released.
func (p *Pool) Witnesses(addr string, not *Conn) *Witnesses {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &Witnesses{pool: p}
	if not != nil {
		not.leaving = true
		if not.alive() { // else its successors are those of its end, and not of now
			not.successors = p.others(not) // whoever is connected now, before its half-close
		}
	}
	for c := range p.all {
		if c != not && c.addr == addr && c.alive() {
			w.members = append(w.members, c)
			if c.state == stateIdle && time.Since(c.pingedAt) >= pingEvery {
				p.ping(c)
			}
		}
	}
	p.noteSet(w)
	p.reconcile()
	return w
}

// others returns the connections to c's server that are open beside it, and not about
// to be ended. mu is held.
func (p *Pool) others(c *Conn) (open []*Conn) {
	for m := range p.all {
		if m != c && !m.leaving && m.addr == c.addr && m.alive() {
			open = append(open, m)
		}
	}
	return open
}

// ended has others bear witness in c's place: it ended well, after we half-closed it,
// so the process was there at that moment, and who was connected then is connected to
// the same one. In a small pool every connection ends like that, one after the other,
// within the time that one of them has to be vouched for. The pool's mu is held.
func (w *Witnesses) ended(c *Conn) {
	for _, m := range c.successors {
		if slices.Contains(w.members, m) {
			continue
		}
		w.members = append(w.members, m)
		if !m.alive() && m.end.Clean() {
			w.ended(m)
		}
	}
}

// succeed tells all Witnesses of c's end.
func (p *Pool) succeed(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sets {
		if w := s.Value(); w != nil && slices.Contains(w.members, c) {
			w.ended(c)
		}
	}
}

// Release says that w is not needed any more, and so none of its connections for its
// sake. It may be called more than once.
func (w *Witnesses) Release() {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	w.pool.sets = slices.DeleteFunc(w.pool.sets, func(s weak.Pointer[Witnesses]) bool { return s.Value() == w })
	w.pool.reconcile() // somebody may wait for one of them
}

// noteSet remembers w until it is released, or forgotten. mu is held.
func (p *Pool) noteSet(w *Witnesses) {
	kept := p.sets[:0]
	for _, s := range p.sets {
		if s.Value() != nil {
			kept = append(kept, s)
		}
	}
	clear(p.sets[len(kept):])
	p.sets = kept
	if len(w.members) > 0 {
		p.sets = append(p.sets, weak.Make(w))
	}
}

// needed reports whether c is the last open one of some Witnesses. mu is held.
func (p *Pool) needed(c *Conn) bool {
	for _, s := range p.sets {
		if w := s.Value(); w != nil && w.needs(c) {
			return true
		}
	}
	return false
}

func (w *Witnesses) needs(c *Conn) bool {
	member, others := false, false
	for _, m := range w.members {
		if m == c {
			member = true
		} else if m.alive() && m.state != stateGone && !m.leaving {
			others = true
		}
	}
	return member && !others
}

// ping sends an LF over an idle connection; the channel tells whether the peer
// took it, where that is not the kernel's to tell. mu is held.
func (p *Pool) ping(c *Conn) (slow <-chan bool, sent bool) {
	if c.pings >= maxPings {
		return nil, false
	}
	c.pingedAt = time.Now()
	if c.pings++; c.pings == maxPings {
		c.renewAt = time.Time{} // the next sweep's
	}
	if c.plain {
		return nil, c.ping()
	}
	if p.closed {
		return nil, false
	}
	done := make(chan bool, 1)
	p.goroutines.Go(func() { done <- c.pingSlowly() })
	return done, true
}

// question is what one connection was asked.
type question struct {
	c      *Conn
	idle   bool        // when it was asked last
	slow   <-chan bool // not plain TCP: whether it took the LF
	sent   bool        // an LF was sent
	nudged bool        // for a keep-alive probe
}

// Some reports whether there is one that its owner is not about to end as well.
func (w *Witnesses) Some() bool {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	return slices.ContainsFunc(w.members, func(c *Conn) bool { return !c.leaving && c.alive() })
}

// Gone reports whether all of them have ended, so that none can bear witness any more.
func (w *Witnesses) Gone() bool {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	return !slices.ContainsFunc(w.members, (*Conn).alive)
}

// Alive reports whether one of the connections is still open, and its peer's kernel
// answered something that was sent after the call: an LF over an idle one; over one
// that is handed out, whatever its owner sent, or a keep-alive probe. It waits at
// most 1.5 s for that. (Where the kernel cannot be asked, a connection that is
// handed out and open will do.)
//
// A process that is stopped has a kernel that answers: see [Pool.Prove].
func (w *Witnesses) Alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveWait)
	defer cancel()
	asked := time.Now()
	questions := w.questions(nil)
	defer func() { w.askedEnough(questions) }()
	open := slices.Clone(questions)
	for wait := aliveLookFirst; ; wait = min(2*wait, aliveLookEvery) {
		alive := false
		open = slices.DeleteFunc(open, func(q *question) bool {
			kind := q.answered(asked)
			alive = alive || kind == answerYes
			return kind == answerEnded
		})
		if alive {
			return true
		}
		if len(open) == 0 {
			// Those that ended well may have successors.
			if open = w.questions(questions); len(open) == 0 {
				return false
			}
			questions = append(questions, open...)
		}
		switch waited := time.Since(asked); {
		case waited < aliveAsk:
		case waited > aliveAskAll, !w.askOne(open, asked):
			w.askAll(open)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// questions returns one for each connection that is open, but for those that were
// made already. Nothing is asked yet.
func (w *Witnesses) questions(already []*question) (questions []*question) {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	for _, c := range w.members {
		if c.state == stateGone || !c.alive() || slices.ContainsFunc(already, func(q *question) bool { return q.c == c }) {
			continue
		}
		questions = append(questions, &question{c: c, idle: c.state == stateIdle})
	}
	return questions
}

// askOne asks the idle connection that has carried the fewest LFs, unless one was
// asked already, by whomever, since asked. It reports false if there is none.
func (w *Witnesses) askOne(questions []*question, asked time.Time) bool {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	var first *question
	for _, q := range questions {
		if q.sent || q.nudged {
			return true
		}
		if q.c.plain && q.c.state == stateIdle && q.c.pingedAt.After(asked) {
			q.idle, q.sent = true, true
			return true
		}
		if q.idle = q.c.state == stateIdle; q.idle && (first == nil || q.c.pings < first.c.pings) {
			first = q
		}
	}
	if first == nil {
		return false
	}
	first.slow, first.sent = w.pool.ping(first.c)
	w.pool.reconcile()
	return first.sent
}

// askAll asks those of the connections that were not asked yet.
func (w *Witnesses) askAll(questions []*question) {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	for _, q := range questions {
		if q.sent || q.nudged || q.c.state == stateGone {
			continue
		}
		if q.idle = q.c.state == stateIdle; q.idle {
			q.slow, q.sent = w.pool.ping(q.c)
		}
		if !q.sent && q.c.raw != nil {
			q.nudged = true
			q.c.nudges++
			nudge(q.c.raw, true) // each time: the probe after the first comes late by itself
		}
	}
}

// askedEnough ends what ask began.
func (w *Witnesses) askedEnough(questions []*question) {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	for _, q := range questions {
		if q.nudged {
			if q.c.nudges--; q.c.nudges == 0 {
				nudge(q.c.raw, false)
			}
		}
	}
}

type answerKind int

const (
	answerNone answerKind = iota // yet
	answerYes
	answerEnded // and there will be none
)

// answered looks for an answer since the question was asked.
func (q *question) answered(asked time.Time) answerKind {
	if !q.c.alive() {
		return answerEnded
	}
	if q.slow != nil && q.c.raw != nil {
		select {
		case took := <-q.slow:
			if !took {
				return answerEnded
			}
			q.slow = nil // from here on the kernel can tell
		default:
			return answerNone
		}
	}
	if q.c.raw == nil {
		if !q.idle && !q.sent {
			return answerYes
		}
		select {
		case took := <-q.slow:
			if took && q.c.alive() {
				return answerYes
			}
			return answerEnded
		default:
			return answerNone
		}
	}
	switch open, everything, later := answer(q.c.raw, asked); {
	case !open:
		return answerEnded
	case later, q.sent && everything:
		return answerYes
	}
	return answerNone
}
