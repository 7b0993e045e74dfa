package delivery

import (
	"context"
	"errors"
	"net"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
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

// setMalformedAside sets aside the records from start to end that cannot be
// parsed, and those behind that come from the same writers, as far as the lane has room for
// them. It returns how many.
func (l *Lane) setMalformedAside(start, end int64) (n int) {
	malformed := func(w *Writer, record []byte) (reason, detail string) {
		if err := ilp.Validate(record); err != nil {
			w.strict.Store(true)
			return rejected.ReasonMalformed, err.Error()
		}
		return "", ""
	}
	n, at := l.reject(start, end, malformed)
	if n == 0 {
		return 0
	}
	more, at := l.reject(min(at, end), noLimit, l.d.check)
	l.looked = at
	return n + more
}

// reject sets aside those pending records from one offset to another for which why
// gives a reason, and saves them. It returns how many, and up to which offset it looked
// for them: noLimit, if that is all, or where the lane is crowded.
func (l *Lane) reject(from, to int64, why func(w *Writer, record []byte) (reason, detail string)) (n int, looked int64) {
	for more := true; more; {
		var some []reject
		more = false
		l.mu.Lock()
		l.j.skip()
		from = max(from, l.j.sent)
		stop := from + walkAtOnce
		l.j.records(from, min(to, l.j.end), func(start, end int64, w *Writer, record []byte) bool {
			if reason, detail := why(w, record); reason != "" {
				some = append(some, reject{start, end, w, rejected.Record{Time: time.Now(), Remote: w.remote, Reason: reason, Detail: detail, Bytes: record}})
			}
			from = end
			more = len(some) == putAtOnce || end >= stop
			return !more
		})
		l.mu.Unlock()
		if len(some) == 0 {
			continue
		}
		n += len(some)
		if l.putAside(some); l.crowded() {
			return n, from
		}
	}
	return n, noLimit
}

const (
	// mostHoles is how many holes a journal may have before no more records are looked for that
	// are to be set aside: they are 32 bytes each, which no budget knows.
	mostHoles = 1 << 16
	// mostUnsaved is the same for records that the sink did not take, of some hundred bytes each.
	mostUnsaved = 5000
)

// crowded reports whether the lane has to wait, until some of what was set aside is settled and
// saved, before it sets aside more.
func (l *Lane) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.j.holes) >= l.most.holes || len(l.rejects) >= l.most.unsaved
}

// walkAtOnce is how many bytes of records are looked through before sessions may go on,
// which wait for mu meanwhile: a few milliseconds.
const walkAtOnce = 1 << 20

// walk calls f for each record from one offset to another, with mu.
func (l *Lane) walk(from, to int64, f func(start, end int64, w *Writer, record []byte)) {
	for more := true; more; {
		more = false
		l.mu.Lock()
		stop := from + walkAtOnce
		l.j.records(from, to, func(start, end int64, w *Writer, record []byte) bool {
			f(start, end, w, record)
			from = end
			more = end >= stop
			return !more
		})
		l.mu.Unlock()
	}
}

// canLook reports whether the lane can set aside more now: unless it is crowded, or where only
// that brings it on, because all holes are in front of what it has not looked at.
func (l *Lane) canLook() bool {
	if !l.crowded() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.j.skip()
	return len(l.rejects) < l.most.unsaved && len(l.j.segments) == 0 && l.j.sent >= l.looked
}

// putAside saves records and takes them out of what is pending. If they cannot be
// saved, or others still wait for that, they are taken out all the same, to be offered later.
func (l *Lane) putAside(some []reject) {
	records := make([]rejected.Record, len(some))
	for i, r := range some {
		records[i] = r.record
	}
	saved := len(l.rejects) == 0 && l.d.o.Rejects.Put(records...) == nil
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range some {
		l.d.m.rejected.WithLabelValues(r.record.Reason).Inc()
		if saved {
			l.j.dismiss(r.start, r.end)
		} else {
			l.j.setAside(r.start, r.end)
			l.rejects = append(l.rejects, r)
		}
		r.w.rejected(l.d)
	}
	if saved {
		l.j.clean()
		l.progress.broadcast() // perhaps nothing of a writer is left
	} else {
		l.unsaved.Store(int64(len(l.rejects)))
		l.saveTimer.Reset(saveEvery)
	}
}

// A reject is a record that was set aside and is to be saved.
type reject struct {
	start, end int64
	w          *Writer
	record     rejected.Record
}

// save hands the records that were set aside to the sink. What it does not take
// stays in the journal, and is offered again.
func (l *Lane) save() {
	for len(l.rejects) > 0 {
		some := l.rejects[:min(len(l.rejects), putAtOnce)]
		records := make([]rejected.Record, len(some))
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
		l.progress.broadcast()
		l.mu.Unlock()
		l.rejects = l.rejects[len(some):]
	}
	l.rejects = nil
	l.unsaved.Store(0)
}
