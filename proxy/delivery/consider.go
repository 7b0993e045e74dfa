package delivery

import (
	"context"
	"time"
)

// consider looks at the sources of a record that was refused alone: if so many of
// them were in a row, and more of those that are pending are refused as well, the source
// comes into quarantine. control is a record that was accepted, or nil: see compare.
func (l *Lane) consider(ctx context.Context, addr string, refused suspect, control []byte) {
	table, ok := tableOf(refused.record)
	if !ok {
		return
	}
	for _, s := range l.d.quarantine.refused(refused.w, table, time.Now()) {
		if s.all() && !l.d.refusals.general(table, time.Now()) {
			continue
		}
		if l.refusesAllOf(ctx, addr, refused, s.source, control) {
			l.d.quarantine.close(s, time.Now())
		}
	}
}

// refusesAllOf reports whether all samples of s are refused and control, or another
// lane's record, is accepted after them, as often as it has to be: a server in trouble
// refuses samples too.
func (l *Lane) refusesAllOf(ctx context.Context, addr string, culprit suspect, s source, control []byte) bool {
	samples := l.samples(s)
	if len(samples) == 0 {
		return false
	}
	for range l.roundsFor(culprit) {
		for _, x := range samples {
			began := time.Now()
			answer, err := l.insist(ctx, addr, x.record)
			if err != nil {
				return false
			}
			if answer == taken {
				l.d.quarantine.accepted(s.table, began, time.Now(), x.w)
				return false
			}
		}
		if ok, _ := l.compare(ctx, addr, control, time.Now()); !ok {
			return false
		}
	}
	return true
}

// samples returns copies of the first, some and the last pending record of s. Should one
// be accepted, it has overtaken those before it, and comes once more in its place.
func (l *Lane) samples(s source) (some []suspect) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.j.skip()
	n, last := 0, suspect{}
	l.j.records(l.j.sent, min(l.j.end, l.j.sent+walkAtOnce), func(start, end int64, w *Writer, record []byte) bool {
		if s.w != nil && s.w != w {
			return true
		}
		if table, ok := tableOf(record); !ok || table != s.table {
			return true
		}
		last = suspect{start: start, end: end}
		if n++; n == 1 || n == 10 || n == 100 {
			some = append(some, l.suspect(start, end))
		}
		return true
	})
	if len(some) > 0 && some[len(some)-1].start != last.start {
		some = append(some, l.suspect(last.start, last.end))
	}
	return some
}
