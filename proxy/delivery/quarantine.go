package delivery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

const (
	// inARow is after how many refused records of one table, with none accepted
	// between them, its further ones are not tried any more.
	inARow = 3
	// probeEvery is how often one of them is tried all the same.
	probeEvery = 10 * time.Second
	// mostTables bounds how many tables are watched.
	mostTables = 1000
)

// quarantine knows the tables of which record after record is refused while
// others are accepted: somebody changed a column's type, say. Their records are
// set aside without a trial each.
type quarantine struct {
	// watched counts the tables that had a record refused lately; the fast path
	// asks only for that.
	watched atomic.Int32
	// version changes when a table comes or goes.
	version atomic.Uint64

	mu     sync.Mutex
	tables map[string]*tableTrouble
}

type tableTrouble struct {
	refused int
	probe   time.Time // when the next one is due
}

// watching reports whether any table had a record refused.
func (q *quarantine) watching() bool { return q.watched.Load() > 0 }

// refused says that record was refused alone. It reports whether its table is in
// quarantine from now on.
func (q *quarantine) refused(record []byte, now time.Time) (table string, closed bool) {
	table, ok := ilp.Table(record)
	if !ok {
		return "", false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tables[table]
	if t == nil {
		if len(q.tables) >= mostTables {
			return table, false
		}
		t = &tableTrouble{}
		if q.tables == nil {
			q.tables = map[string]*tableTrouble{}
		}
		q.tables[table] = t
		q.watched.Add(1)
	}
	if t.refused++; t.refused == inARow {
		t.probe = now.Add(probeEvery)
		q.version.Add(1)
	}
	return table, t.refused >= inARow
}

// accepted says that a record of table was accepted.
func (q *quarantine) accepted(table string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tables[table]
	if t == nil {
		return
	}
	if t.refused >= inARow {
		q.version.Add(1)
	}
	delete(q.tables, table)
	q.watched.Add(-1)
}

// holds reports whether record's table is in quarantine, and whether record is
// to be tried all the same.
func (q *quarantine) holds(record []byte, now time.Time) (held, probe bool) {
	table, ok := ilp.Table(record)
	if !ok {
		return false, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tables[table]
	if t == nil || t.refused < inARow {
		return false, false
	}
	if probe = now.After(t.probe); probe {
		t.probe = now.Add(probeEvery)
	}
	return true, probe
}

// held reports whether record is to be set aside because of its table. Now and
// then it has one tried, so that a table that is mended comes back.
func (d *Dispatcher) held(record []byte) bool {
	held, probe := d.quarantine.holds(record, time.Now())
	if probe {
		p := append([]byte(nil), record...)
		d.watchers.Go(func() { d.probe(p) })
	}
	return held
}

// probe tries one record of a table in quarantine.
func (d *Dispatcher) probe(record []byte) {
	ctx, cancel := context.WithTimeout(d.ctx, trialLimit)
	defer cancel()
	conn, err := d.o.Source.Acquire(ctx)
	if err != nil {
		return
	}
	addr := conn.Addr()
	conn.Discard()
	if a, err := d.try(ctx, addr, record, d.paths.check(ctx, addr)); err == nil && a == taken {
		table, _ := ilp.Table(record)
		d.log.Info("QuestDB accepts records of this table again", "table", table)
	}
}

// took says that the server took records (those of one trial, if not nil) over a
// connection on which the first was written at began.
func (d *Dispatcher) took(records []byte, began time.Time) {
	if records != nil && d.quarantine.watching() {
		if table, ok := ilp.Table(records); ok {
			d.quarantine.accepted(table)
		}
	}
	d.evidence.took(began)
}

// sweep sets aside what is pending of tables that came into quarantine.
func (l *Lane) sweep() {
	version := l.d.quarantine.version.Load()
	if version == l.swept {
		return
	}
	l.swept = version
	n := 0
	l.mu.Lock()
	l.j.skip()
	l.j.records(l.j.sent, l.j.end, func(from, to int64, w *Writer, record []byte) bool {
		if l.d.held(record) {
			l.setAside(from, to, w, record, ReasonTable, tableDetail)
			n++
		}
		return true
	})
	l.mu.Unlock()
	if n > 0 {
		l.d.log.Warn("QuestDB refuses everything for a table while it accepts others; its records are set aside without trying each",
			slog.Int("records", n), slog.Int("lane", l.id))
	}
}

const tableDetail = "QuestDB refused one record after the other of this table, and accepted others; see its log for why"
