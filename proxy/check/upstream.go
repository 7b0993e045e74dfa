package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/upstream"
)

// connections is how many of QuestDB's the check may use at a time. The path check needs
// one to try, one to see that the server lives on, and one that proves it.
const connections = 4

// examine authenticates at each server, and looks at the path to those that accept.
func examine(ctx context.Context, o Options) []Finding {
	c := o.Config
	phase := max(o.Timeout/4, time.Millisecond)
	pool, err := upstream.New(upstream.Options{
		Addrs: c.Upstream, Key: c.Key, TLS: c.TLS, Max: connections,
		DialTimeout: min(c.DialTimeout, phase), AuthTimeout: min(c.AuthTimeout, phase),
		RetryBase: c.RetryBase, RetryMax: c.RetryMax,
	})
	if err != nil {
		return []Finding{{Kind: Other, About: "QuestDB", Text: err.Error()}}
	}
	pool.Start()
	defer pool.Close()
	var findings []Finding
	for _, x := range pool.Examine(ctx) {
		findings = append(findings, handshake(ctx, c, x))
		if x.Trouble == upstream.NoTrouble {
			findings = append(findings, path(ctx, o, pool, x))
		}
	}
	return findings
}

// about names a server as the configuration does, and its IP address.
func about(c *config.Config, x upstream.Examination) string {
	scheme := "tcp://"
	if c.UpstreamTLS {
		scheme = "tcps://"
	}
	if x.Addr == "" || x.Addr == x.Host {
		return scheme + x.Host
	}
	ip, _, _ := net.SplitHostPort(x.Addr) // it was connected to
	return scheme + x.Host + " (" + ip + ")"
}

// handshake says how the attempt to authenticate went.
func handshake(ctx context.Context, c *config.Config, x upstream.Examination) Finding {
	f := Finding{Kind: Other, About: about(c, x), Text: x.Reason}
	switch x.Trouble {
	case upstream.NoTrouble:
		f.Kind = OK
		over := ""
		if x.TLS != "" {
			over = " over " + x.TLS
		}
		f.Text = fmt.Sprintf("connected%s and authenticated as %q: the challenge came after %v, and QuestDB, which says nothing to a key that it accepts, "+
			"did not close the connection within %v after the signature", over, c.Key.ID(), x.Challenge.Round(10*time.Microsecond), x.Probation)
	case upstream.TroubleName:
		f.Kind, f.Do = Name, "correct the host name, or use the IP address"
	case upstream.TroubleConnect:
		f.Kind, f.Do = Connect, "start QuestDB, or correct the address; from here, firewalls and network policies have to let it through"
	case upstream.TroubleTLS:
		f.Kind, f.Do = TLS, tlsAdvice(x.Result)
	case upstream.TroubleSilent:
		f.Kind, f.Do = Silent, "see that it is the port of line.tcp.net.bind.to (9009 by default; 9000 is HTTP, 8812 the PostgreSQL wire); look at QuestDB's log; close connections that nobody needs, or raise line.tcp.net.connection.limit; restart it if it is stuck; "+
			"with line.tcp.auth.db.path unset and line.tcp.disconnect.on.error=false it is silent as well"
	case upstream.TroubleNoAuth:
		f.Kind, f.Do = NoAuth, "put the line of `authline` into conf/auth.txt, set line.tcp.auth.db.path=conf/auth.txt in server.conf, and restart QuestDB; "+
			"or, if everybody may write there, let writers connect to it directly"
	case upstream.TroubleNotQuestDB:
		f.Kind, f.Do = NotQuestDB, "use the address of line.tcp.net.bind.to; 9000 is HTTP, 8812 the PostgreSQL wire"
	case upstream.TroubleRefused:
		f.Kind, f.Do = Refused, fmt.Sprintf("compare QuestDB's auth.txt with this line, and restart QuestDB, which reads it only when it starts: %s", c.Key.AuthLine())
	case upstream.TroubleLost:
		f.Do = "look at QuestDB's log, and at what lies between"
	case upstream.TroubleUnfinished:
		f.Text, f.Do = context.Cause(ctx).Error(), "allow more with --timeout"
	}
	return f
}

// tlsAdvice is what to do where TLS failed with that result.
func tlsAdvice(result string) string {
	switch result {
	case "tls_expired":
		return "renew the certificate of QuestDB, or of the TLS terminator before it; or set this machine's clock"
	case "tls_wrong_name":
		return "use a name in ILP_UPSTREAM that the certificate has, or set ILP_TLS_SERVER_NAME to one"
	case "tls_unknown_ca":
		return "set ILP_TLS_CA to a PEM file of the authority that the certificate comes from"
	case "tls_not_spoken":
		return "use the port that is for TLS; or tcp:// for that of QuestDB's open edition, which has no TLS there; if it is the right one, it may be stuck: look at its log"
	case "tls_client_certificate":
		return "set ILP_TLS_CERT and ILP_TLS_KEY to a certificate, with those between, that comes from the authority that the server trusts"
	}
	return "look at the log of QuestDB, or of the TLS terminator before it: it needs TLS 1.2 or newer, and a certificate that can be verified"
}

// path says what the way to a server, and the server, do with a refused record.
func path(ctx context.Context, o Options, pool *upstream.Pool, x upstream.Examination) Finding {
	f := Finding{Kind: Note, About: about(o.Config, x)}
	if !o.Config.PathCheck {
		f.Text = "ILP_PATH_CHECK=off: whether refused records show is not looked at; the proxy waits a little longer for each confirmation"
		return f
	}
	kind, padding, err := delivery.ExplorePath(ctx, o.Source(pool), x.Addr)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Finding{Other, f.About, fmt.Sprintf("whether refused records show could not be found out: %v", err),
			"check again; if it stays like that, look at QuestDB's log, and at line.tcp.net.connection.limit"}
	}
	switch kind {
	case delivery.PathResets:
		f.Kind = OK
		f.Text = fmt.Sprintf("a connection that carried padding alone (%d bytes) ended well, and each with a malformed record before that in a reset: "+
			"QuestDB reads what is sent, and records that it refuses will show", padding)
	case delivery.PathSkips:
		f.Text = "QuestDB skips malformed records by itself (line.tcp.disconnect.on.error=false): what it skips is in its log only, and no record can be found and kept by the proxy"
		f.Do = "line.tcp.disconnect.on.error=true, QuestDB's default, lets ILP_REJECTED_FILE have them"
	default:
		f.Text = "something between hides connection resets (a relay or TLS terminator; or line.tcp.recv.buffer.size is none of 32, 64 and 128 KiB): refused records are found all the same, " +
			"but each confirmation waits a quarter of a second longer, and up to four where QuestDB is slow"
		f.Do = "nothing has to be done; without the relay it is faster"
	}
	return f
}

// rootCause is the innermost error, without paths and addresses, which may hold what
// was put there by mistake.
func rootCause(err error) error {
	var path *os.PathError
	var op *net.OpError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &op):
		return op.Err
	}
	return err
}
