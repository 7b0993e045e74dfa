package delivery

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

// A journal is what one lane has accepted and not yet settled: a queue of
// blocks of whole records, and the offsets in the lane's stream that cut it up:
//
//	settled                      sent              end
//	   | settling | in flight      |    pending     |
//	   |  segments, in order       |
//
// A record's life:
//
//	pending ──▶ in flight ──▶ settling ──▶ settled (forgotten)
//	   ▲            │             │
//	   └────────────┴─────────────┘  replayed: its segment failed
//	pending ──▶ set aside (skipped; forgotten when it is saved and all before it is settled)
//
// Records are in flight and settling as segments: what one connection carries.
// A segment is open (bytes are added to it), closing (padded and half-closed, the
// server's FIN awaited) or settling (the FIN came; is the server still alive?).
// Only the last one may be open or closing. A segment that fails takes all that
// follow it along, since nothing may overtake.
//
// Offsets never change for a record. A journal does no I/O and takes no lock; its
// lane does. Calls that no life allows panic: they are mistakes in the lane.
type journal struct {
	store
	settled, sent int64
	// sentRecords counts the records before counted, those set aside included.
	// Within a chunk that is not written to its end, that lags behind sent.
	sentRecords, counted int64
	// chunkEnd and chunkRecords are where what pending returned last ends, and how
	// many records there are before that.
	chunkEnd, chunkRecords int64
	// chunk is what of that has not been written.
	chunk []byte
	// unsettled counts the records accepted and neither settled nor set aside.
	unsettled int64
	segments  []*segment
	// holes are the records set aside that have not been passed by settled.
	holes []hole
	// forget is set for at-most-once delivery: what is written is not kept.
	forget bool
}

type phase uint8

const (
	open phase = iota
	closing
	settling
	phases
)

func (p phase) String() string { return [...]string{"open", "closing", "settling"}[p] }

// A segment is what one connection carries of the journal.
type segment struct {
	start, end int64 // end follows sent while it is open
	phase      phase
	proven     bool
	// before counts the records of the journal before start.
	before int64
	// began is when the connection was taken, before anything was written to it.
	began time.Time
	// records and bytes are how many were written, without those skipped.
	records, bytes int64
	// blank is how many of the last bytes written look like blank lines.
	blank int64
}

// blanks returns how many bytes of blank lines were written behind the last record, at
// most: the last bytes of a binary value may look like some.
func (s *segment) blanks() int {
	if s.blank == s.bytes {
		return int(s.blank)
	}
	return int(max(s.blank-1, 0)) // the first of them ends the record
}

// A hole is a record that was set aside, or several in a row that are saved.
type hole struct {
	start, end int64
	records    int64
	saved      bool // it is in the rejected-records file
}

// accept says that the last block holds n bytes more: whole records of w.
func (j *journal) accept(w *Writer, n, records int, now time.Time) {
	j.grow(w, n, records, now)
	j.unsettled += int64(records)
}

// begin opens a segment for a new connection.
func (j *journal) begin() *segment {
	if s := j.last(); s != nil && s.phase != settling {
		panic(fmt.Sprintf("delivery: a segment begins while another is %v", s.phase))
	}
	j.skip()
	s := &segment{start: j.sent, end: j.sent, before: j.sentRecords, began: time.Now()}
	j.segments = append(j.segments, s)
	return s
}

// current returns the open segment; nil if there is none.
func (j *journal) current() *segment {
	if s := j.last(); s != nil && s.phase == open {
		return s
	}
	return nil
}

func (j *journal) last() *segment {
	if n := len(j.segments); n > 0 {
		return j.segments[n-1]
	}
	return nil
}

// pending returns the next bytes to write, those of one block at most and none
// behind limit; nil if there are none.
func (j *journal) pending(limit int64) []byte {
	j.skip()
	limit = min(limit, j.end)
	if i := j.holeFrom(j.sent); i < len(j.holes) {
		limit = min(limit, j.holes[i].start)
	}
	if j.sent >= limit {
		return nil
	}
	p, count := j.bytes(j.sent, limit)
	j.chunk, j.chunkEnd = p, j.sent+int64(len(p))
	if count < 0 {
		count = j.sentRecords + j.count(j.counted, j.chunkEnd)
	}
	j.chunkRecords = count
	return p
}

// count counts the records from one boundary to another, without those set aside.
func (j *journal) count(from, to int64) (n int64) {
	j.records(from, to, func(int64, int64, *Writer, []byte) bool {
		n++
		return true
	})
	return n
}

// idle reports whether nothing is pending.
func (j *journal) idle() bool {
	j.skip()
	return j.sent == j.end
}

// skip moves sent over records that are set aside.
func (j *journal) skip() {
	for i := j.holeFrom(j.sent); i < len(j.holes) && j.holes[i].start == j.sent; i++ {
		j.sent, j.counted = j.holes[i].end, j.holes[i].end
		j.sentRecords += j.holes[i].records
	}
}

// holeFrom returns the index of the first hole that begins at offset or behind.
func (j *journal) holeFrom(offset int64) int {
	if len(j.holes) == 0 {
		return 0 // nearly always, and with each row
	}
	return sort.Search(len(j.holes), func(i int) bool { return j.holes[i].start >= offset })
}

// wrote says that n bytes of pending were written, and returns how many records
// that completed.
func (j *journal) wrote(n int) int64 {
	s := j.current()
	if s == nil {
		panic("delivery: bytes written without an open segment")
	}
	var records int64
	if j.sent += int64(n); j.sent == j.chunkEnd {
		records = j.chunkRecords - j.sentRecords
		j.sentRecords, j.counted = j.chunkRecords, j.sent
	}
	s.end = j.sent
	s.records += records
	s.bytes += int64(n)
	p := j.chunk[:n]
	j.chunk = j.chunk[n:]
	if blank := blankEnd(p); blank < n {
		s.blank = int64(blank)
	} else {
		s.blank += int64(blank)
	}
	if j.forget {
		j.release(j.sent) // of a block that is written in part, nothing
	}
	return records
}

// close says that the connection was padded and half-closed. All that was
// written must be whole records. It returns how many of them were not counted yet:
// those of a write that was cut just between two.
func (j *journal) close(s *segment) (records int64) {
	if s != j.last() || s.phase != open {
		panic("delivery: only the open segment can be closed")
	}
	records = j.count(j.counted, j.sent)
	s.records += records
	j.sentRecords += records
	j.counted = j.sent
	s.phase = closing
	return records
}

// finish says that the connection ended as it should: what it carried is
// settling.
func (j *journal) finish(s *segment) {
	if s != j.last() || s.phase != closing {
		panic("delivery: only a closing segment can settle")
	}
	s.phase = settling
}

// prove says that the server lived on for long enough after s. It returns how
// many records are settled by that; those of s wait for older segments.
func (j *journal) prove(s *segment) (records int64) {
	if s.phase != settling {
		panic(fmt.Sprintf("delivery: a segment is proven while it is %v", s.phase))
	}
	s.proven = true
	for len(j.segments) > 0 && j.segments[0].proven {
		first := j.segments[0]
		j.segments = slices.Delete(j.segments, 0, 1)
		j.settled = first.end
		records += first.records
	}
	j.unsettled -= records
	j.clean()
	return records
}

// fail says that s, and so everything after it, has to go over another
// connection. It returns how many records are pending again. In a journal that
// forgets they are not: then it is the number of those whose fate is uncertain.
func (j *journal) fail(s *segment) (records int64) {
	i := slices.Index(j.segments, s)
	if i < 0 {
		return 0 // it failed with an older one
	}
	for _, f := range j.segments[i:] {
		records += f.records
	}
	j.segments = slices.Delete(j.segments, i, len(j.segments))
	if !j.forget {
		j.sent, j.counted, j.sentRecords = s.start, s.start, s.before
		return records
	}
	// A chunk that was cut: up to the end of the record that was cut, nothing must
	// be written again.
	if j.counted < j.sent {
		whole := j.boundaryAfter(j.sent)
		cut := j.count(j.counted, whole)
		j.sent, j.counted = whole, whole
		j.sentRecords += cut
		records += cut
	}
	j.unsettled -= records
	if len(j.segments) == 0 {
		j.settled = j.sent
	}
	j.clean()
	return records
}

// setAside takes the record from start to end out of what is pending. Until
// save, it stays in the journal. What is blank around it goes with it, or the
// blank lines around many would make one long run.
func (j *journal) setAside(start, end int64) {
	if start < j.sent {
		panic("delivery: a record is set aside that is on its way")
	}
	j.closeGap(start)
	j.holes = slices.Insert(j.holes, j.holeFrom(start), hole{start: start, end: j.blanksFrom(end), records: 1})
	j.unsettled--
}

// closeGap takes out what is between the last hole before start and start, if that is
// pending and blank.
func (j *journal) closeGap(start int64) {
	i := j.holeFrom(start)
	if i == 0 {
		return
	}
	from := j.holes[i-1].end
	if from < start && from >= j.sent && j.blanksFrom(from) >= start {
		j.holes = slices.Insert(j.holes, i, hole{start: from, end: start, saved: true})
	}
}

// dismiss is setAside and save at once. Of rubbish by the megabyte it remembers only
// where it begins and ends.
func (j *journal) dismiss(start, end int64) {
	j.closeGap(start)
	i := j.holeFrom(start)
	if i > 0 && j.holes[i-1].saved && j.holes[i-1].end == start && start > j.sent {
		j.holes[i-1].end = j.blanksFrom(end)
		j.holes[i-1].records++
		j.unsettled--
		return
	}
	j.setAside(start, end)
	j.holes[i].saved = true
}

// save says that the records that were set aside at these offsets are kept
// elsewhere.
func (j *journal) save(starts ...int64) {
	for _, start := range starts {
		j.holes[j.holeFrom(start)].saved = true
	}
	j.clean()
}

// clean forgets what is settled. A record that is set aside and not saved holds
// back everything from it on.
func (j *journal) clean() {
	j.skip()
	passed := 0
	for _, h := range j.holes {
		follows := len(j.segments) == 0 || j.segments[0].start >= h.end
		if !h.saved || h.start > j.settled || h.start == j.settled && !follows {
			break
		}
		j.settled = max(j.settled, h.end)
		passed++
	}
	j.holes = slices.Delete(j.holes, 0, passed)
	keep := j.kept()
	j.release(keep)
	j.arrivals.forget(min(keep, j.settled))
}

// kept returns the offset of the oldest record that is kept, end if there is none.
func (j *journal) kept() int64 {
	keep := j.settled
	if j.forget {
		keep = j.sent
	}
	if len(j.holes) > 0 {
		keep = min(keep, j.holes[0].start)
	}
	return keep
}

// oldest returns when the oldest record that is kept was accepted.
func (j *journal) oldest() (at time.Time, ok bool) {
	if keep := j.kept(); keep < j.end {
		return j.arrivals.since(keep), true
	}
	return time.Time{}, false
}

// records calls f for each record from offset from, which must be where one
// begins, that begins before offset to, but those set aside, until f returns
// false. f may set aside the record that it is called for.
func (j *journal) records(from, to int64, f func(start, end int64, w *Writer, record []byte) bool) {
	for from < to {
		b, i := j.find(from)
		if b == nil {
			return
		}
		end := b.start + int64(b.spans[i].end) // of records that are whole, wherever to is
		for from < min(to, end) {
			n := int64(firstRecord(b.buf[from-b.start : end-b.start]))
			record := b.buf[from-b.start : from-b.start+n]
			if !ilp.IsBlank(record) && !j.isHole(from) && !f(from, from+n, b.spans[i].w, record) {
				return
			}
			from += n
		}
	}
}

// blankEnd returns how many of the last bytes of p look like blank lines.
func blankEnd(p []byte) (n int) {
	for n < len(p) && ilp.IsBlank(p[len(p)-1-n:len(p)-n]) {
		n++
	}
	return n
}

func (j *journal) isHole(start int64) bool {
	i := j.holeFrom(start+1) - 1
	return i >= 0 && start < j.holes[i].end
}
