package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/e2e/certs"
	"questdb-ilp-proxy/e2e/standin"
)

// terminate ends TLS before the server at upstream, passing half-closes on, and
// returns its address. Like most terminators it says close_notify before its FIN.
func terminate(t *testing.T, config *tls.Config, upstream string) string {
	t.Helper()
	return acceptAll(t, func(nc net.Conn) { go relay(tls.Server(nc, config), upstream) })
}

// acceptAll calls serve for each connection to the returned address, one after the
// other, for the duration of the test.
func acceptAll(t *testing.T, serve func(nc net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serve(nc)
		}
	}()
	return l.Addr().String()
}

func relay(client *tls.Conn, upstream string) {
	defer client.Close()
	if client.Handshake() != nil {
		return
	}
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
	_ = client.CloseWrite()
	_, _ = io.Copy(io.Discard, client)
}

// withTLS starts a stand-in behind a terminator, and a pool before that.
func withTLS(t *testing.T, server, client *tls.Config, o Options) (*standin.Server, *Pool, *logBuffer) {
	t.Helper()
	if o.Key == nil {
		o.Key = testKey(t)
	}
	s := standin.New(t, o.Key.AuthLine())
	o.Addrs, o.TLS = []string{terminate(t, server, s.Addr())}, client
	o.RetryBase, o.RetryMax = 10*time.Millisecond, 200*time.Millisecond
	p, logs := startPool(t, o)
	return s, p, logs
}

func TestTLS(t *testing.T) {
	ca := certs.CA(t, "test CA")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS()}, MaxVersion: version}
			client := &tls.Config{RootCAs: ca.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8)}
			_, p, logs := withTLS(t, server, client, Options{MinIdle: 2})
			await(t, p, "two connections", func(s Status) bool { return s.Idle == 2 })
			c := acquire(t, p)
			w := p.Witnesses(c.Addr(), c)
			if _, err := c.Write([]byte(strings.Repeat("t a=1i\n", 100_000))); err != nil {
				t.Fatal(err)
			}
			if n, err := c.TryWrite([]byte("t a=1i\n")); n != 0 || err != nil {
				t.Errorf("TryWrite: %d, %v", n, err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if end := awaitEnd(t, c); !end.Clean() {
				t.Errorf("%+v is not clean", end)
			}
			if !w.Alive(t.Context()) {
				t.Error("no sign of life from the other connection")
			}
			if err := p.Prove(t.Context(), c.Addr()); err != nil {
				t.Error(err)
			}
			if !strings.Contains(logs.String(), "resumed=true") {
				t.Errorf("no session was resumed:\n%s", logs)
			}
		})
	}
}

// TestTLSEnds has the server close first, in each way: that is never a clean end.
func TestTLSEnds(t *testing.T) {
	ca := certs.CA(t, "test CA")
	server := &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS()}}
	s, p, _ := withTLS(t, server, &tls.Config{RootCAs: ca.Pool()}, Options{MinIdle: 1})
	c := acquire(t, p)
	s.Close()
	if end := awaitEnd(t, c); end.Clean() || end.AfterHalfClose {
		t.Errorf("%+v", end)
	}
	_ = c.CloseWrite() // too late
	if end := c.End(); end.Clean() {
		t.Errorf("%+v", end)
	}
}

// TestTLSCut has somebody between who takes what goes to the server, and ends the
// connection as the server would: without its close_notify that is no clean end.
func TestTLSCut(t *testing.T) {
	ca := certs.CA(t, "test CA")
	key := testKey(t)
	s := standin.New(t, key.AuthLine())
	server := terminate(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS()}}, s.Addr())
	var hostile atomic.Bool
	between := acceptAll(t, func(nc net.Conn) { go intercept(nc.(*net.TCPConn), server, &hostile) })
	p, _ := startPool(t, Options{Key: key, Addrs: []string{between}, TLS: &tls.Config{RootCAs: ca.Pool()}, MinIdle: 1})
	end := func(cut bool) End {
		t.Helper()
		c := acquire(t, p)
		hostile.Store(cut)
		defer hostile.Store(false)
		if _, err := c.Write([]byte("t a=1i\n")); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		return awaitEnd(t, c)
	}
	for _, cut := range []bool{false, true, false} {
		if end := end(cut); end.Clean() == cut || cut && !errors.Is(end.Err, errCut) {
			t.Errorf("cut: %v; %+v", cut, end)
		}
	}
}

// intercept passes everything on; while hostile is set it swallows what the client says,
// and answers its half-close by itself.
func intercept(client *net.TCPConn, addr string, hostile *atomic.Bool) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := client.Read(buf)
			if err == nil && !hostile.Load() {
				_, err = server.Write(buf[:n])
			}
			if err != nil {
				break
			}
		}
		if hostile.Load() {
			_ = client.CloseWrite()
		}
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
	_ = client.CloseWrite()
}

func TestTLSFailures(t *testing.T) {
	ca, other := certs.CA(t, "test CA"), certs.CA(t, "other CA")
	good := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "127.0.0.1").TLS()}}
	}
	demanding := func(version uint16) *tls.Config {
		c := good()
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool(), version
		return c
	}
	trusting := &tls.Config{RootCAs: ca.Pool()}
	stranger := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{other.Issue(t).TLS()}}
	for name, test := range map[string]struct {
		server, client *tls.Config
		kind           kind
		says           string
	}{
		"expired":          {&tls.Config{Certificates: []tls.Certificate{ca.Expired(t, "127.0.0.1").TLS()}}, trusting, kindTLSExpired, "expired certificate"},
		"wrong name":       {&tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "questdb.example").TLS()}}, trusting, kindTLSName, "wrong name"},
		"asked for name":   {good(), &tls.Config{RootCAs: ca.Pool(), ServerName: "questdb.example"}, kindTLSName, `not for "questdb.example"`},
		"unknown CA":       {good(), &tls.Config{RootCAs: other.Pool()}, kindTLSUnknownCA, "issuer: CN=test CA"},
		"none, 1.3":        {demanding(tls.VersionTLS13), trusting, kindTLSClientCert, "client certificate needed"},
		"none, 1.2":        {demanding(tls.VersionTLS12), trusting, kindTLSClientCert, "client certificate needed"},
		"stranger, 1.3":    {demanding(tls.VersionTLS13), stranger, kindTLSClientCert, "client certificate refused"},
		"stranger, 1.2":    {demanding(tls.VersionTLS12), stranger, kindTLSClientCert, "client certificate refused"},
		"too old a server": {&tls.Config{Certificates: good().Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, kindTLSFailed, "TLS 1.2"},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMetrics(nil)
			_, p, _ := withTLS(t, test.server, test.client, Options{MinIdle: 1, Metrics: m})
			await(t, p, "a reason", func(s Status) bool { return strings.Contains(s.Reason, test.says) })
			if testutil.ToFloat64(m.Handshakes.WithLabelValues(string(test.kind))) == 0 {
				t.Errorf("not counted as %s", test.kind)
			}
		})
	}
}

// TestTLSHostileCertificate has certificates that say more than they should: what is
// shown of it is short, and has nothing that a terminal obeys.
func TestTLSHostileCertificate(t *testing.T) {
	hostile := "\x1b[2Jall is well\n" + strings.Repeat("x", 5000)
	for name, pair := range map[string]*certs.Pair{
		"issuer": certs.CA(t, hostile).Issue(t, "127.0.0.1"),
		"name":   certs.CA(t, "test CA").Issue(t, hostile),
	} {
		t.Run(name, func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
			client := &tls.Config{RootCAs: certs.CA(t, "other CA").Pool()}
			if name == "name" { // asked for by one, else those that it has are not told
				client.ServerName = "questdb.example"
			}
			_, p, _ := withTLS(t, server, client, Options{MinIdle: 1})
			var reason string
			await(t, p, "a reason", func(s Status) bool { reason = s.Reason; return strings.Contains(reason, "all is well") })
			if len(reason) > 1000 || strings.ContainsFunc(reason, unicode.IsControl) {
				t.Errorf("%d bytes: %q", len(reason), reason)
			}
		})
	}
}

// TestTLSToPlain has servers that do not speak TLS: one that talks, one that closes,
// one that says nothing.
func TestTLSToPlain(t *testing.T) {
	for name, answer := range map[string]string{"talks": "220 hello, who is there\r\n", "closes": "", "silent": "-"} {
		t.Run(name, func(t *testing.T) {
			addr := acceptAll(t, func(nc net.Conn) {
				_, _ = nc.Read(make([]byte, 4096))
				if answer != "-" {
					_, _ = io.WriteString(nc, answer)
					nc.Close()
				} else {
					t.Cleanup(func() { nc.Close() })
				}
			})
			m := NewMetrics(nil)
			p, _ := startPool(t, Options{Key: testKey(t), Addrs: []string{addr}, MinIdle: 1, Metrics: m,
				TLS: &tls.Config{}, AuthTimeout: 200 * time.Millisecond})
			await(t, p, "a reason", func(s Status) bool { return strings.Contains(s.Reason, "check that it is a port for TLS") })
			if testutil.ToFloat64(m.Handshakes.WithLabelValues(string(kindTLSPlain))) == 0 {
				t.Errorf("not counted as %s", kindTLSPlain)
			}
		})
	}
}
