package upstream

import (
	"crypto/tls"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/auth"
)

// credentials are what connections are made with; others take their place.
type credentials struct {
	key *auth.Key
	tls *tls.Config // nil: without TLS

	// before is the key before this one, if a server accepted that, until one has
	// accepted this one. A server reads its keys when it starts: it may be long until
	// it knows the new key, and until then it knows the old one.
	before   atomic.Pointer[auth.Key]
	accepted atomic.Bool // key, by a server
}

// SetCredentials has new connections made with another key and other certificates;
// config is nil without TLS, which cannot change.
//
// While a server refuses the new key, and until it has accepted it once, the key before
// is tried as well.
//
// Idle connections are replaced as soon as there are new ones, those that are handed
// out when their owners are done with them. An attempt that waits for its turn, after
// the old key was refused perhaps, begins at once.
func (p *Pool) SetCredentials(key *auth.Key, config *tls.Config) {
	p.mu.Lock()
	was, fresh := p.creds.Load(), &credentials{key: key, tls: config}
	before := was.before.Load()
	if was.accepted.Load() {
		before = was.key
	}
	if before != nil && before.AuthLine() != key.AuthLine() {
		fresh.before.Store(before)
	}
	p.creds.Store(fresh)
	for c := range p.all {
		c.renewAt = time.Time{}
	}
	for _, s := range p.servers {
		s.distrust() // it accepted another key
		s.backoff = nil
	}
	p.mu.Unlock()
	p.gate.again()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reconcile()
}
