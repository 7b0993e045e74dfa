package delivery

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestJournalRandom fills, writes, fails and settles at random and checks that
// what is written is what was accepted, in order, and cut only between records.
func TestJournalRandom(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var j journal
		var accepted, sent bytes.Buffer // sent: what a server has kept
		var ends []int                  // where records end in accepted
		cut := 0                        // bytes on the present connection beyond its last whole record
		held := 0
		w := []*Writer{{}, {}}
		for range 400 {
			switch rng.IntN(5) {
			case 0, 1: // a few records
				var p []byte
				n := 1 + rng.IntN(3)
				for range n {
					p = fmt.Appendf(p, "t v=%di%s\n", len(ends), bytes.Repeat([]byte("0"), rng.IntN(20)))
					ends = append(ends, accepted.Len()+len(p))
				}
				accepted.Write(p)
				b := j.room(len(p))
				if b == nil || rng.IntN(3) == 0 {
					b = &Block{buf: make([]byte, 256)}
					j.push(b)
					held++
				}
				copy(b.buf[b.n:], p)
				j.grow(w[rng.IntN(2)], len(p), n, time.Time{})
			case 2, 3: // a write
				if p := j.pending(); len(p) > 0 {
					n := 1 + rng.IntN(len(p))
					sent.Write(p[:n])
					j.advance(n)
				}
			case 4: // a failure: the server keeps whole records only
				cut = 0
				for cut < sent.Len() && !isEnd(ends, sent.Len()-cut) {
					cut++
				}
				sent.Truncate(sent.Len() - cut)
				j.rewind()
				if int(j.sent) != sent.Len() {
					t.Fatalf("seed %d: goes on at %d, want %d", seed, j.sent, sent.Len())
				}
			}
			if rng.IntN(2) == 0 {
				j.settle(j.sent, func(*Block) { held-- })
			}
			left := int64(0)
			for _, e := range ends {
				if int64(e) > j.sent {
					left++
				}
			}
			if got := j.recordsAfter(j.sent); got != left {
				t.Fatalf("seed %d: %d records after what was sent, want %d", seed, got, left)
			}
			if j.settled > j.sent || j.sent > j.end {
				t.Fatalf("seed %d: settled %d, sent %d, end %d", seed, j.settled, j.sent, j.end)
			}
		}
		for p := j.pending(); len(p) > 0; p = j.pending() {
			sent.Write(p)
			j.advance(len(p))
		}
		j.settle(j.sent, func(*Block) { held-- })
		if !bytes.Equal(sent.Bytes(), accepted.Bytes()) {
			t.Fatalf("seed %d: sent %d bytes that are not the %d accepted", seed, sent.Len(), accepted.Len())
		}
		if j.unsettled != 0 || held > 1 {
			t.Fatalf("seed %d: %d records and %d blocks left", seed, j.unsettled, held)
		}
	}
}

func isEnd(ends []int, at int) bool {
	if at == 0 {
		return true
	}
	for _, e := range ends {
		if e == at {
			return true
		}
	}
	return false
}
