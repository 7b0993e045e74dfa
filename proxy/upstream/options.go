package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"questdb-ilp-proxy/auth"
)

// Options say what a Pool connects to and how. Addrs and Key are required.
type Options struct {
	// Addrs are host:port in order of preference: each attempt tries them from the
	// first on, and each IP address that a host name has in turn.
	Addrs []string
	// Key is what they authenticate with; see [Pool.SetCredentials] for another one.
	Key *auth.Key
	// TLS is for connections over TLS; nil: without. An empty ServerName means the
	// host in Addrs. Connections share its ClientSessionCache.
	TLS *tls.Config

	MinIdle int // connections kept ready; 0: none is made before one is asked for
	Max     int // connections in all, those being made included; 0: 16

	DialTimeout time.Duration // to resolve and connect to one of Addrs; 0: 10 s
	AuthTimeout time.Duration // from connected to the signature sent; 0: 15 s
	RetryBase   time.Duration // the first pause after a failure; 0: 100 ms
	RetryMax    time.Duration // the longest pause, and that after refused credentials; 0: 30 s

	// MaxAge is after how long an idle connection is replaced, less up to a fifth
	// by chance, so that a server's idle timeout rarely meets one. 0: 5 min.
	MaxAge time.Duration

	// Unreachable is called, if it is set, when no TCP connection could be made to a server,
	// by its IP address and port: what was learned of it need not hold any more. It must
	// return at once.
	Unreachable func(addr string)

	// Dial connects; nil: a net.Dialer. TCP options are set on a *net.TCPConn.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Logger  *slog.Logger // nil: no log
	Metrics *Metrics     // nil: none
}

// withDefaults returns o with what its zero values stand for.
func (o Options) withDefaults() Options {
	o.Max = cmp.Or(o.Max, 16)
	o.DialTimeout = cmp.Or(o.DialTimeout, 10*time.Second)
	o.AuthTimeout = cmp.Or(o.AuthTimeout, 15*time.Second)
	o.RetryBase = cmp.Or(o.RetryBase, 100*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 30*time.Second)
	o.MaxAge = cmp.Or(o.MaxAge, 5*time.Minute)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return o
}

// check returns every error in o at once.
func (o Options) check() error {
	var errs []error
	if len(o.Addrs) == 0 {
		errs = append(errs, errors.New("no address of QuestDB"))
	}
	for _, a := range o.Addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			errs = append(errs, fmt.Errorf("address of QuestDB: %w", err))
		}
	}
	if o.Key == nil {
		errs = append(errs, errors.New("no key to authenticate with"))
	}
	if o.Max < 1 {
		errs = append(errs, fmt.Errorf("at most %d connections: must be at least 1", o.Max))
	}
	if o.MinIdle < 0 || o.MinIdle > o.Max {
		errs = append(errs, fmt.Errorf("%d connections kept ready: must be 0 to %d, as many as there may be in all", o.MinIdle, o.Max))
	}
	for what, d := range map[string]time.Duration{"dial timeout": o.DialTimeout, "authentication timeout": o.AuthTimeout,
		"shortest retry pause": o.RetryBase, "longest retry pause": o.RetryMax, "longest age": o.MaxAge} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is negative", what, d))
		}
	}
	return errors.Join(errs...)
}
