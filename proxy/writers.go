package proxy

import (
	"cmp"
	"slices"
	"time"
)

const (
	// rateOver is the shortest time that a writer's rate is taken over.
	rateOver = 2 * time.Second
	// rateStale is the longest: what was last looked at before that says nothing
	// of the present.
	rateStale = 15 * time.Second
)

// WriterStatus is a snapshot of one writer.
type WriterStatus struct {
	Remote string
	Since  time.Time // when it connected; of a UDP socket, when that was opened
	Bytes  int64     // read from it in all
	// BytesPerSecond is over the last seconds; less than 0 if nobody has asked
	// lately, so that it is not known.
	BytesPerSecond float64
}

// rate tells how fast a number grows, from what it was when it was looked at
// before.
type rate struct{ before, last mark }

type mark struct {
	at time.Time
	n  int64
}

func newRate(now time.Time) rate {
	return rate{mark{at: now}, mark{at: now}}
}

// look returns by how much the number grows in a second.
func (r *rate) look(n int64, now time.Time) float64 {
	if now.Sub(r.last.at) >= rateOver {
		r.before, r.last = r.last, mark{now, n}
	}
	over := now.Sub(r.before.at)
	if over > rateStale || over <= 0 {
		return -1
	}
	return float64(n-r.before.n) / over.Seconds()
}

// Writers returns the most writers that are the fastest now, fastest first, and
// how many there are: the connected ones, and each UDP socket to which something was
// sent.
func (s *Server) Writers(most int) (fastest []WriterStatus, all int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for se := range s.sessions {
		fastest = insert(fastest, most, WriterStatus{Remote: se.out.Remote(), Since: se.since, Bytes: se.bytes.Load()}, &se.rate, now)
	}
	all = len(s.sessions)
	for p := range s.packets {
		if n := p.bytes.Load(); n > 0 {
			fastest = insert(fastest, most, WriterStatus{Remote: p.remote, Since: p.since, Bytes: n}, &p.rate, now)
			all++
		}
	}
	return fastest, all
}

// insert puts w where it belongs among the most fastest, if it does.
func insert(fastest []WriterStatus, most int, w WriterStatus, r *rate, now time.Time) []WriterStatus {
	w.BytesPerSecond = r.look(w.Bytes, now)
	at, _ := slices.BinarySearchFunc(fastest, w, func(a, b WriterStatus) int {
		return cmp.Or(cmp.Compare(b.BytesPerSecond, a.BytesPerSecond), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Remote, b.Remote))
	})
	if at == most {
		return fastest
	}
	if len(fastest) == most {
		fastest = fastest[:most-1]
	}
	return slices.Insert(fastest, at, w)
}

// Bytes returns how many bytes were read from writers.
func (s *Server) Bytes() float64 { return s.m.bytes.Value() }

// Waiting returns how many writers wait because ILP_MAX_CLIENTS are connected.
func (s *Server) Waiting() int { return int(s.waiting.Load()) }
