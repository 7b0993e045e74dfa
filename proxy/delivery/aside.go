package delivery

import (
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

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

// canLook reports whether the lane can set aside more now: if it is not crowded, or where that
// will not change, since all that is before what was not looked at is settled.
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
