package delivery

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

// saveEvery is how often rejects are offered again to a sink that did not take
// them.
const saveEvery = time.Second

// putAtOnce is how many records are handed to the sink at once: for so many the disk is waited
// for once. Of what is left at the end it is as much as keepBytes, or keepRecords of them.
const (
	putAtOnce   = RejectAtOnce
	keepBytes   = 1 << 20
	keepRecords = 1 << 14
)

// demoteAfter is how many refused records move a writer to a lane of its own.
const demoteAfter = 3

// Rejects keeps rejected records. Put returns nil when they are safe, and is
// called again if not. Lost tells of records that it never took, and that are
// forgotten now since the proxy has to end. The records are the caller's.
type Rejects interface {
	Put(records ...rejected.Record) error
	Lost(records ...rejected.Record)
}

// logRejects is the Rejects of a Dispatcher that was given none.
type logRejects struct{ d *Dispatcher }

func (r logRejects) Put(records ...rejected.Record) error {
	r.Lost(records...)
	return nil
}

func (r logRejects) Lost(records ...rejected.Record) {
	for _, x := range records {
		r.d.limiter.Log(context.Background(), slog.LevelWarn, x.Reason, "rejected a record",
			slog.String("remote", x.Remote), slog.String("reason", x.Reason), slog.String("detail", x.Detail), slog.Int("bytes", len(x.Bytes)))
	}
}

// RejectAtOnce is how many records are handed to Reject at once at most, where there
// are very many: for so many the disk is waited for once.
const RejectAtOnce = 2000

// Reject keeps records of this writer that must not go upstream, trying until they
// are safe or ctx ends; then they are tried once more by Drain. It reports whether they
// are safe. Time and Remote are filled in.
func (w *Writer) Reject(ctx context.Context, records ...rejected.Record) bool {
	d := w.lane.d
	now := time.Now()
	for i := range records {
		records[i].Time, records[i].Remote = now, w.remote
	}
	d.countRejected(records)
	n := int64(len(records))
	for {
		err := d.o.Rejects.Put(records...)
		if err == nil {
			w.rejected(d)
			return true
		}
		d.unsaved.Add(n)
		d.limiter.Log(ctx, slog.LevelError, "rejects",
			"cannot save a rejected record; its writer has to wait until it works (ILP_REJECTED_FILE)", slog.Any("error", err))
		t := time.NewTimer(saveEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		if ctx.Err() != nil {
			d.atLast(records)
			return false
		}
		d.unsaved.Add(-n)
	}
}

// atLast keeps copies of records that a session could not save, for the end.
func (d *Dispatcher) atLast(records []rejected.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		r.Bytes = slices.Clone(r.Bytes)
		d.late = append(d.late, r)
	}
}

// saveLate saves what sessions could not save, and returns how many are lost.
func (d *Dispatcher) saveLate() (lost int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.late) > 0 && d.o.Rejects.Put(d.late...) != nil {
		lost = int64(len(d.late))
		d.o.Rejects.Lost(d.late...)
	}
	d.unsaved.Add(-int64(len(d.late)))
	d.late = nil
	return lost
}

// countRejected counts records by their reasons.
func (d *Dispatcher) countRejected(records []rejected.Record) {
	for i := 0; i < len(records); {
		n := 1
		for i+n < len(records) && records[i+n].Reason == records[i].Reason {
			n++
		}
		d.m.rejected.WithLabelValues(records[i].Reason).Add(float64(n))
		i += n
	}
}

// rejected notes that a record of w was rejected.
func (w *Writer) rejected(d *Dispatcher) {
	if d.o.Disconnect && w.disconnect != nil {
		w.disconnect()
	}
}

// countRefused counts a record that QuestDB refused; too many move the writer to
// a lane apart.
func (w *Writer) countRefused() {
	if w.refused.Add(1) >= demoteAfter && !w.demoted.Swap(true) && w.wake != nil {
		w.wake()
	}
}

// Unsaved returns how many rejected records wait to be saved.
func (d *Dispatcher) Unsaved() (n int64) {
	for _, l := range d.lanes {
		n += l.unsaved.Load()
	}
	return n + d.unsaved.Load()
}

// keepUndelivered saves everything that is left, in order. It returns how many
// records there were, and how many of them were not saved.
func (d *Dispatcher) keepUndelivered() (left, lost int64) {
	lost = d.saveLate()
	left = lost
	for _, l := range d.lanes {
		l.mu.Lock()
		n, missed := l.keepUndelivered()
		l.mu.Unlock()
		left, lost = left+n, lost+missed
	}
	d.m.rejected.WithLabelValues(rejected.ReasonUndelivered).Add(float64(left - lost))
	return left, lost
}

// keepUndelivered is the same for one lane. The caller holds mu.
func (l *Lane) keepUndelivered() (left, lost int64) {
	for _, r := range l.rejects { // set aside, and never saved
		left++
		if l.d.o.Rejects.Put(r.record) != nil {
			lost++
			l.d.o.Rejects.Lost(r.record)
		}
	}
	if l.d.o.AtMostOnce {
		// What is written is gone, and what is pending is not.
		from := l.j.boundaryAfter(l.j.sent)
		unsettled := l.j.unsettled
		pending, unsaved := l.keep(from)
		return left + unsettled, lost + unsettled - pending + unsaved
	}
	n, unsaved := l.keep(l.j.settled)
	return left + n, lost + unsaved
}

// keep saves the records from offset from on as undelivered.
func (l *Lane) keep(from int64) (n, unsaved int64) {
	var some []rejected.Record
	size := 0
	put := func() {
		switch {
		case len(some) == 0:
		case l.d.o.LogOnly:
			unsaved += int64(len(some))
		case l.d.o.Rejects.Put(some...) != nil:
			unsaved += int64(len(some))
			l.d.o.Rejects.Lost(some...)
		}
		some, size = some[:0], 0
	}
	l.j.records(from, l.j.end, func(_, _ int64, w *Writer, record []byte) bool {
		n++
		some = append(some, rejected.Record{Time: time.Now(), Remote: w.remote, Reason: rejected.ReasonUndelivered, Bytes: record,
			Detail: "the proxy had to end before QuestDB was known to have it"})
		if size += len(record); size >= keepBytes || len(some) == keepRecords {
			put()
		}
		return true
	})
	put()
	return n, unsaved
}

// Check says whether record may go upstream; if not, for which reason it is to be
// rejected.
func (w *Writer) Check(record []byte) (reason, detail string) { return w.lane.d.check(w, record) }

func (d *Dispatcher) check(w *Writer, record []byte) (reason, detail string) {
	if w.strict.Load() {
		if err := ilp.Validate(record); err != nil {
			return rejected.ReasonMalformed, err.Error()
		}
	}
	if d.quarantine.watching() && d.held(w, record) {
		return rejected.ReasonTableRefused, heldDetail(record)
	}
	return "", ""
}

// CountTooLong counts a record of this writer that was longer than is allowed.
// Its bytes were not kept.
func (w *Writer) CountTooLong() {
	w.lane.d.m.rejected.WithLabelValues(rejected.ReasonTooLong).Inc()
	if w.lane.d.o.TooLong != nil {
		w.lane.d.o.TooLong(w.remote)
	}
	w.rejected(w.lane.d)
}
