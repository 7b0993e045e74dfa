package status

import (
	"sync"
	"time"
)

const (
	// sampleEvery is how often the counters are looked at.
	sampleEvery = time.Second
	// history is how many looks are remembered: a minute of them.
	history = 61
	// rateOver is the time that rates are taken over.
	rateOver = 10 * time.Second
)

// rates remembers what the counters were lately.
type rates struct {
	mu      sync.Mutex
	samples []sample // oldest first; at most history
}

type sample struct {
	at time.Time
	Counts
}

func (r *rates) add(at time.Time, c Counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) == history {
		copy(r.samples, r.samples[1:])
		r.samples = r.samples[:history-1]
	}
	r.samples = append(r.samples, sample{at, c})
}

// over returns by how much the counters grow in a second, over the last d or as much of that as is known.
func (r *rates) over(d time.Duration, now time.Time, c Counts) Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) == 0 {
		return Counts{}
	}
	from := r.samples[0]
	for _, s := range r.samples {
		if now.Sub(s.at) < d {
			break
		}
		from = s
	}
	seconds := now.Sub(from.at).Seconds()
	if seconds <= 0 {
		return Counts{}
	}
	per := func(now, before float64) float64 { return (now - before) / seconds }
	return Counts{
		Received: per(c.Received, from.Received), ReceivedBytes: per(c.ReceivedBytes, from.ReceivedBytes),
		Written: per(c.Written, from.Written), WrittenBytes: per(c.WrittenBytes, from.WrittenBytes),
		Settled: per(c.Settled, from.Settled), SettledBytes: per(c.SettledBytes, from.SettledBytes),
		Replayed: per(c.Replayed, from.Replayed), Uncertain: per(c.Uncertain, from.Uncertain),
		Rejected: per(c.Rejected, from.Rejected),
	}
}

// series returns what was received and written in each of the last seconds, oldest first.
func (r *rates) series() (received, written []float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 1; i < len(r.samples); i++ {
		a, b := r.samples[i-1], r.samples[i]
		seconds := b.at.Sub(a.at).Seconds()
		if seconds <= 0 {
			continue
		}
		received = append(received, (b.Received-a.Received)/seconds)
		written = append(written, (b.Written-a.Written)/seconds)
	}
	return received, written
}
