package upstream

import (
	"strings"
	"time"
)

// readyGrace is for how long a pool without a connection is still ready: a server
// restarts, or its idle timeout ends everything, without anything being wrong.
const readyGrace = 5 * time.Second

// Status is a snapshot of a pool.
type Status struct {
	// Ready: an authenticated connection that survived its probation is open now,
	// or was within the last 5 seconds.
	Ready bool
	// Since is when Ready became what it is.
	Since time.Time
	// Reason says why it is not ready and what to check, in a sentence.
	Reason string
	// LastError is the latest failure to connect, or nil. It may be long mended.
	LastError error
	// Addr is the IP address and port that last answered, "" if none did.
	Addr string

	Idle       int // connections ready
	Acquired   int // connections handed out
	Connecting int // connections being made, or waiting for the next attempt
}

// Status tells how the pool is.
func (p *Pool) Status() Status {
	now := time.Now()
	f, addr, lastErr := p.reports.state()
	s := Status{LastError: lastErr, Addr: addr}

	p.mu.Lock()
	s.Idle, s.Acquired = p.count()
	s.Connecting = p.making
	s.Ready, s.Since = p.live.ready(now)
	if s.Since.IsZero() {
		s.Since = p.began
	}
	started, closed := p.started, p.closed
	p.mu.Unlock()

	switch {
	case closed:
		s.Ready, s.Reason = false, "closed"
	case s.Ready:
	case f.kind != kindNone:
		s.Reason = f.sentence
	case started && p.opts.MinIdle == 0 && s.Connecting == 0:
		s.Reason = "no connection was asked for yet"
	case started:
		s.Reason = "connecting to " + strings.Join(p.opts.Addrs, ", ")
	default:
		s.Reason = "not started"
	}
	return s
}

// liveness counts open connections and remembers when there were any.
type liveness struct {
	open  int
	since time.Time // begin of the present, or latest, time with a connection
	last  time.Time // when the last open one ended
}

func (l *liveness) up(now time.Time) {
	if ready, _ := l.ready(now); !ready {
		l.since = now
	}
	l.open++
}

func (l *liveness) down(now time.Time) {
	l.open--
	if l.open == 0 {
		l.last = now
	}
}

// ready returns also since when; zero if it never was.
func (l *liveness) ready(now time.Time) (bool, time.Time) {
	switch {
	case l.open > 0:
		return true, l.since
	case l.last.IsZero():
		return false, time.Time{}
	case now.Sub(l.last) < readyGrace:
		return true, l.since
	}
	return false, l.last.Add(readyGrace)
}
