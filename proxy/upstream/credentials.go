package upstream

import (
	"crypto/tls"
	"time"

	"questdb-ilp-proxy/auth"
)

// credentials are what connections are made with. They do not change; others take
// their place.
type credentials struct {
	key *auth.Key
	tls *tls.Config // nil: without TLS
}

// SetCredentials has new connections made with another key and other certificates;
// config is nil without TLS, which cannot change.
//
// Idle connections are replaced as soon as there are new ones, those that are handed
// out when their owners are done with them. An attempt that waits for its turn, after
// the old key was refused perhaps, begins at once.
func (p *Pool) SetCredentials(key *auth.Key, config *tls.Config) {
	p.mu.Lock()
	p.creds.Store(&credentials{key, config})
	for c := range p.all {
		c.renewAt = time.Time{}
	}
	for _, s := range p.servers {
		s.distrust() // it accepted another key
	}
	p.mu.Unlock()
	p.gate.again()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reconcile()
}
