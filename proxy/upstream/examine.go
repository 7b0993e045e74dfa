package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Trouble is why there is no authenticated connection to a server.
type Trouble int

// The troubles.
const (
	NoTrouble         Trouble = iota
	TroubleName               // its host name cannot be resolved
	TroubleConnect            // nothing accepts a connection there
	TroubleTLS                // TLS, in whatever way
	TroubleSilent             // it accepts, and then there is no challenge: full, stuck, or no server behind a relay
	TroubleNoAuth             // it takes line protocol from anybody: QuestDB without authentication
	TroubleNotQuestDB         // it answers with something else than a challenge
	TroubleRefused            // it refused the key, twice
	TroubleLost               // the connection broke after the signature
	TroubleUnfinished         // the time was over
)

// Examination is what one server answered to an attempt to authenticate.
type Examination struct {
	// Host is the host and port as in Options.Addrs, Addr the IP address and port
	// that was tried: "" if there is none because of [TroubleName].
	Host, Addr string
	Trouble    Trouble
	// Reason says what went wrong and what to check; "" without trouble.
	Reason string
	// Result is what the metric handshakes_total calls that; "" without trouble.
	Result string

	Challenge time.Duration // from the key id sent to the challenge complete
	Probation time.Duration // for how long the connection stayed open after the signature
	TLS       string        // the version of TLS; "" without
}

const (
	// refusedAgain is the pause before a refused key is tried once more: a server that
	// was about to end closes everything as well.
	refusedAgain = 200 * time.Millisecond
	// linefeedsWait is how long a server has to answer LFs: one that demands
	// authentication sends its challenge in 45 ms at most.
	linefeedsWait = 500 * time.Millisecond
)

// Examine tries each address of Options.Addrs once, all at the same time, and every IP
// address that a name has, whether an earlier one answers or not. It keeps no connection, and waits
// for no turn behind failed attempts: it is for somebody who wants to know.
func (p *Pool) Examine(ctx context.Context) []Examination {
	found := make([][]Examination, len(p.opts.Addrs))
	var wg sync.WaitGroup
	for i, host := range p.opts.Addrs {
		wg.Go(func() { found[i] = p.examineHost(ctx, host) })
	}
	wg.Wait()
	var all []Examination
	for _, some := range found {
		all = append(all, some...)
	}
	return all
}

// examineHost examines each IP address of one host.
func (p *Pool) examineHost(ctx context.Context, host string) []Examination {
	ips, err := p.resolve(ctx, host, time.Now().Add(p.opts.DialTimeout))
	if err != nil {
		f := p.dialFailure(ctx, host, err)
		return []Examination{{Host: host, Trouble: trouble(f), Reason: f.sentence, Result: string(f.kind)}}
	}
	found := make([]Examination, len(ips))
	name, _, _ := net.SplitHostPort(host) // resolve has done it
	var wg sync.WaitGroup
	for i, ip := range ips {
		p.server(ip, func(s *serverState) { s.host = name })
		wg.Go(func() { found[i] = p.examine(ctx, host, ip) })
	}
	wg.Wait()
	return found
}

// examine examines one server.
func (p *Pool) examine(ctx context.Context, host, addr string) Examination {
	x := Examination{Host: host, Addr: addr}
	creds := p.creds.Load()
	try := func() (*Conn, failure) {
		return p.attempt(ctx, addr, time.Now().Add(p.opts.DialTimeout), nil, creds, creds.key)
	}
	c, f := try()
	if f.kind == kindRefused && pause(ctx, refusedAgain, nil) == nil {
		c, f = try()
	}
	if c != nil {
		x.Challenge = c.challenge
		x.Probation = probation(c.challenge)
		if c.tls != nil {
			x.TLS = tls.VersionName(c.tls.ConnectionState().Version)
		}
		c.leave(ctx)
		return x
	}
	x.Trouble, x.Reason, x.Result = trouble(f), f.sentence, string(f.kind)
	if f.kind == kindClosedBefore && p.takesLinefeeds(ctx, addr) {
		x.Trouble = TroubleNoAuth
		x.Reason = fmt.Sprintf("no authentication: %s closed the connection on a key id, which it took for a malformed record; QuestDB takes records from everybody there", addr)
	}
	return x
}

// takesLinefeeds reports whether the server takes LFs without a word, as QuestDB does that
// demands no authentication: for one that does they are a key id, which gets a challenge,
// and one that is full, or a relay without a server, closes.
func (p *Pool) takesLinefeeds(ctx context.Context, addr string) bool {
	dctx, cancel := context.WithTimeout(ctx, p.opts.DialTimeout)
	defer cancel()
	nc, err := p.opts.Dial(dctx, "tcp", addr)
	if err != nil {
		return false
	}
	if config := p.creds.Load().tls; config != nil {
		sec, err := secure(ctx, nc, config, p.host(addr), p.opts.AuthTimeout)
		if err != nil {
			return false // secure has closed it
		}
		nc = sec
	}
	defer below(nc).Close() // nothing was sent that could be lost
	defer context.AfterFunc(ctx, func() { _ = below(nc).Close() })()
	if _, err := nc.Write([]byte("\n\n\n\n")); err != nil {
		return false
	}
	if nc.SetReadDeadline(time.Now().Add(linefeedsWait)) != nil {
		return false
	}
	var timeout net.Error
	_, err = nc.Read(make([]byte, 1))
	return errors.As(err, &timeout) && timeout.Timeout()
}

// trouble is of which kind a failure is for the operator.
func trouble(f failure) Trouble {
	var dns *net.DNSError
	switch f.kind {
	case kindDial:
		if errors.As(f.err, &dns) {
			return TroubleName
		}
		return TroubleConnect
	case kindNoChallenge, kindClosedBefore:
		return TroubleSilent
	case kindMalformed:
		return TroubleNotQuestDB
	case kindRefused:
		return TroubleRefused
	case kindTLSExpired, kindTLSName, kindTLSUnknownCA, kindTLSPlain, kindTLSClientCert, kindTLSFailed:
		return TroubleTLS
	case kindNone:
		return TroubleUnfinished
	}
	return TroubleLost
}
