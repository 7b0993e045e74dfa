package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"questdb-ilp-proxy/auth"
)

const (
	// A server that refuses closes 0.1 to 10 ms after the signature, whether the
	// key id is unknown or the signature wrong. Probation is 25 times that, more
	// on a slow path or before a busy server: there the challenge was slow as well.
	probationMin    = 250 * time.Millisecond
	probationFactor = 5
	probationMax    = 2 * time.Second

	// probationTrusted is for a server that accepted the same key lately, and is as
	// quick as then: twice the slowest refusal measured.
	probationTrusted = 20 * time.Millisecond
	trustChallenge   = 10 * time.Millisecond
	trustFor         = time.Minute

	// minDialShare is the least time for one of several IP addresses of a name.
	minDialShare = time.Second
)

// probation is how long a connection is watched after its signature.
func probation(challenge time.Duration) time.Duration {
	return min(max(probationMin, probationFactor*challenge), probationMax)
}

// kind is how an attempt ended: a value of the handshakes metric's label "result".
type kind string

const (
	kindOK            kind = "ok"
	kindDial          kind = "dial_failed"
	kindClosedBefore  kind = "closed_before_challenge"
	kindNoChallenge   kind = "no_challenge"
	kindMalformed     kind = "malformed_challenge"
	kindRefused       kind = "refused"
	kindClosedAfter   kind = "closed_after_signature"
	kindTLSExpired    kind = "tls_expired"
	kindTLSName       kind = "tls_wrong_name"
	kindTLSUnknownCA  kind = "tls_unknown_ca"
	kindTLSPlain      kind = "tls_not_spoken"
	kindTLSClientCert kind = "tls_client_certificate"
	kindTLSFailed     kind = "tls_failed"
	kindDiedYoung     kind = "died_young" // no handshake's result: a ready connection ended at once
	kindSeveral       kind = "several"    // no handshake's result: addresses failed in different ways
	kindNone          kind = ""           // none
)

// handshakeResults are the values of the label from the start.
var handshakeResults = []kind{kindOK, kindDial, kindClosedBefore, kindNoChallenge, kindMalformed, kindRefused, kindClosedAfter,
	kindTLSExpired, kindTLSName, kindTLSUnknownCA, kindTLSPlain, kindTLSClientCert, kindTLSFailed}

// failure is one failed attempt.
type failure struct {
	kind     kind
	sentence string // for the operator
	err      error
	certain  bool          // refused more than once: the credentials are wrong
	retryIn  time.Duration // the pause that follows, 0 if there was one already
}

// connect makes one authenticated connection: it tries every address in order
// until one survives its probation. The error is a failure in each way in which
// the addresses failed; if ctx ended, failure.kind is kindNone.
func (p *Pool) connect(ctx context.Context) (*Conn, failure) {
	var failures []failure
	for _, addr := range p.opts.Addrs {
		c, fs := p.connectHost(ctx, addr)
		failures = append(failures, fs...)
		if c != nil {
			if len(failures) > 0 {
				p.reports.skipped(joinFailures(failures), c.addr)
			}
			return c, failure{}
		}
		if ctx.Err() != nil {
			return nil, failure{err: context.Cause(ctx)}
		}
	}
	return nil, joinFailures(failures)
}

// connectHost tries each IP address of one host in turn. It returns the failures
// before the success as well.
func (p *Pool) connectHost(ctx context.Context, addr string) (*Conn, []failure) {
	deadline := time.Now().Add(p.opts.DialTimeout) // resolving and dialling; the handshake has its own
	ips, err := p.resolve(ctx, addr, deadline)
	if err != nil {
		return nil, []failure{p.dialFailure(ctx, addr, err)}
	}
	var failures []failure
	host, _, _ := net.SplitHostPort(addr) // resolve has done it
	for i, ip := range ips {
		p.server(ip, func(s *serverState) { s.host = host })
		until := deadline
		if left := time.Until(deadline); i < len(ips)-1 {
			// A share of what is left, so that one dead address leaves time for the others.
			until = time.Now().Add(min(left, max(left/time.Duration(len(ips)-i), minDialShare)))
		}
		start := time.Now()
		c, f := p.connectIP(ctx, ip, until, nil)
		if c != nil {
			return c, failures
		}
		// What a handshake took must not shorten the next address's dial.
		if f.kind != kindDial {
			deadline = deadline.Add(time.Since(start))
		}
		failures = append(failures, f)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failures
}

// resolve returns addr's IP addresses with its port.
func (p *Pool) resolve(ctx context.Context, addr string, deadline time.Time) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{addr}, nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	hosts, err := p.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = net.JoinHostPort(h, port)
	}
	return out, nil
}

// connectIP dials one server, authenticates and sits out the probation. Unless it
// is nil, answered is called, before the probation, with how long the challenge took.
func (p *Pool) connectIP(ctx context.Context, addr string, dialUntil time.Time, answered func(challenge time.Duration)) (*Conn, failure) {
	creds := p.creds.Load()
	c, f := p.attempt(ctx, addr, dialUntil, answered, creds, creds.key)
	if before := creds.before.Load(); f.kind == kindRefused && before != nil {
		if old, _ := p.attempt(ctx, addr, time.Now().Add(p.opts.DialTimeout), answered, creds, before); old != nil {
			p.reports.keyNotKnown(addr, creds.key.ID(), before.ID())
			return old, failure{}
		}
	}
	return c, f
}

// attempt is connectIP with one key.
func (p *Pool) attempt(ctx context.Context, addr string, dialUntil time.Time, answered func(challenge time.Duration), creds *credentials, key *auth.Key) (*Conn, failure) {
	start := time.Now()
	dctx, cancel := context.WithDeadline(ctx, dialUntil)
	nc, err := p.opts.Dial(dctx, "tcp", addr)
	cancel()
	if err != nil {
		p.server(addr, (*serverState).distrust)
		if p.opts.Unreachable != nil && ctx.Err() == nil {
			p.opts.Unreachable(addr)
		}
		return nil, p.dialFailure(ctx, addr, err)
	}
	setSocketOptions(nc)
	var sec *secured
	if creds.tls != nil {
		if sec, err = secure(ctx, nc, creds.tls, p.host(addr), p.opts.AuthTimeout); err != nil {
			p.server(addr, (*serverState).distrust)
			return nil, p.handshakeFailure(ctx, addr, key, err)
		}
		p.server(addr, func(s *serverState) { sec.notifies = &s.notifies })
		nc = sec
	}
	result, err := auth.Handshake(ctx, nc, key, p.opts.AuthTimeout)
	if err != nil {
		// Not nc: TLS would still have something to say. It is of no use any more.
		_ = below(nc).Close()
		p.server(addr, (*serverState).distrust)
		return nil, p.handshakeFailure(ctx, addr, key, sec.explain(err))
	}
	if answered != nil {
		answered(result.Challenge)
	}
	wait := probation(result.Challenge)
	p.server(addr, func(s *serverState) {
		if s.trusted(time.Now()) && result.Challenge < trustChallenge {
			wait = probationTrusted
		}
		s.challenged(result.Challenge)
	})
	took := time.Since(start) // the server has had its say; the probation is ours
	// From here on the reader watches the connection, for its whole life.
	c := newConn(p, p.lastID.Add(1), addr, nc, result.Challenge)
	c.creds, c.key = creds, key
	p.goroutines.Go(c.read)
	survived := c.survives(ctx, wait)
	if survived && wait == probationTrusted {
		// Whoever failed meanwhile may have been refused, by a server with other keys.
		p.server(addr, func(s *serverState) {
			if !s.trusted(time.Now()) {
				wait = probation(result.Challenge)
			}
		})
		survived = wait == probationTrusted || c.survives(ctx, wait)
	}
	if !survived {
		c.close()
		p.server(addr, (*serverState).distrust)
		return nil, p.handshakeFailure(ctx, addr, key, sec.explain(auth.ClassifyEnd(c.end.Err)))
	}
	c.established = time.Now()
	if key == creds.key {
		creds.accepted.Store(true)
		creds.before.Store(nil)
		p.server(addr, func(s *serverState) {
			if creds == p.creds.Load() {
				s.accept(c.established)
			}
		})
	}
	c.renewAt = renewAt(c.established, p.opts.MaxAge)
	p.metrics.handshake(kindOK)
	p.handshakes.note(addr, kindOK, "", took)
	attrs := []any{"handshake", took, "challenge", result.Challenge}
	if sec != nil {
		state := sec.ConnectionState()
		attrs = append(attrs, "tls", tls.VersionName(state.Version), "resumed", state.DidResume)
	}
	c.log.Debug("connection to QuestDB ready", attrs...)
	p.metrics.HandshakeSeconds.Observe(took.Seconds())
	return c, failure{}
}

// survives reports whether the connection is open after d. If ctx ends before, it
// does not.
func (c *Conn) survives(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.done:
		return false
	case <-ctx.Done():
		return false
	}
	// The reader may be late to notice, on a busy machine.
	if c.raw != nil && !openInKernel(c.raw) {
		<-c.done
	}
	return c.alive()
}

// dialFailure says why there is no connection at all.
func (p *Pool) dialFailure(ctx context.Context, addr string, err error) failure {
	if ctx.Err() != nil {
		return failure{err: ctx.Err()}
	}
	p.metrics.handshake(kindDial)
	f := failure{kind: kindDial, err: fmt.Errorf("connect to QuestDB at %s: %w", addr, err)}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		f.sentence = fmt.Sprintf("no answer: the name in %s cannot be resolved (%v); check the host name and the DNS", addr, dns.Err)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		f.sentence = fmt.Sprintf("no answer: %s did not accept a connection in time; check the address, the network and firewalls", addr)
	default:
		f.sentence = fmt.Sprintf("no answer: %v; check that QuestDB runs and that %s is its ILP port (9009 by default)", rootCause(err), addr)
	}
	p.handshakes.note(addr, f.kind, f.sentence, 0)
	return f
}

// handshakeFailure says why there is no authenticated connection.
func (p *Pool) handshakeFailure(ctx context.Context, addr string, key *auth.Key, err error) failure {
	if ctx.Err() != nil {
		return failure{err: ctx.Err()}
	}
	f := failure{err: fmt.Errorf("authenticate with QuestDB at %s: %w", addr, err)}
	var overTLS *tlsError
	switch {
	case errors.As(err, &overTLS):
		f.kind, f.sentence = tlsFailure(overTLS, addr, p.serverName(addr))
	case errors.Is(err, auth.ErrRefused):
		f.kind = kindRefused
		f.sentence = fmt.Sprintf("wrong credentials: QuestDB at %s refused key id %q; check the key id, the private key, "+
			"and that QuestDB's auth.txt has this id with the x and y of this key (and was read: it is only at QuestDB's start)",
			addr, key.ID())
		if last := p.handshakes.lastOK(addr); !last.IsZero() {
			f.sentence += fmt.Sprintf("; or it is shutting down, for it accepted one %v ago", max(time.Since(last).Round(time.Second), time.Second))
		}
	case errors.Is(err, auth.ErrNoChallenge):
		f.kind = kindNoChallenge
		f.sentence = fmt.Sprintf("no challenge within %v from %s: the server is full (line.tcp.net.connection.limit), stuck, "+
			"or without authentication", p.opts.AuthTimeout, addr)
	case errors.Is(err, auth.ErrChallengeMalformed):
		f.kind = kindMalformed
		f.sentence = fmt.Sprintf("malformed challenge from %s: is this QuestDB's ILP port over TCP (9009 by default)? "+
			"If it is one for TLS, use tcps://", addr)
	case errors.Is(err, auth.ErrClosedBeforeChallenge):
		f.kind = kindClosedBefore
		f.sentence = fmt.Sprintf("server closed instead of a challenge: %s is full (line.tcp.net.connection.limit), shutting down, "+
			"or without authentication (line.tcp.auth.db.path)", addr)
	default:
		f.kind = kindClosedAfter
		f.sentence = fmt.Sprintf("connection lost after the signature: %s or something before it reset the connection", addr)
	}
	p.metrics.handshake(f.kind)
	p.handshakes.note(addr, f.kind, f.sentence, 0)
	return f
}

// diedYoung is the failure of a server that accepts the key and closes at once.
func diedYoung(addr string, age time.Duration, err error) failure {
	if err == nil {
		err = io.EOF
	}
	return failure{
		kind: kindDiedYoung,
		sentence: fmt.Sprintf("%s closes authenticated connections at once (this one after %v): the server is shutting down or in trouble; "+
			"see its log", addr, age.Round(time.Millisecond)),
		err: fmt.Errorf("connection to QuestDB at %s ended %v after it was ready: %w", addr, age.Round(time.Millisecond), err),
	}
}

// joinFailures makes one failure of those of several addresses.
func joinFailures(fs []failure) failure {
	if len(fs) == 1 {
		return fs[0]
	}
	joined := failure{kind: fs[0].kind}
	var sentences []string
	var errs []error
	for _, f := range fs {
		if f.kind != joined.kind {
			joined.kind = kindSeveral
		}
		sentences = append(sentences, f.sentence)
		errs = append(errs, f.err)
	}
	joined.sentence = strings.Join(sentences, "; ")
	joined.err = errors.Join(errs...)
	return joined
}

// rootCause is the innermost error: "connection refused" without the addresses.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
