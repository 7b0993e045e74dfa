package upstream

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Handshake is how the latest attempt to get an authenticated connection to one
// address ended.
type Handshake struct {
	// Addr is an IP address and port, or the host and port that were configured
	// if that is as far as it came.
	Addr string
	At   time.Time
	// Result is what the metric handshakes_total calls it; ok if it succeeded.
	Result string
	// Reason says what went wrong and what to check; "" if nothing did.
	Reason string
	// Took is the time from the dial to the signature written, if it succeeded.
	Took time.Duration
	// OK and Failed count the attempts since the address became known.
	OK, Failed int64
	// LastOK is when one last succeeded; zero if none did.
	LastOK time.Time
}

// handshakes remembers the latest of each address, of maxServers at most.
type handshakes struct {
	mu     sync.Mutex
	latest map[string]Handshake
}

// lastOK returns when a handshake with addr succeeded last; zero if none has, as far as is known.
func (h *handshakes) lastOK(addr string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest[addr].LastOK
}

func (h *handshakes) note(addr string, k kind, reason string, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, known := h.latest[addr]
	if !known && len(h.latest) >= maxServers {
		oldest := ""
		for a, x := range h.latest {
			if oldest == "" || x.At.Before(h.latest[oldest].At) {
				oldest = a
			}
		}
		delete(h.latest, oldest)
	}
	s.Addr, s.At, s.Result, s.Reason, s.Took = addr, time.Now(), string(k), reason, took
	if k == kindOK {
		s.OK++
		s.LastOK = s.At
	} else {
		s.Failed++
	}
	if h.latest == nil {
		h.latest = map[string]Handshake{}
	}
	h.latest[addr] = s
}

// Handshakes returns how the latest attempts ended, one for each address, sorted
// by address.
func (p *Pool) Handshakes() []Handshake {
	p.handshakes.mu.Lock()
	defer p.handshakes.mu.Unlock()
	all := make([]Handshake, 0, len(p.handshakes.latest))
	for _, h := range p.handshakes.latest {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b Handshake) int { return cmp.Compare(a.Addr, b.Addr) })
	return all
}
