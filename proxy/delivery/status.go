package delivery

import (
	"time"

	"questdb-ilp-proxy/proxy/counter"
	"questdb-ilp-proxy/proxy/rejected"
)

// LaneStatus is a snapshot of one lane.
type LaneStatus struct {
	ID int
	// Apart: the lane is for writers whose records are refused again and again.
	Apart bool
	// State is what the lane does or waits for, as the metric lanes{state} names it.
	State string
	// Sessions is how many writers are on it.
	Sessions int
	// Records are accepted and not settled; Bytes is the memory that the lane holds.
	Records, Bytes int64
	// Oldest is when the oldest of those records was accepted; zero if there is none.
	Oldest time.Time
	// Addr is the server that it has a connection to, "" if it has none now.
	Addr string
}

// Lanes tells how each lane is.
func (d *Dispatcher) Lanes() []LaneStatus {
	all := make([]LaneStatus, len(d.lanes))
	d.mu.Lock()
	for i, l := range d.lanes {
		all[i].Sessions = l.sessions
	}
	d.mu.Unlock()
	d.budget.mu.Lock()
	for i, l := range d.lanes {
		all[i].Bytes = l.share.used
	}
	d.budget.mu.Unlock()
	for i, l := range d.lanes {
		s := &all[i]
		s.ID, s.Apart, s.State = l.id, l == d.apart, laneState(l.state.Load()).String()
		l.mu.Lock()
		s.Records = l.j.unsettled
		s.Oldest, _ = l.j.oldest()
		if l.conn != nil {
			s.Addr = l.conn.Addr()
		}
		l.mu.Unlock()
	}
	return all
}

// Counts are what the metrics of the same names have counted.
type Counts struct {
	Written, WrittenBytes, Settled, SettledBytes, Replayed, Uncertain, Rejected float64
}

// Counts reads the counters. It waits for nobody.
func (d *Dispatcher) Counts() Counts {
	c := Counts{
		Written: d.m.records.Value(), WrittenBytes: d.m.bytes.Value(),
		Settled: counter.Value(d.m.settledRecords), SettledBytes: counter.Value(d.m.settledBytes),
		Replayed: counter.Value(d.m.replayed), Uncertain: counter.Value(d.m.uncertain),
	}
	for _, reason := range rejected.Reasons() {
		c.Rejected += counter.Value(d.m.rejected.WithLabelValues(reason))
	}
	return c
}

// Memory returns the bytes that the journals hold, and may hold at most.
func (d *Dispatcher) Memory() (used, limit int64) { return d.budget.Used(), d.budget.Limit() }
