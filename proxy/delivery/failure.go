package delivery

import (
	"context"
	"errors"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/upstream"
)

// livesWithin is how long a server may take to show that it lives, when one of
// its connections has failed. If it takes longer, it is an outage.
const livesWithin = 2 * time.Second

// failed finds out what the end of conn, which carried s, means: nothing, an
// outage, or that the server refused a record.
func (l *Lane) failed(ctx context.Context, conn Conn, s *segment) {
	w := l.d.o.Source.Witness(conn)
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
	l.interval = firstInterval
	lives := l.d.lives(ctx, conn.Addr(), w)

	l.mu.Lock()
	first := s
	if !lives {
		first = l.j.segments[0] // what is settling has no chance either
	}
	n := l.j.fail(first)
	l.lost(n, failureCause(conn, lives))
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
	l.investigate(ctx, conn.Addr(), start, end)
}

// lives reports whether the server that w is connected to is still there, and
// answers.
func (d *Dispatcher) lives(ctx context.Context, addr string, w Witness) bool {
	ctx, cancel := context.WithTimeout(ctx, livesWithin)
	defer cancel()
	for {
		err := d.o.Source.Prove(ctx, addr)
		switch {
		case err == nil && w.Alive(ctx):
			return true
		case errors.Is(err, upstream.ErrLate):
			continue // it is busy, or was stopped: let it show that it is not any more
		}
		d.log.Debug("a server does not show that it lives", "server", addr, "witnesses", w.Some(), "error", err)
		return false
	}
}

// failureCause says in a sentence why a connection failed.
func failureCause(conn Conn, lives bool) error {
	e := failure{addr: conn.Addr(), lives: lives}
	select {
	case <-conn.Done():
		e.err = conn.End().Err
	default:
		e.err = context.DeadlineExceeded
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
	if e.err != nil {
		what = "connection to QuestDB at " + e.addr + ": " + e.err.Error()
	}
	if e.lives {
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
	l.trouble.failures++
	if l.trouble.failures == 1 && l.trouble.hi == 0 {
		return // a connection may fail for once
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

// setMalformedAside sets aside the records from start to end that cannot be
// parsed, and those behind that come from the same writers. It returns how many.
func (l *Lane) setMalformedAside(start, end int64) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := func(from, to int64, w *Writer, record []byte) {
		if err := ilp.Validate(record); err != nil {
			w.strict.Store(true)
			l.setAside(from, to, w, record, ReasonMalformed, err.Error())
			n++
		}
	}
	l.j.records(start, end, func(from, to int64, w *Writer, record []byte) bool {
		found(from, to, w, record)
		return true
	})
	if n > 0 {
		l.j.records(end, l.j.end, func(from, to int64, w *Writer, record []byte) bool {
			if w.strict.Load() {
				found(from, to, w, record)
			}
			return true
		})
	}
	return n
}

// setAside takes a record out of what is pending and says so. The caller holds mu.
func (l *Lane) setAside(from, to int64, w *Writer, record []byte, reason, detail string) {
	l.j.setAside(from, to)
	l.d.m.rejected.WithLabelValues(reason).Inc()
	l.rejects = append(l.rejects, reject{start: from, w: w, record: Rejected{
		Time: time.Now(), Remote: w.remote, Reason: reason, Detail: detail, Bytes: record,
	}})
	w.rejected(l.d)
}

// A reject is a record that was set aside and is to be saved.
type reject struct {
	start  int64
	w      *Writer
	record Rejected
}

// save hands the records that were set aside to the sink. What it does not take
// stays in the journal, and is offered again.
func (l *Lane) save() {
	for len(l.rejects) > 0 {
		some := l.rejects[:min(len(l.rejects), putAtOnce)]
		records := make([]Rejected, len(some))
		for i, r := range some {
			records[i] = r.record
		}
		if err := l.d.o.Rejects.Put(records...); err != nil {
			l.unsaved.Store(int64(len(l.rejects)))
			l.saveTimer.Reset(saveEvery)
			return
		}
		starts := make([]int64, len(some))
		for i, r := range some {
			starts[i] = r.start
		}
		l.mu.Lock()
		l.j.save(starts...)
		l.mu.Unlock()
		l.rejects = l.rejects[len(some):]
	}
	l.rejects = nil
	l.unsaved.Store(0)
}
