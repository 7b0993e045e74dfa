package upstream

import (
	"log/slog"
	"sync"
	"time"
)

// reporter is told by the gate how attempts end.
type reporter interface {
	failed(failure)
	connected(addr string) // the gate opened
	recovered()            // and stayed open
}

// logEvery is the most often that one kind of failure is logged in an outage.
const logEvery = time.Minute

// reports turns failures and recoveries into few log lines, and remembers what
// there is to say in Status.
type reports struct {
	log *slog.Logger

	mu       sync.Mutex
	last     failure              // the latest failure, kind "" if none since the last recovery
	lastErr  error                // the latest failure ever
	since    time.Time            // begin of the outage
	attempts int                  // failures in it
	said     map[kind]*repetition // what was logged in it
	skips    map[kind]*repetition // what was logged about addresses, and keys, that were passed over
	addr     string               // the address that answered last
	answered time.Time
	ever     bool // connected before
}

type repetition struct {
	at      time.Time // of the last line
	unsaid  int       // failures since then
	certain bool
}

func newReports(log *slog.Logger) *reports {
	return &reports{log: log, said: map[kind]*repetition{}, skips: map[kind]*repetition{}}
}

func (r *reports) failed(f failure) {
	r.mu.Lock()
	now := time.Now()
	if r.attempts == 0 {
		r.since = now
	}
	r.attempts++
	r.last, r.lastErr = f, f.err
	unsaid, say := repeat(r.said, f.kind, f.certain, now)
	since := r.since
	r.mu.Unlock() // a blocked log must not hold up Status
	if !say {
		return
	}
	attrs := []any{"reason", f.sentence, "error", f.err, "retry_in", f.retryIn.Round(time.Millisecond)}
	if unsaid > 0 {
		attrs = append(attrs, "repeated", unsaid, "since", since)
	}
	if f.certain {
		r.log.Error("QuestDB refuses the credentials", attrs...)
	} else {
		r.log.Warn("cannot connect to QuestDB", attrs...)
	}
}

// skipped is told when a connection was made to addr because what comes before it
// in the order of preference failed.
func (r *reports) skipped(f failure, addr string) {
	r.mu.Lock()
	unsaid, say := repeat(r.skips, f.kind, false, time.Now())
	r.mu.Unlock()
	if say {
		r.log.Warn("using a later address of QuestDB", "addr", addr, "reason", f.sentence, "error", f.err, "repeated", unsaid)
	}
}

// apart is told of the failure of one server while others serve.
func (r *reports) apart(f failure, addr string) {
	r.mu.Lock()
	r.lastErr = f.err
	unsaid, say := repeat(r.skips, f.kind, false, time.Now())
	r.mu.Unlock()
	if say {
		r.log.Warn("cannot connect to one of QuestDB's addresses", "addr", addr, "reason", f.sentence, "error", f.err, "repeated", unsaid)
	}
}

// keyNotKnown is told when a server refused the new key and accepted the one before.
func (r *reports) keyNotKnown(addr, id, before string) {
	r.mu.Lock()
	unsaid, say := repeat(r.skips, kindRefused, false, time.Now())
	r.mu.Unlock()
	if say {
		r.log.Warn("QuestDB refuses the new key; going on with the one before until it knows the new one: its auth.txt must have that, and is read when it starts",
			"addr", addr, "key_id", id, "before", before, "repeated", unsaid)
	}
}

// repeat decides whether a failure gets a line of its own, and says how many of its
// kind got none since the last one.
func repeat(said map[kind]*repetition, k kind, certain bool, now time.Time) (unsaid int, say bool) {
	rep, seen := said[k]
	if seen && now.Sub(rep.at) < logEvery && certain == rep.certain {
		rep.unsaid++
		return 0, false
	}
	if seen {
		unsaid = rep.unsaid
	}
	said[k] = &repetition{at: now, certain: certain}
	return unsaid, true
}

func (r *reports) connected(addr string) {
	r.mu.Lock()
	r.addr, r.answered = addr, time.Now()
	first := !r.ever && r.attempts == 0
	r.ever = true
	r.mu.Unlock()
	if first {
		r.log.Info("connected to QuestDB", "addr", addr)
	}
}

func (r *reports) recovered() {
	r.mu.Lock()
	addr, attempts, after := r.addr, r.attempts, r.answered.Sub(r.since)
	r.last, r.attempts = failure{}, 0
	clear(r.said)
	r.mu.Unlock()
	if attempts > 0 {
		r.log.Info("connected to QuestDB again", "addr", addr, "after", after.Round(time.Millisecond), "attempts", attempts)
	}
}

// state is the latest failure (kind "" if there is none to mend), the address that
// answered last, and the latest error ever.
func (r *reports) state() (f failure, addr string, lastErr error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.addr, r.lastErr
}
