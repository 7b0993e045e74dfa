package delivery

import (
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
	// probeEvery is about how often one of them is tried all the same.
	probeEvery = 10 * time.Second
	// ownInARow is the same for a writer's part of a table that is in quarantine for all.
	ownInARow = 2
	// wideAfter is of how many writers, or hosts where they have gone, a record has to be
	// refused, with none accepted between them, for those to be held too of whom nothing is
	// known.
	wideAfter = 12
	// guessEvery is how often a record is tried of a writer of whom none was refused yet,
	// guessAgain how often the same writer's.
	guessEvery = time.Second
	guessAgain = time.Minute
	// mostTables bounds how many tables are watched.
	mostTables = 1000
	// forgetSource is after how long without a record that was refused or held a source
	// is forgotten; where there are too many of them, forgetTable is enough for those that
	// are not in quarantine.
	forgetSource = 5 * time.Minute
)

// quarantine knows the tables of which record after record is refused while
// others are accepted: for one writer, that has the type wrong; or for everybody, since
// somebody changed a column's type, say. Their records are set aside without a trial
// each, but only those of writers of whom some were refused already: what others have sent
// tells little of what this one sends. Who connects anew for each record would never be
// known, so a writer who is new, or has gone, counts as one of them, if a record of another
// writer from the same host was refused before; and so does everybody, once records of many were. But not
// who has had records accepted meanwhile.
type quarantine struct {
	// watched counts what had a record refused lately; the fast path asks only for
	// that.
	watched atomic.Int32
	// version changes when more is held than before.
	version atomic.Uint64

	mu     sync.Mutex
	tables map[source]*tableTrouble
	// opened has, for a while, when the first record was refused of tables of which one was
	// accepted then: other lanes learn later that theirs were.
	opened map[string]time.Time
	pruned time.Time // when those to be forgotten were looked for
	// notorious has of how many tables record after record of a host was refused; some is
	// whether there are any.
	notorious map[string]int
	some      atomic.Bool
}

// A source is the records of one table that come from one writer, from one host, or, if
// neither is set, from all.
type source struct {
	w     *Writer
	host  string
	table string
}

func (s source) all() bool { return s.w == nil && s.host == "" }

// sources are those that a record of w for table belongs to.
func sources(w *Writer, table string) [3]source {
	return [...]source{{table: table}, {w: w, table: table}, {host: w.host(), table: table}}
}

type tableTrouble struct {
	refused int       // in a row
	since   time.Time // of the first of them
	last    time.Time // when one was refused or held
	others  int       // of all: of how many writers that are still there, or hosts
	counted bool      // is one of those
	closed  bool      // in quarantine
	probe   probe
	guess   time.Time // when one of a writer is of whom nothing is known
}

// watching reports whether anything had a record refused.
func (q *quarantine) watching() bool { return q.watched.Load() > 0 }

// A suspicion is a source of which so many records were refused in a row that it should
// be looked at, and since when.
type suspicion struct {
	source
	since time.Time
}

// refused says that a record was refused alone, and returns which of its sources are
// suspicious now.
func (q *quarantine) refused(w *Writer, table string, now time.Time) (some []suspicion) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.prune(now)
	of := sources(w, table)
	for _, s := range of {
		t := q.tables[s]
		if t == nil {
			if len(q.tables) >= mostTables {
				continue
			}
			if q.tables == nil {
				q.tables = map[source]*tableTrouble{}
			}
			t = &tableTrouble{since: now}
			q.tables[s] = t
			q.watched.Add(1)
		}
		t.last = now
		t.refused++
		switch {
		case s.host != "":
			q.note(s, t)
		case t.refused >= inARow && !t.closed:
			some = append(some, suspicion{s, t.since})
		}
	}
	all, own, host := q.tables[of[0]], q.tables[of[1]], q.tables[of[2]]
	if all == nil {
		return some
	}
	before := all.others
	switch { // once for a host that is new, and for each further writer who is still there
	case host != nil && host.refused == 1:
		host.counted = true
		all.others++
	case own != nil && own.refused == 1 && !w.closed.Load():
		own.counted = true
		all.others++
	}
	if all.closed && (before < wideAfter && all.others >= wideAfter || own != nil && own.refused == ownInARow) {
		q.version.Add(1)
	}
	return some
}

// note counts the table for which a record of a host was refused. The caller holds mu.
func (q *quarantine) note(s source, t *tableTrouble) {
	if t.refused == inARow {
		if q.notorious == nil {
			q.notorious = map[string]int{}
		}
		q.notorious[s.host]++
		q.some.Store(true)
	}
}

// suspects reports whether record after record of w's host was refused: then a new
// connection most likely brings another one.
func (q *quarantine) suspects(w *Writer) bool {
	if !q.some.Load() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.notorious[w.host()] > 0
}

// prune forgets what there was no record of for long: writers come and go. The caller
// holds mu.
func (q *quarantine) prune(now time.Time) {
	if now.Sub(q.pruned) < probeEvery {
		return
	}
	q.pruned = now
	for table, since := range q.opened {
		if now.Sub(since) > forgetSource || len(q.opened) > mostTables {
			delete(q.opened, table)
		}
	}
	full := len(q.tables) >= mostTables
	for s, t := range q.tables {
		unused := now.Sub(t.last)
		if unused > forgetSource || full && !t.closed && unused > forgetTable {
			q.drop(s, t)
		}
	}
}

func (q *quarantine) drop(s source, t *tableTrouble) {
	if all := q.tables[source{table: s.table}]; all != nil && t.counted {
		all.others = max(all.others-1, 0) // it may be of one that was opened since
	}
	if s.host != "" && t.refused >= inARow {
		if q.notorious[s.host]--; q.notorious[s.host] == 0 {
			delete(q.notorious, s.host)
			q.some.Store(len(q.notorious) > 0)
		}
	}
	delete(q.tables, s)
	q.watched.Add(-1)
}

// close puts s into quarantine, unless a record of it was accepted meanwhile.
func (q *quarantine) close(s suspicion, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.tables[s.source]; t != nil && t.since.Equal(s.since) {
		t.closed, t.last, t.probe = true, now, probe{began: now}
		q.version.Add(1)
	}
}

// accepted says that records of these writers were accepted that were sent at sent or
// later.
func (q *quarantine) accepted(table string, sent, now time.Time, writers ...*Writer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.prune(now)
	since, ok := q.opened[table]
	if all := q.tables[source{table: table}]; all != nil {
		since, ok = all.since, true
		if q.opened == nil {
			q.opened = map[string]time.Time{}
		}
		q.opened[table] = since
	}
	for _, w := range writers {
		if ok && sent.After(since) {
			w.taken.Store(true)
		}
		for _, s := range sources(w, table) {
			if t := q.tables[s]; t != nil {
				q.drop(s, t)
			}
		}
	}
}

// why returns for which of its sources w's records of table are in quarantine, nil if
// they are not, and whether that is for what others sent. The caller holds mu.
func (q *quarantine) why(w *Writer, table string) (t *tableTrouble, guess bool) {
	if len(q.tables) == 0 {
		return nil, false
	}
	own := q.tables[source{w: w, table: table}]
	if own != nil && own.closed {
		return own, false
	}
	all := q.tables[source{table: table}]
	if all == nil || !all.closed {
		return nil, false
	}
	if own != nil && own.refused >= ownInARow {
		return all, false
	}
	if w.taken.Load() {
		return nil, false
	}
	if host := q.tables[source{host: w.host(), table: table}]; all.others >= wideAfter || host != nil && (w.born.After(host.since) || w.closed.Load()) {
		return all, true
	}
	return nil, false
}

// holds reports whether w's records of table are in quarantine, and whether one of
// them is to be tried all the same.
func (q *quarantine) holds(w *Writer, table string, now time.Time) (held, try bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.prune(now)
	t, guess := q.why(w, table)
	if t == nil {
		return false, false
	}
	for _, s := range sources(w, table) {
		if t := q.tables[s]; t != nil {
			t.last = now
		}
	}
	switch {
	case t.probe.due(now):
		try = true
	case guess && now.After(t.guess) && now.Sub(w.guessed) > guessAgain:
		t.guess, w.guessed = now.Add(guessEvery), now
		try = true
	}
	return true, try
}

// untold says that a record of w was to be tried, and it could not be told whether it is
// refused.
func (q *quarantine) untold(w *Writer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.guessed = time.Time{}
}

// closed reports whether w's records of table are in quarantine.
func (q *quarantine) closed(w *Writer, table string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t, _ := q.why(w, table)
	return t != nil
}

// closedForAll reports whether table is in quarantine for everybody.
func (q *quarantine) closedForAll(table string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tables[source{table: table}]
	return t != nil && t.closed
}

// held reports whether a record of w is to be set aside because of its source. Now
// and then it has one tried, so that what is mended comes back.
func (d *Dispatcher) held(w *Writer, record []byte) bool {
	table, ok := tableOf(record)
	if !ok {
		return false
	}
	held, try := d.quarantine.holds(w, table, time.Now())
	if try {
		p := append([]byte(nil), record...)
		d.watchers.Go(func() { d.probe(w, table, p) })
	}
	return held
}

// sweep sets aside what is pending of tables that came into quarantine, and goes on with what
// the lane had no room for before.
func (l *Lane) sweep() {
	from, version := l.looked, l.d.quarantine.version.Load()
	switch {
	case version != l.swept:
		from = 0
	case from == noLimit || !l.canLook():
		return
	}
	l.swept = version
	n := 0
	_, l.looked = l.reject(from, noLimit, func(w *Writer, record []byte) (reason, detail string) {
		if reason, detail = l.d.check(w, record); reason == rejected.ReasonTableRefused {
			n++
		}
		return reason, detail
	})
	if n > 0 {
		l.d.log.Warn("QuestDB refuses one record after the other of a table while it accepts others; they are set aside without trying each",
			slog.Int("records", n), slog.Int("lane", l.id))
	}
}

// heldDetail says why record is set aside without a trial.
func heldDetail(record []byte) string {
	of := "of this table"
	if table, _ := ilp.Table(record); !legalTable(table) {
		of = "for tables whose names it does not allow, as this one's"
	}
	return "QuestDB refused one record after the other " + of + ", and accepted others, so this one was not tried; see its log for why"
}
