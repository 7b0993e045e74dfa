package delivery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestForgettingJournal is TestJournal for at-most-once delivery: no byte is written twice,
// what is written after a failure begins with a record, and what was written is not kept,
// while everything behind it is. In the end each record is settled, uncertain or set aside.
func TestForgettingJournal(t *testing.T) {
	lives(t, 2, forgettingLife)
}

func forgettingLife(t *testing.T, rng *rand.Rand) {
	j := journal{store: store{free: func(b *Block) { clear(b.buf) }}, forget: true}
	w := &Writer{}
	var all strings.Builder // what was accepted, at the journal's offsets
	var accepted, settled, uncertain, aside, high int64

	write := func(most int) {
		p := j.pending(noLimit)
		if len(p) == 0 {
			return
		}
		p = p[:1+rng.IntN(min(len(p), most))]
		if want := all.String()[j.sent:][:len(p)]; string(p) != want {
			t.Fatalf("%q is written, not %q", p, want)
		}
		if j.sent < high {
			t.Fatalf("offset %d is written again: %d was reached before", j.sent, high)
		}
		if begins := j.sent == 0 || all.String()[j.sent-1] == '\n'; j.current().bytes == 0 && !begins {
			t.Fatal("what goes first over a connection is the rest of a record")
		}
		j.wrote(len(p))
		high = j.sent
		if blocks := j.blocks[j.head:]; len(blocks) > 1 && len(j.holes) == 0 && blocks[0].end() <= j.sent {
			t.Fatalf("the block up to %d is kept, and %d is reached", blocks[0].end(), j.sent)
		}
	}
	step := func(what int) {
		s := j.last()
		switch {
		case what < 2 && (s == nil || s.phase == settling):
			if !j.idle() {
				j.begin()
			}
		case what < 2 && s.phase == open:
			write(1 << 10)
		case what == 2 && s != nil && s.phase == open: // to the end of a record, and close
			for end := j.boundaryAfter(j.sent); end > j.sent; {
				write(int(end - j.sent))
			}
			j.close(s)
		case what == 3 && s != nil && s.phase == closing:
			j.finish(s)
		case what == 4 && s != nil && !j.segments[0].proven && j.segments[0].phase == settling:
			settled += j.prove(j.segments[0])
		}
	}
	for range 150 {
		switch what := rng.IntN(9); what {
		case 5, 6:
			b := j.room(100)
			if b == nil || rng.IntN(4) == 0 {
				b = &Block{buf: make([]byte, 256)}
				j.push(b)
			}
			n := 1 + rng.IntN(3)
			var p string
			for range n {
				accepted++
				p += fmt.Sprintf("t n=%di%s\n", accepted, strings.Repeat("0", rng.IntN(20)))
			}
			all.WriteString(p)
			copy(b.buf[b.n:], p)
			j.accept(w, len(p), n, time.Time{})
		case 7:
			if len(j.segments) > 0 {
				uncertain += j.fail(j.segments[rng.IntN(len(j.segments))])
			}
		case 8:
			if s := j.last(); s != nil && s.phase != settling {
				continue
			}
			j.skip()
			k := rng.IntN(6)
			j.records(j.sent, j.end, func(start, end int64, _ *Writer, _ []byte) bool {
				if k--; k >= 0 {
					return true
				}
				j.setAside(start, end)
				aside++
				return false
			})
		default:
			step(what)
		}
		if rng.IntN(4) == 0 && len(j.holes) > 0 {
			j.save(j.holes[0].start)
		}
	}
	for n := 0; len(j.segments) > 0 || !j.idle() || len(j.holes) > 0; n++ {
		if n > 10_000 {
			t.Fatal("the journal never becomes empty")
		}
		for _, h := range j.holes {
			if !h.saved {
				j.save(h.start)
				break
			}
		}
		if s := j.last(); s != nil && s.phase == open && !j.idle() {
			write(1 << 10)
			continue
		}
		step(n % 5)
	}
	if settled+uncertain+aside != accepted || j.unsettled != 0 {
		t.Errorf("%d settled, %d uncertain and %d set aside of %d; %d left", settled, uncertain, aside, accepted, j.unsettled)
	}
}
