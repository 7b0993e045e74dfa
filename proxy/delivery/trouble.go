package delivery

import (
	"time"

	"github.com/sethvargo/go-retry"
)

// trouble is what a lane remembers of failures until it makes progress again.
// Only the lane's goroutine uses it.
type trouble struct {
	// lo and hi bound, while hi is not 0, where the first record begins that the
	// server refuses: lo <= offset < hi.
	lo, hi int64
	// evidence is what there is so far against the record that begins at its start.
	evidence proof
	// slow counts the connections given up because the server's FIN did not come.
	slow  int
	delay retry.Backoff
	wait  bool // a pause is due
	// disputed is where the record begins that was accepted alone, although it seemed to
	// be refused before; dispute is how long to wait if that happens again.
	disputed int64
	dispute  retry.Backoff
}

// proof is the evidence against one record, of one server.
type proof struct {
	start int64
	addr  string
	// refused is when it was refused last, times how often.
	refused time.Time
	times   int
	// held counts after how many of those times another record was accepted, needed is
	// how many it has to be, and told is set once it was after the last one.
	held, needed int
	told         bool
}

// refuse says that the record was refused.
func (p *proof) refuse() {
	p.times++
	p.refused, p.told = time.Now(), false
}

// hold says that another record was accepted after the last refusal.
func (p *proof) hold() {
	if !p.told {
		p.held++
	}
	p.told = true
}

// against returns the evidence of the server at addr against the record that begins at
// start.
func (t *trouble) against(addr string, start int64) *proof {
	if t.evidence.start != start || t.evidence.addr != addr || t.evidence.needed == 0 {
		t.evidence = proof{start: start, addr: addr, needed: proofs}
	}
	return &t.evidence
}

// limit returns the offset up to which the next connection takes records: all,
// or half of those among which one is refused.
func (t *trouble) limit(j *journal) int64 {
	if t.hi == 0 {
		return noLimit
	}
	j.skip()
	t.lo = max(t.lo, j.sent)
	if t.lo >= t.hi {
		t.hi = 0
		return noLimit
	}
	return middle(j, t.lo, t.hi)
}

// single reports whether only one record is left that can be the refused one, and
// which.
func (t *trouble) single(j *journal) (start, end int64, ok bool) {
	if t.hi == 0 {
		return 0, 0, false
	}
	n := 0
	j.records(t.lo, t.hi, func(from, to int64, _ *Writer, _ []byte) bool {
		start, end = from, to
		n++
		return n < 2
	})
	return start, end, n == 1
}

// middle returns where the half of the bytes from lo to hi ends, between two
// records; hi if there is only one.
func middle(j *journal, lo, hi int64) int64 {
	if at := j.boundaryAfter(lo + (hi-lo)/2); at > lo && at < hi {
		return at
	}
	if at := j.boundaryBefore(lo + (hi-lo)/2); at > lo {
		return at
	}
	return hi
}

// accepted says that the server took everything up to end.
func (t *trouble) accepted(end int64) {
	t.delay = nil
	if t.hi == 0 {
		return
	}
	if t.lo = max(t.lo, end); t.lo >= t.hi {
		t.hi = 0 // none was refused this time
	}
}

// refused says that the server refused one of the records from start to end.
func (t *trouble) refused(start, end int64) {
	if t.hi == 0 || start != t.lo {
		t.lo, t.hi = start, end
		return
	}
	t.hi = min(t.hi, end)
}

// clear forgets everything: the cause is found.
func (t *trouble) clear() { *t = trouble{slow: t.slow, disputed: t.disputed, dispute: t.dispute} }

// contradicted says that the record at start was accepted alone. Something else must have
// been it; if that is so each time, the records before it come again and again.
func (t *trouble) contradicted(start int64, o Options) {
	again := t.dispute != nil && t.disputed == start
	t.clear()
	if !again {
		t.disputed, t.dispute = start, backoff(o)
		return
	}
	t.wait, t.delay = true, t.dispute
}

func backoff(o Options) retry.Backoff {
	return retry.WithCappedDuration(o.RetryMax, retry.WithJitterPercent(20, retry.NewExponential(o.RetryBase)))
}

// outage says that a pause is due before the next attempt.
func (t *trouble) outage() {
	t.lo, t.hi = 0, 0
	t.wait = true
}

// pause returns how long to wait before the next connection.
func (t *trouble) pause(o Options) time.Duration {
	if !t.wait {
		return 0
	}
	t.wait = false
	if t.delay == nil {
		t.delay = backoff(o)
	}
	d, _ := t.delay.Next()
	return d
}
