package upstream

import (
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sethvargo/go-retry"
)

const (
	// Of so many challenges of a server the median is what is usual.
	usualOf = 20

	// An answer is late if it took longer than lateFactor times what is usual, and
	// than lateMin: a server may collect garbage, or compile.
	lateFactor = 8
	lateMin    = 250 * time.Millisecond

	// More servers than this are not remembered: a name's addresses may change for
	// as long as the proxy runs.
	maxServers = 64
)

// serverState is what is known of one server, an IP address and port.
type serverState struct {
	host       string          // the name or address that it was found by
	accepted   time.Time       // when it last accepted the key; zero if it failed since
	challenges []time.Duration // how long its last challenges took, oldest first
	backoff    retry.Backoff   // of attempts for it alone; nil: the next pause is the first
	proofBegun time.Time       // when the last handshake for a proof began
	used       time.Time
	notifies   atomic.Bool // over TLS it ends with a close_notify
}

// server lets f look at, and change, what is known of a server.
func (p *Pool) server(addr string, f func(*serverState)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.serverState(addr))
}

// serverState is what is known of a server. mu is held.
func (p *Pool) serverState(addr string) *serverState {
	s := p.servers[addr]
	if s == nil {
		if len(p.servers) >= maxServers {
			p.forgetServer()
		}
		s = &serverState{}
		p.servers[addr] = s
	}
	s.used = time.Now()
	return s
}

// host is the name, or address, by which the server at addr was found.
func (p *Pool) host(addr string) (host string) {
	p.server(addr, func(s *serverState) { host = s.host })
	if host == "" { // forgotten, or asked for by its address
		host, _, _ = net.SplitHostPort(addr)
	}
	return host
}

// serverName is the name that the certificate of the server at addr must be for.
func (p *Pool) serverName(addr string) string {
	if config := p.creds.Load().tls; config != nil && config.ServerName != "" {
		return config.ServerName
	}
	return p.host(addr)
}

// forgetServer forgets the server that was not used for longest. mu is held.
func (p *Pool) forgetServer() {
	var oldest string
	for addr, s := range p.servers {
		if o := p.servers[oldest]; o == nil || s.used.Before(o.used) {
			oldest = addr
		}
	}
	delete(p.servers, oldest)
}

// trusted reports whether the server accepted the key lately, and no attempt has
// failed since.
func (s *serverState) trusted(now time.Time) bool {
	return !s.accepted.IsZero() && now.Sub(s.accepted) < trustFor
}

func (s *serverState) distrust() { s.accepted = time.Time{} }

func (s *serverState) accept(now time.Time) { s.accepted, s.backoff = now, nil }

func (s *serverState) challenged(took time.Duration) {
	if len(s.challenges) == usualOf {
		s.challenges = slices.Delete(s.challenges, 0, 1)
	}
	s.challenges = append(s.challenges, took)
}

// late is how long a challenge may take and be as fast as usual.
func (s *serverState) late() time.Duration {
	if len(s.challenges) == 0 {
		return lateMin
	}
	sorted := slices.Sorted(slices.Values(s.challenges))
	return max(lateMin, lateFactor*sorted[len(sorted)/2])
}
