package delivery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

const (
	// inARow is after how many refused records of one table, with none accepted
	// between them, its further ones are not tried any more.
	inARow = 3
	// probeEvery is how often one of them is tried all the same.
	probeEvery = 10 * time.Second
	// mostWriters bounds of how many of them a record is tried before a table is put
	// into quarantine for all.
	mostWriters = 16
	// mostTables bounds how many tables are watched.
	mostTables = 1000
)

// quarantine knows the tables of which record after record is refused while
// others are accepted: for everybody, since somebody changed a column's type, say;
// or for one writer, that has the type wrong. Their records are set aside without a
// trial each.
type quarantine struct {
	// watched counts what had a record refused lately; the fast path asks only for
	// that.
	watched atomic.Int32
	// version changes when something comes or goes.
	version atomic.Uint64

	mu     sync.Mutex
	tables map[source]*tableTrouble
}

// A source is the records of one table that come from one writer, or from all.
type source struct {
	w     *Writer // nil: all
	table string
}

type tableTrouble struct {
	refused int  // in a row
	closed  bool // in quarantine
	probe   time.Time
}

// watching reports whether anything had a record refused.
func (q *quarantine) watching() bool { return q.watched.Load() > 0 }

// refused says that a record was refused alone, and returns the sources of which
// so many were, in a row, that they should be looked at.
func (q *quarantine) refused(w *Writer, table string) (suspicious []source) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range []source{{nil, table}, {w, table}} {
		t := q.tables[s]
		if t == nil {
			if len(q.tables) >= mostTables {
				continue
			}
			if q.tables == nil {
				q.tables = map[source]*tableTrouble{}
			}
			t = &tableTrouble{}
			q.tables[s] = t
			q.watched.Add(1)
		}
		if t.refused++; t.refused >= inARow && !t.closed {
			suspicious = append(suspicious, s)
		}
	}
	return suspicious
}

// close puts s into quarantine.
func (q *quarantine) close(s source, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.tables[s]; t != nil {
		t.closed, t.probe = true, now.Add(probeEvery)
		q.version.Add(1)
	}
}

// accepted says that a record was accepted.
func (q *quarantine) accepted(w *Writer, table string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range []source{{nil, table}, {w, table}} {
		if t := q.tables[s]; t != nil {
			if t.closed {
				q.version.Add(1)
			}
			delete(q.tables, s)
			q.watched.Add(-1)
		}
	}
}

// holds reports whether w's records of table are in quarantine, and whether one of
// them is to be tried all the same.
func (q *quarantine) holds(w *Writer, table string, now time.Time) (held, probe bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range []source{{nil, table}, {w, table}} {
		if t := q.tables[s]; t != nil && t.closed {
			held = true
			if now.After(t.probe) {
				t.probe = now.Add(probeEvery)
				probe = true
			}
		}
	}
	return held, probe
}

// closed reports whether w's records of table are in quarantine.
func (q *quarantine) closed(w *Writer, table string) bool {
	held, _ := q.holds(w, table, time.Time{}) // long before any probe
	return held
}

// consider looks at the sources of a record that was refused alone: if so many of
// them were in a row, it tries a few more of those that are pending, and puts the
// source into quarantine only if they are refused as well. What one writer alone sends
// tells nothing of what others do with the same table.
func (l *Lane) consider(ctx context.Context, addr string, refused suspect) {
	table, ok := ilp.Table(refused.record)
	if !ok {
		return
	}
	for _, s := range l.d.quarantine.refused(refused.w, table) {
		if s.w == nil && !l.d.refusals.general(table, time.Now()) {
			continue
		}
		samples := l.samples(s)
		for i, x := range samples {
			answer, err := l.try(ctx, addr, x.record)
			if err != nil {
				return
			}
			if answer == taken {
				l.d.quarantine.accepted(x.w, table)
				break
			}
			if i == len(samples)-1 {
				l.d.quarantine.close(s, time.Now())
			}
		}
	}
}

// samples returns copies of the first, some and the last pending record of s; of a table
// for everybody also the first of each writer.
func (l *Lane) samples(s source) (some []suspect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.j.skip()
	n, last := 0, suspect{}
	seen := map[*Writer]bool{}
	l.j.records(l.j.sent, l.j.end, func(start, end int64, w *Writer, record []byte) bool {
		if s.w != nil && s.w != w {
			return true
		}
		if table, ok := ilp.Table(record); !ok || table != s.table {
			return true
		}
		last = suspect{start: start, end: end}
		another := s.w == nil && !seen[w] && len(seen) < mostWriters
		if n++; another || n == 1 || n == 10 || n == 100 {
			some = append(some, l.suspect(start, end))
			seen[w] = true
		}
		return true
	})
	if len(some) > 0 && some[len(some)-1].start != last.start {
		some = append(some, l.suspect(last.start, last.end))
	}
	return some
}

// held reports whether a record of w is to be set aside because of its source. Now
// and then it has one tried, so that what is mended comes back.
func (d *Dispatcher) held(w *Writer, record []byte) bool {
	table, ok := ilp.Table(record)
	if !ok {
		return false
	}
	held, probe := d.quarantine.holds(w, table, time.Now())
	if probe {
		p := append([]byte(nil), record...)
		d.watchers.Go(func() { d.probe(w, table, p) })
	}
	return held
}

// probe tries one record of a source in quarantine.
func (d *Dispatcher) probe(w *Writer, table string, record []byte) {
	ctx, cancel := context.WithTimeout(d.ctx, trialLimit)
	defer cancel()
	conn, err := d.o.Source.Acquire(ctx)
	if err != nil {
		return
	}
	addr := conn.Addr()
	d.discard(conn)
	if a, err := d.try(ctx, addr, record, d.paths.check(ctx, addr)); err == nil && a == taken {
		d.quarantine.accepted(w, table)
		d.log.Info("QuestDB accepts records of this table again", "table", table)
	}
}

// sweep sets aside what is pending of tables that came into quarantine.
func (l *Lane) sweep() {
	version := l.d.quarantine.version.Load()
	if version == l.swept {
		return
	}
	l.swept = version
	n := l.reject(0, noLimit, func(w *Writer, record []byte) (reason, detail string) {
		if l.d.held(w, record) {
			return rejected.ReasonTableRefused, tableDetail
		}
		return "", ""
	})
	if n > 0 {
		l.d.log.Warn("QuestDB refuses one record after the other of a table while it accepts others; they are set aside without trying each",
			slog.Int("records", n), slog.Int("lane", l.id))
	}
}

const tableDetail = "QuestDB refused one record after the other of this table, and accepted others; see its log for why"
