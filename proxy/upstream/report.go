package upstream

import (
	"context"
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
	addr     string               // the address that answered last
	answered time.Time
	ever     bool // connected before
}

type repetition struct {
	at      time.Time // of the last line
	unsaid  int       // failures since then
	certain bool
}

func newReports(log *slog.Logger) *reports { return &reports{log: log, said: map[kind]*repetition{}} }

func (r *reports) failed(f failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.attempts == 0 {
		r.since = now
	}
	r.attempts++
	r.last, r.lastErr = f, f.err

	rep, seen := r.said[f.kind]
	if !seen {
		rep = &repetition{}
		r.said[f.kind] = rep
	}
	if seen && now.Sub(rep.at) < logEvery && f.certain == rep.certain {
		rep.unsaid++
		return
	}
	attrs := []any{"reason", f.sentence, "error", f.err, "retry_in", f.retryIn.Round(time.Millisecond)}
	if rep.unsaid > 0 {
		attrs = append(attrs, "repeated", rep.unsaid, "since", r.since)
	}
	level := slog.LevelWarn
	msg := "cannot connect to QuestDB"
	if f.certain {
		level, msg = slog.LevelError, "QuestDB refuses the credentials"
	}
	r.log.Log(context.Background(), level, msg, attrs...)
	rep.at, rep.unsaid, rep.certain = now, 0, f.certain
}

func (r *reports) connected(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addr, r.answered = addr, time.Now()
	if r.attempts == 0 && !r.ever {
		r.log.Info("connected to QuestDB", "addr", addr)
	}
	r.ever = true
}

func (r *reports) recovered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attempts > 0 {
		r.log.Info("connected to QuestDB again", "addr", r.addr,
			"after", r.answered.Sub(r.since).Round(time.Millisecond), "attempts", r.attempts)
	}
	r.last, r.attempts = failure{}, 0
	clear(r.said)
}

// state is the latest failure (kind "" if there is none to mend), the address that
// answered last, and the latest error ever.
func (r *reports) state() (f failure, addr string, lastErr error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.addr, r.lastErr
}
