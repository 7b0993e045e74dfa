package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// secured is a TLS connection to QuestDB, and what is below it.
type secured struct {
	*tls.Conn
	below *transport
	// asked is whether the server asked for a client certificate, and offered
	// whether it got one.
	asked, offered bool
	// notifies is whether the server was ever seen to end with a close_notify.
	notifies *atomic.Bool
}

// transport is the TCP connection below TLS. It counts what was read from it, so
// that it can be told from what has come and was not read yet, and it keeps TLS from
// ending our half-close by a deadline of its own: a server that does not read is no
// failure.
type transport struct {
	net.Conn
	got     int64        // bytes read; only for the reader
	handled atomic.Int64 // of these, those that TLS has dealt with
	patient atomic.Bool  // deadlines of writes are not passed on
	ended   bool         // TCP ended before TLS did; only for the reader
}

// Read is called by TLS only when it has dealt with all that it read before.
func (t *transport) Read(p []byte) (int, error) {
	t.handled.Store(t.got)
	n, err := t.Conn.Read(p)
	t.got += int64(n)
	t.ended = t.ended || errors.Is(err, io.EOF)
	return n, err
}

// SetWriteDeadline implements [net.Conn].
func (t *transport) SetWriteDeadline(d time.Time) error {
	if t.patient.Load() {
		return nil
	}
	return t.Conn.SetWriteDeadline(d)
}

// errCut is how a connection ends that TCP alone has ended, where the server says
// close_notify otherwise. A TCP connection can be ended by whoever is between, and is by
// the end of a terminator that has not passed everything on.
var errCut = errors.New("the connection was cut: it ended without TLS's close_notify, which this server has sent before; " +
	"or if there is another one now that sends none, restart the proxy")

// endedWell tells how the server ended TLS after our half-close. Not every server says
// close_notify: it is demanded of one that ever did so.
func (s *secured) endedWell() error {
	if !s.below.ended {
		s.notifies.Store(true)
	} else if s.notifies.Load() {
		return errCut
	}
	return nil
}

// errNotTLS is what a server has that ends the connection in the TLS handshake.
var errNotTLS = errors.New("closed in the TLS handshake")

// tlsError is why there is no TLS connection, or how TLS ended one.
type tlsError struct {
	err            error
	asked, offered bool // a client certificate
}

func (e *tlsError) Error() string { return "TLS: " + strings.TrimPrefix(shown(e.err.Error()), "tls: ") }
func (e *tlsError) Unwrap() error { return e.err }

// secure makes the TLS handshake over nc, with the server that the address belongs
// to whose name or address is host. On error nc is closed.
func secure(ctx context.Context, nc net.Conn, config *tls.Config, host string, timeout time.Duration) (*secured, error) {
	s := &secured{below: &transport{Conn: nc}}
	config = config.Clone() // the sessions are shared with the original
	if config.ServerName == "" {
		config.ServerName = host
	}
	certificates := config.Certificates
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		s.asked = true
		if len(certificates) == 0 {
			return &tls.Certificate{}, nil
		}
		// Whether or not it is from a CA that the server names: then the server says so.
		s.offered = true
		return &certificates[0], nil
	}
	s.Conn = tls.Client(s.below, config)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no TLS handshake within %v", timeout))
	defer cancel()
	if err := s.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // of no use any more
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.Is(err, io.EOF):
			err = errNotTLS
		}
		return nil, &tlsError{err, s.asked, s.offered}
	}
	return s, nil
}

// explain makes a [tlsError] of an error that TLS is the reason for: a server that
// wants another client certificate says so only after the handshake, in TLS 1.3.
func (s *secured) explain(err error) error {
	if _, ok := alertOf(err); s == nil || !ok {
		return err
	}
	return &tlsError{err, s.asked, s.offered}
}

// alertOf is the server's alert that err tells of. What crypto/tls returns over TCP has
// a type of its own that is not exported; its text is the same.
func alertOf(err error) (tls.AlertError, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	text := op.Err.Error()
	for code := range 256 {
		if alert := tls.AlertError(code); alert.Error() == text {
			return alert, true
		}
	}
	return 0, false
}

// closeNotify tells the server that we have no more to say. It waits for as long as
// the server takes nothing, or until the connection ends.
func (s *secured) closeNotify() error {
	s.below.patient.Store(true)
	return s.CloseWrite()
}

// The alerts by which a server says that a client certificate is missing, or not to
// its liking.
const (
	alertHandshakeFailure    = tls.AlertError(40) // TLS 1.2 has no certificate_required
	alertBadCertificate      = tls.AlertError(42)
	alertUnsupportedCert     = tls.AlertError(43)
	alertRevoked             = tls.AlertError(44)
	alertExpired             = tls.AlertError(45)
	alertUnknownCert         = tls.AlertError(46)
	alertUnknownCA           = tls.AlertError(48)
	alertAccessDenied        = tls.AlertError(49)
	alertProtocolVersion     = tls.AlertError(70)
	alertUnrecognizedName    = tls.AlertError(112)
	alertCertificateRequired = tls.AlertError(116)
)

// tlsFailure says what is wrong with TLS to the server at addr, whose certificate
// should be for name.
func tlsFailure(e *tlsError, addr, name string) (kind, string) {
	var (
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
		header   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		timeout  net.Error
	)
	if alert, ok := alertOf(e); ok {
		return alertFailure(e, alert, addr)
	}
	switch {
	case errors.As(e, &invalid) && invalid.Reason == x509.Expired:
		return kindTLSExpired, fmt.Sprintf("expired certificate: that of %s is not valid now (%s); renew it there, or set this machine's clock", addr, invalid.Detail)
	case errors.As(e, &hostname):
		return kindTLSName, fmt.Sprintf("wrong name: the certificate of %s is not for %q (%s); connect by a name that it has, or set "+
			"ILP_TLS_SERVER_NAME to one", addr, name, shown(hostname.Error()))
	case errors.As(e, &unknown):
		return kindTLSUnknownCA, fmt.Sprintf("unknown CA: the certificate of %s comes from an authority that is not trusted (%s); set ILP_TLS_CA to a "+
			"PEM file of that authority", addr, issuer(unknown))
	case errors.As(e, &verify):
		return kindTLSFailed, fmt.Sprintf("certificate not accepted: that of %s (%s)", addr, shown(verify.Err.Error()))
	case errors.As(e, &header):
		return kindTLSPlain, fmt.Sprintf("no TLS: %s answers with something else; check that it is a port for TLS, or use tcp:// if it is QuestDB's own (its open "+
			"edition has no TLS there)", addr)
	case errors.Is(e, errNotTLS):
		return kindTLSPlain, fmt.Sprintf("no TLS: %s closed the connection in the TLS handshake; check that it is a port for TLS, or use tcp:// if it is "+
			"QuestDB's own (its open edition has no TLS there)", addr)
	case errors.Is(e, context.DeadlineExceeded) || errors.As(e, &timeout) && timeout.Timeout() || strings.HasPrefix(e.err.Error(), "no TLS handshake"):
		return kindTLSPlain, fmt.Sprintf("%v with %s: check that it is a port for TLS, or use tcp:// if it is QuestDB's own (its open edition has no TLS "+
			"there); or it is stuck", e.err, addr)
	}
	return kindTLSFailed, fmt.Sprintf("TLS with %s failed: %s", addr, shown(e.err.Error()))
}

// alertFailure says what a server's alert means.
func alertFailure(e *tlsError, alert tls.AlertError, addr string) (kind, string) {
	switch alert {
	case alertCertificateRequired, alertHandshakeFailure, alertBadCertificate, alertUnsupportedCert, alertRevoked, alertExpired, alertUnknownCert,
		alertUnknownCA, alertAccessDenied:
		switch {
		case e.offered:
			return kindTLSClientCert, fmt.Sprintf("client certificate refused: %s does not accept that in ILP_TLS_CERT (it says: %v); check its CA, its time, and "+
				"that the file has the certificates between", addr, alert)
		case e.asked:
			return kindTLSClientCert, fmt.Sprintf("client certificate needed: %s demands one; set ILP_TLS_CERT and ILP_TLS_KEY", addr)
		}
	case alertProtocolVersion:
		return kindTLSFailed, fmt.Sprintf("TLS with %s failed: it has no TLS 1.2 or newer (it says: %v)", addr, alert)
	case alertUnrecognizedName:
		return kindTLSName, fmt.Sprintf("wrong name: %s does not know the name that it was asked for (it says: %v); set ILP_TLS_SERVER_NAME", addr, alert)
	}
	return kindTLSFailed, fmt.Sprintf("TLS with %s failed: it says %v", addr, alert)
}

// issuer is where the certificate comes from.
func issuer(e x509.UnknownAuthorityError) string {
	if e.Cert == nil {
		return "no issuer"
	}
	return "issuer: " + shown(e.Cert.Issuer.String())
}

// maxShown is how many bytes are shown of a text that may have parts of a certificate in
// it, which whoever answers has written.
const maxShown = 300

// shown is the beginning of such a text, as one line and without control characters: it
// is shown on terminals.
func shown(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
