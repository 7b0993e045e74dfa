package delivery

import (
	"context"
	"errors"
	"net"
	"time"

	"questdb-ilp-proxy/proxy/upstream"
)

// livesWithin is how long a server may take to show that it lives, when one of
// its connections has failed. If it takes longer, it is an outage.
const livesWithin = 2 * time.Second

// startTime is less than a QuestDB needs to start: 0.7 s and more was measured.
const startTime = 300 * time.Millisecond

// failed finds out what the end of conn, which carried s, means: nothing, an
// outage, or that the server refused a record. err is what was seen of it.
func (l *Lane) failed(ctx context.Context, conn Conn, s *segment, err error) {
	w := l.d.o.Source.Witness(conn)
	defer w.Release()
	ended := time.Now()
	l.quiesce()
	start, end, written := s.start, s.end, s.bytes > 0
	if !written {
		l.j.fail(s)
	}
	l.mu.Unlock()
	l.d.discard(conn)
	if !written {
		if ctx.Err() == nil {
			l.d.log.Debug("a lane's connection ended before anything was written to it", "lane", l.id, "server", conn.Addr())
		}
		return
	}
	if ctx.Err() != nil {
		return // the lane ends: what is not settled stays in the journal
	}
	l.d.m.failures.Inc()
	l.ailing.Store(true)
	l.interval = firstInterval
	lives := l.d.lives(ctx, conn.Addr(), w, ended)
	if !w.Some() || w.Gone() {
		l.d.paths.away(conn.Addr())
	}
	w.Release() // what follows may take long

	l.mu.Lock()
	first := s
	if !lives {
		first = l.j.segments[0] // what is settling has no chance either
	}
	n := l.j.fail(first)
	l.lost(n, failureCause(conn, lives, err))
	// The record that was cut is among those that may have been refused.
	end = l.j.boundaryAfter(end)
	l.mu.Unlock()
	if l.d.o.AtMostOnce {
		l.trouble.outage() // nothing to look for: it is gone
		return
	}
	if !lives {
		l.trouble.outage()
		l.d.paths.forget(conn.Addr())
		return
	}
	if errors.Is(err, errUnusualFIN) {
		l.trouble.wait = true // what is known of a refused record still holds
		return
	}
	if errors.Is(err, errNoFIN) {
		l.trouble.outage() // nothing was refused, and at once it would be no faster
		return
	}
	l.d.paths.refused(conn.Addr())
	l.investigate(ctx, conn.Addr(), start, end)
}

// lives reports whether the server, of which a connection ended at t, is still there
// and answers: at once, since no server starts that fast; or w is still connected.
func (d *Dispatcher) lives(ctx context.Context, addr string, w Witness, t time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, livesWithin)
	defer cancel()
	for {
		err := d.o.Source.Prove(ctx, addr)
		switch {
		case err == nil && (time.Since(t) < startTime || w.Alive(ctx)):
			return true
		case errors.Is(err, upstream.ErrLate):
			continue // it is busy, or was stopped: let it show that it is not any more
		}
		d.log.Debug("a server does not show that it lives", "server", addr, "witnesses", w.Some(), "error", err)
		return false
	}
}

// late reports whether err is about a server that took too long to close a connection.
func late(err error) bool { return errors.Is(err, errNoFIN) || errors.Is(err, errUnusualFIN) }

// failureCause says in a sentence why a connection failed, of which err was seen.
func failureCause(conn Conn, lives bool, err error) error {
	e := failure{addr: conn.Addr(), lives: lives, err: err}
	select {
	case <-conn.Done():
		// Unless it is we who closed it, because of err.
		if end := conn.End().Err; err == nil || !errors.Is(end, net.ErrClosed) && !late(err) {
			e.err = end
		}
	default:
	}
	return e
}

// failure is the end of a connection that carried records.
type failure struct {
	addr  string
	lives bool
	err   error
}

func (e failure) Error() string {
	what := "QuestDB at " + e.addr + " closed the connection"
	switch {
	case errors.Is(e.err, errUnusualFIN):
		what = "QuestDB at " + e.addr + ": " + e.err.Error()
	case errors.Is(e.err, net.ErrClosed):
		what = "QuestDB at " + e.addr + " did not answer, so the connection was given up"
	case e.err != nil:
		what = "connection to QuestDB at " + e.addr + ": " + e.err.Error()
	}
	switch {
	case e.lives && late(e.err):
		return what
	case e.lives:
		return what + ", and is alive: most likely it refused a record"
	}
	return what + ", and is gone"
}

// Unwrap returns what broke the connection.
func (e failure) Unwrap() error { return e.err }

// investigate looks for the record from start to end that a living server
// refused: first for a malformed one; then, if it happens again, by bisection.
func (l *Lane) investigate(ctx context.Context, addr string, start, end int64) {
	if l.setMalformedAside(start, end) > 0 {
		l.trouble.clear()
		return
	}
	l.trouble.refused(start, end)
	l.set(laneIsolating)
	l.d.o.Source.Hurry(hurry, hurryFor)
	l.mu.Lock()
	from, to, single := l.trouble.single(&l.j)
	l.mu.Unlock()
	if single {
		l.isolate(ctx, addr, from, to)
	}
}
