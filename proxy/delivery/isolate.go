package delivery

import (
	"context"
	"log/slog"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

const (
	// hurry is how many connections are kept ready while a record is looked for:
	// each trial takes one.
	hurry    = 6
	hurryFor = 5 * time.Second
	// proofs is how often a record has to be refused alone, with another one
	// accepted after each time, for it to be set aside.
	proofs = 4
	// weakProofs is the same where the evidence is weak. Connections that end before
	// all was written are: a network which breaks now and then does as well.
	weakProofs = 12
	// refusals is how often it has to be refused where there is nothing to compare
	// it with but records that come after it.
	refusals = 3
	// rounds is how often it and another record are then tried in turn.
	rounds = 2
	// longestRun is how many refused records of one writer in a row are looked at.
	longestRun = 16
	// trialLimit is how long the server may take to answer a trial.
	trialLimit = 30 * time.Second
)

// A suspect is a record that seems to be refused, or one to compare it with.
type suspect struct {
	start, end int64
	w          *Writer
	record     []byte // a copy
}

// isolate decides about the record from start to end, which seems to be the one
// that the server refuses. It is set aside only on evidence: alone it is refused,
// after that another record is accepted, and all that more than once. A server in
// trouble (its disk full, its file handles used up) refuses every record; then
// nothing is set aside, and isolate returns to have it tried again later.
//
// What it is compared with must not overtake anything: a record of another lane;
// the one before it, which was accepted already; and, when it was refused more
// often, those records behind it that are their writer's next.
func (l *Lane) isolate(ctx context.Context, addr string, start, end int64) {
	l.mu.Lock()
	culprit := l.suspect(start, end)
	before, next, run := l.comparisons(culprit)
	l.mu.Unlock()
	p := l.trouble.against(addr, start)
	table, hasTable := tableOf(culprit.record)
	if hasTable && p.needed == proofs && l.d.quarantine.closedForAll(table) {
		p.needed = rounds // it is like the others of this table
	}
	if l.inTrouble(culprit) {
		p.needed = weakProofs
	}
	if p.times > 0 && l.d.evidence.since(addr, p.refused) {
		p.hold() // since the last attempt
	}
	for attempt := 1; p.held < p.needed; attempt++ {
		// Twice every other time: connections that take turns at the server's workers,
		// one of which is in trouble, must not tell against a record each time.
		for range 1 + p.times%2 {
			switch answer, err := l.try(ctx, addr, culprit.record); {
			case err != nil:
				l.trouble.outage() // the server went away, or does not answer
				return
			case answer == taken:
				l.d.paths.doubt(addr)
				l.decided()
				l.trouble.contradicted(start, l.d.o)
				return
			case answer == broken:
				p.needed = weakProofs
			}
		}
		p.refuse()
		if hasTable {
			l.d.refusals.refused(culprit.w, table, p.refused)
		}
		switch ok, tried := l.compare(ctx, addr, before, p.refused); {
		case ok:
			p.hold()
			if l.inTrouble(culprit) { // what was just accepted may show that
				p.needed = weakProofs
			}
		case tried:
			p.held = 0
			l.refusesAll(ctx, addr, culprit)
			return
		case attempt >= refusals && p.times >= p.needed-1:
			l.judgeRun(ctx, addr, culprit, next, run)
			return
		}
	}
	if l.holds(ctx, addr, culprit) {
		return
	}
	if busy, _ := l.d.others(l); before == nil && !busy && len(next) > 0 {
		before = next[0].record // there is no other lane to compare with
	}
	l.condemn(ctx, addr, before, culprit)
	l.pursue(ctx, addr, culprit, before)
}

// inTrouble reports whether it may be the server that has trouble with x.
func (l *Lane) inTrouble(x suspect) bool {
	table, ok := tableOf(x.record)
	return ok && l.d.refusals.trouble(table, time.Now())
}

// roundsFor is how often x and another record have to be tried in turn.
func (l *Lane) roundsFor(x suspect) int {
	if l.inTrouble(x) {
		return weakProofs
	}
	return rounds
}

// pursue tries what else is pending of a writer whose records were refused again and
// again, so that its neighbours do not wait for a search for each. All of a batch is
// refused, alone, then control, or a record of another lane, is accepted, twice over:
// then they are set aside. It ends at the first record that is accepted, and where they
// are in quarantine: then the rest is set aside without.
func (l *Lane) pursue(ctx context.Context, addr string, culprit suspect, control []byte) {
	table, _ := tableOf(culprit.record)
	for culprit.w.refused.Load() >= demoteAfter && !l.d.quarantine.closed(culprit.w, table) {
		if l.handOver(culprit.w) {
			return
		}
		l.mu.Lock()
		_, _, batch := l.comparisons(culprit)
		l.mu.Unlock()
		all := len(batch)
		for range l.roundsFor(culprit) {
			for i, s := range batch {
				answer, err := l.insist(ctx, addr, s.record)
				if err != nil {
					return
				}
				if answer == taken {
					batch = batch[:i]
					break
				}
			}
			if len(batch) == 0 {
				return
			}
			if ok, _ := l.compare(ctx, addr, control, time.Now()); !ok {
				return
			}
		}
		if l.holds(ctx, addr, batch...) {
			return
		}
		l.condemn(ctx, addr, control, batch...)
		if len(batch) < all {
			return
		}
		culprit = batch[len(batch)-1]
	}
}

// holds reports whether the evidence against records does not suffice, since it may
// be the server that has trouble with their tables; then they are tried again after a
// pause.
func (l *Lane) holds(ctx context.Context, addr string, records ...suspect) bool {
	alone := l.d.alone(l)
	for _, s := range records {
		table, ok := tableOf(s.record)
		if !ok {
			continue
		}
		if !alone && s.w.refused.Load() >= demoteAfter {
			continue // others must not wait for what this writer has earned
		}
		now := time.Now()
		standing := l.d.refusals.standing(table, alone, now)
		if standing == takes || !l.patience.keep(now) {
			continue
		}
		if standing == troubled {
			l.d.limiter.Log(ctx, slog.LevelWarn, "refuses tables",
				"QuestDB refuses every record of some tables while it accepts others; keeping them and trying again (are its file handles used up? see its log)",
				slog.Int("lane", l.id), slog.String("server", addr), slog.String("table", table))
		}
		l.trouble.outage()
		return true
	}
	return false
}

// decided says that it is known of a record whether it is refused.
func (l *Lane) decided() {
	l.trouble.clear()
	l.patience.keeping = false
}

// judgeRun decides where only records behind culprit can be compared with it. If
// one of them is accepted, everything before it was refused while the server took
// another; unless the server's trouble ended in between. So all is tried again.
// Should one of the refused be accepted then, the other one has overtaken it, and
// comes once more in its place.
func (l *Lane) judgeRun(ctx context.Context, addr string, culprit suspect, next, run []suspect) {
	n, accepted := l.lookBehind(ctx, addr, next, run)
	if accepted == nil {
		l.refusesAll(ctx, addr, culprit)
		return
	}
	suspects := append([]suspect{culprit}, run[:n]...)
	for range l.roundsFor(culprit) {
		for _, s := range suspects {
			if answer, err := l.insist(ctx, addr, s.record); err != nil {
				l.trouble.outage()
				return
			} else if answer == taken {
				l.decided()
				return
			}
		}
		if answer, err := l.try(ctx, addr, accepted); err != nil || answer != taken {
			l.refusesAll(ctx, addr, culprit)
			return
		}
	}
	if !l.holds(ctx, addr, suspects...) {
		l.condemn(ctx, addr, accepted, suspects...)
	}
}

// insist tries p until the server has answered, or the connection has broken so often
// that this is the answer: once may be the network's doing.
func (l *Lane) insist(ctx context.Context, addr string, p []byte) (answer, error) {
	for range weakProofs {
		if answer, err := l.try(ctx, addr, p); err != nil || answer != broken {
			return answer, err
		}
	}
	return refused, nil
}

// compare reports whether a record is accepted after another one was refused at t:
// before, which was accepted earlier, or one of another lane. tried is set if there
// was anything to tell by.
func (l *Lane) compare(ctx context.Context, addr string, before []byte, t time.Time) (ok, tried bool) {
	if before != nil {
		answer, err := l.try(ctx, addr, before)
		return answer == taken && err == nil, true
	}
	ok = l.d.await(ctx, l, addr, t)
	return ok, ok
}

// lookBehind tries the next record of each other writer, and those of the same
// writer in a row, until one is accepted. It returns that one, and how many of run
// were refused before it, often enough; nil if nothing is accepted.
func (l *Lane) lookBehind(ctx context.Context, addr string, next, run []suspect) (n int, accepted []byte) {
	for _, s := range next {
		if answer, err := l.try(ctx, addr, s.record); err != nil {
			return 0, nil
		} else if answer == taken {
			return 0, s.record
		}
	}
	for i, s := range run {
		for range refusals {
			if answer, err := l.try(ctx, addr, s.record); err != nil {
				return 0, nil
			} else if answer == taken {
				return i, s.record
			}
		}
	}
	return 0, nil
}

// condemn sets records aside, on evidence. control is a record that was accepted, or
// nil.
func (l *Lane) condemn(ctx context.Context, addr string, control []byte, records ...suspect) {
	var some []reject
	for _, s := range records {
		some = append(some, reject{s.start, s.end, s.w, rejected.Record{Time: time.Now(), Remote: s.w.remote, Reason: rejected.ReasonRefused,
			Detail: "QuestDB refuses this record alone, and accepts others; see its log for why", Bytes: s.record}})
	}
	l.putAside(some)
	for _, s := range records {
		l.consider(ctx, addr, s, control)
		s.w.countRefused()
	}
	l.decided()
}

// refusesAll says that no record is accepted, and has everything tried again
// after a pause.
func (l *Lane) refusesAll(ctx context.Context, addr string, culprit suspect) {
	now := time.Now()
	if table, ok := tableOf(culprit.record); ok {
		l.d.refusals.nothingTaken(table, now)
	}
	table, _ := ilp.Table(culprit.record) // its name, whatever it counts as
	l.d.refusing.Store(now.UnixNano())
	l.d.limiter.Log(ctx, slog.LevelWarn, "refuses everything",
		"QuestDB refuses every record that is tried; keeping them all and trying again (is its disk full, or are its file handles used up? see its log. "+
			"Or is it this table's records, with no others to compare them with? It shows as soon as others are accepted)",
		slog.Int("lane", l.id), slog.String("server", addr), slog.String("table", table))
	l.trouble.outage()
}

// suspect copies the record from start to end. The caller holds mu.
func (l *Lane) suspect(start, end int64) suspect {
	p, _ := l.j.bytes(start, end)
	return suspect{start, end, l.j.owner(start), append([]byte(nil), p...)}
}

// comparisons returns copies of other records of this lane: the one before c, if
// it is still there; the next of each of some other writers, of as many tables as
// possible first, since one may refuse whatever comes; and the next ones of the same
// writer. The caller holds mu.
func (l *Lane) comparisons(c suspect) (before []byte, next, run []suspect) {
	// Not one that is settled: that must not come again.
	if from := max(l.j.settled, l.j.boundaryBefore(c.start-maxBlockSize)); from < c.start {
		l.j.records(from, c.start, func(start, end int64, _ *Writer, record []byte) bool {
			before = record
			return true
		})
		before = append([]byte(nil), before...)
	}
	table, _ := tableOf(c.record)
	seen, tables := map[*Writer]bool{c.w: true}, map[string]bool{table: true}
	var more []suspect
	l.j.records(c.end, min(l.j.end, c.end+1<<20), func(start, end int64, w *Writer, record []byte) bool {
		switch {
		case w == c.w && len(run) < longestRun:
			run = append(run, l.suspect(start, end))
		case !seen[w]:
			seen[w] = true
			if table, _ := tableOf(record); !tables[table] {
				tables[table] = true
				next = append(next, l.suspect(start, end))
			} else if len(more) < longestRun {
				more = append(more, l.suspect(start, end))
			}
		}
		return len(run) < longestRun || len(next) < longestRun
	})
	next = append(next, more...)
	return before, next[:min(len(next), longestRun)], run
}

// try sends p alone; see Dispatcher.try.
func (l *Lane) try(ctx context.Context, addr string, p []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	began := time.Now()
	answer, err := l.d.try(ctx, addr, p, l.d.paths.check(ctx, addr))
	if table, ok := tableOf(p); ok && answer == taken && err == nil {
		l.d.refusals.accepted(table, began)
	}
	return answer, err
}
