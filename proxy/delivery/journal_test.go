package delivery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestJournal lets a journal live at random: records are accepted, written in
// pieces of any size, fail, settle in any order and are set aside. It is the same
// for the same seed. A server that keeps what proven segments carried must have
// every record once, in order, but those set aside.
func TestJournal(t *testing.T) {
	lives(t, 1, journalLife)
}

// lives runs 2,000 random lives of a journal, the same each time.
func lives(t *testing.T, stream uint64, life func(t *testing.T, rng *rand.Rand)) {
	for seed := range uint64(2000) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { life(t, rand.New(rand.NewPCG(seed, stream))) })
	}
}

func journalLife(t *testing.T, rng *rand.Rand) {
	blocks := 0
	j := journal{store: store{free: func(*Block) { blocks-- }}}
	writers := []*Writer{{}, {}, {}}
	carried := map[*segment]string{} // what was written, by segment
	var kept strings.Builder         // what proven segments carried
	aside := map[string]bool{}
	var all []string

	prove := func() {
		before := len(j.segments)
		order := append([]*segment(nil), j.segments...)
		var ready []*segment
		for _, s := range j.segments {
			if s.phase == settling && !s.proven {
				ready = append(ready, s)
			}
		}
		if len(ready) == 0 {
			return
		}
		j.prove(ready[rng.IntN(len(ready))])
		for _, s := range order[:before-len(j.segments)] {
			kept.WriteString(carried[s])
		}
	}
	for range 150 {
		switch rng.IntN(9) {
		case 0, 1:
			w := writers[rng.IntN(len(writers))]
			var p string
			n := 1 + rng.IntN(3)
			for range n {
				r := fmt.Sprintf("t n=%di%s\n", len(all), strings.Repeat("0", rng.IntN(20)))
				all = append(all, r)
				p += r
			}
			b := j.room(len(p))
			if b == nil || rng.IntN(4) == 0 {
				b = &Block{buf: make([]byte, 256)}
				blocks++
				j.push(b)
			}
			copy(b.buf[b.n:], p)
			j.accept(w, len(p), n, time.Time{})
		case 2, 3:
			s := j.current()
			if s == nil {
				if l := j.last(); l != nil && l.phase == closing {
					continue
				}
				s = j.begin()
			}
			if p := j.pending(noLimit); len(p) > 0 {
				n := 1 + rng.IntN(len(p))
				carried[s] += string(p[:n])
				j.wrote(n)
			}
		case 4: // to the end of a record, and close
			s := j.current()
			if s == nil {
				continue
			}
			if end := j.boundaryAfter(j.sent); end > j.sent {
				p := j.pending(end)
				carried[s] += string(p)
				j.wrote(len(p))
			}
			j.close(s)
		case 5:
			if s := j.last(); s != nil && s.phase == closing {
				j.finish(s)
			}
		case 6:
			prove()
		case 7:
			if len(j.segments) > 0 {
				s := j.segments[rng.IntN(len(j.segments))]
				if !s.proven {
					j.fail(s)
				}
			}
		case 8: // set a pending record aside; saved now or later
			if j.current() != nil {
				continue
			}
			if l := j.last(); l != nil && l.phase == closing {
				continue
			}
			j.skip()
			k := rng.IntN(6)
			j.records(j.sent, j.end, func(start, end int64, _ *Writer, record []byte) bool {
				if k--; k >= 0 {
					return true
				}
				aside[string(record)] = true
				j.setAside(start, end)
				if rng.IntN(2) == 0 {
					j.save(start)
				}
				return false
			})
		}
		if rng.IntN(4) == 0 {
			for i := range j.holes {
				if !j.holes[i].saved {
					j.save(j.holes[i].start)
					break
				}
			}
		}
		if j.settled > j.sent || j.sent > j.end || j.unsettled < 0 {
			t.Fatalf("settled %d, sent %d, end %d, %d records unsettled", j.settled, j.sent, j.end, j.unsettled)
		}
	}

	// All is well in the end.
	for n := 0; ; n++ {
		if n > 10_000 {
			t.Fatal("the journal never becomes empty")
		}
		for i := range j.holes {
			if !j.holes[i].saved {
				j.save(j.holes[i].start)
				break
			}
		}
		s := j.last()
		switch {
		case s != nil && s.phase == open:
			if p := j.pending(noLimit); len(p) > 0 {
				carried[s] += string(p)
				j.wrote(len(p))
				continue
			}
			j.close(s)
		case s != nil && s.phase == closing:
			j.finish(s)
		case len(j.segments) > 0:
			prove()
		case !j.idle():
			j.begin()
		default:
			var want strings.Builder
			for _, r := range all {
				if !aside[r] {
					want.WriteString(r)
				}
			}
			if kept.String() != want.String() {
				t.Fatalf("the server has\n%.300q\nwant\n%.300q", kept.String(), want.String())
			}
			if j.unsettled != 0 || len(j.holes) != 0 || blocks > 1 {
				t.Fatalf("%d records, %d holes and %d blocks left", j.unsettled, len(j.holes), blocks)
			}
			return
		}
	}
}

// TestRecordsAreWhole has a stretch of the journal end within a record: half of it would be
// another one, that nobody sent.
func TestRecordsAreWhole(t *testing.T) {
	const rows = "t v=1i\nt v=23i\nt v=4i\n"
	j := &journal{store: store{free: func(*Block) {}}}
	j.push(&Block{buf: []byte(rows + "x")})
	j.accept(&Writer{}, len(rows), 3, time.Time{})
	for to := range int64(len(rows) + 1) {
		got := ""
		j.records(0, to, func(_, _ int64, _ *Writer, record []byte) bool {
			got += string(record)
			return true
		})
		if want := rows[:j.boundaryAfter(to)]; got != want {
			t.Errorf("to %d: %q, want %q", to, got, want)
		}
	}
}

// TestCutBetweenRecords has a connection take its last bytes up to the end of a record, but not
// those of the next one, which is set aside: all are counted.
func TestCutBetweenRecords(t *testing.T) {
	const row = "t v=1i\n"
	for _, forget := range []bool{false, true} {
		j := &journal{store: store{free: func(*Block) {}}, forget: forget}
		b := &Block{buf: []byte(row + row + "x")}
		j.push(b)
		j.accept(&Writer{}, 2*len(row), 2, time.Time{})
		s := j.begin()
		j.pending(noLimit)
		if n := j.wrote(len(row)) + j.close(s); n != 1 || s.records != 1 {
			t.Errorf("%d records were written, %d of them in the segment, want 1", n, s.records)
		}
		j.finish(s)
		j.dismiss(int64(len(row)), int64(2*len(row)))
		if n := j.prove(s); n != 1 || j.unsettled != 0 {
			t.Errorf("%d records are settled, %d not, want 1 and 0", n, j.unsettled)
		}
	}
}

func TestJournalMisusePanics(t *testing.T) {
	for name, misuse := range map[string]func(j *journal){
		"write without a segment": func(j *journal) { j.wrote(1) },
		"second segment":          func(j *journal) { j.begin(); j.begin() },
		"finish before close":     func(j *journal) { j.finish(j.begin()) },
		"prove what is not over":  func(j *journal) { j.prove(j.begin()) },
		"set aside what is on its way": func(j *journal) {
			b := &Block{buf: make([]byte, 64)}
			j.push(b)
			n := copy(b.buf, "t v=1i\n")
			j.accept(&Writer{}, n, 1, time.Time{})
			j.begin()
			j.wrote(len(j.pending(noLimit)))
			j.setAside(0, int64(n))
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("went unnoticed")
				}
			}()
			misuse(&journal{store: store{free: func(*Block) {}}})
		})
	}
}

// A lane that has been idle keeps an empty block, into which the next read may not fit.
func TestOldestBehindAnEmptyBlock(t *testing.T) {
	j := journal{store: store{free: func(*Block) {}}}
	j.push(&Block{buf: make([]byte, 4)})
	if _, ok := j.oldest(); ok {
		t.Error("there is an oldest record in a journal without any")
	}
	b := &Block{buf: make([]byte, 64)}
	j.push(b)
	at := time.Unix(1700000000, 0)
	j.accept(&Writer{}, copy(b.buf, "t v=1i\n"), 1, at)
	if got, ok := j.oldest(); !ok || !got.Equal(at) {
		t.Errorf("the oldest is of %v (%v), want %v", got, ok, at)
	}
}
