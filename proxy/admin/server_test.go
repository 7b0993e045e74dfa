package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what should happen at once.
const patience = 5 * time.Second

// start serves on a port from the kernel until the test ends.
func start(t *testing.T, opts Options, lim limits) *Server {
	t.Helper()
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	s := newServer(opts, lim)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve after Shutdown: %v, want nil", err)
		}
	})
	return s
}

// dial opens a connection on which no wait is longer than patience.
func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends one request on conn and returns the answer, its body read.
func exchange(t *testing.T, conn net.Conn, path string) *http.Response {
	t.Helper()
	resp, err := tryExchange(conn, path)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func tryExchange(conn net.Conn, path string) (*http.Response, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, errors.Join(err, resp.Body.Close())
}

// wantEnded waits for the end of conn, whether by FIN or reset.
func wantEnded(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		t.Errorf("the connection is still open after %v", patience)
	}
}

func TestServe(t *testing.T) {
	s := start(t, testOptions(), defaultLimits)
	conn := dial(t, s)
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/"} {
		if resp := exchange(t, conn, path); resp.StatusCode != 200 || resp.Close {
			t.Errorf("%s: %s, close %v, want 200 on a connection that is kept", path, resp.Status, resp.Close)
		}
	}
}

func TestZeroOptions(t *testing.T) {
	s := start(t, Options{}, defaultLimits)
	for _, path := range []string{"/readyz", "/metrics"} {
		if resp := exchange(t, dial(t, s), path); resp.StatusCode != 200 {
			t.Errorf("%s: %s, want 200", path, resp.Status)
		}
	}
}

func TestHostIsChecked(t *testing.T) {
	for _, c := range []struct {
		addr, host string
		want       int
	}{
		{"127.0.0.1:0", "proxy.example", 421}, {"0.0.0.0:0", "proxy.example", 421},
		{"127.0.0.1:0", "proxy", 421}, {"0.0.0.0:0", "proxy", 200},
		{"127.0.0.1:0", "10.0.0.7:9090", 421}, {"0.0.0.0:0", "10.0.0.7:9090", 200},
	} {
		t.Run(c.addr+" "+c.host, func(t *testing.T) {
			s := start(t, Options{Addr: c.addr}, defaultLimits)
			_, port, err := net.SplitHostPort(s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: "+c.host+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s, want %d", resp.Status, c.want)
			}
		})
	}
}

func TestEveryLimitIsSet(t *testing.T) {
	srv := New(Options{}).http
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": srv.ReadHeaderTimeout,
		"ReadTimeout":       srv.ReadTimeout,
		"WriteTimeout":      srv.WriteTimeout,
		"IdleTimeout":       srv.IdleTimeout,
	} {
		if d <= 0 || d > time.Minute {
			t.Errorf("%s is %v, want more than 0 and at most a minute", name, d)
		}
	}
	if srv.MaxHeaderBytes <= 0 || srv.MaxHeaderBytes > 64<<10 {
		t.Errorf("MaxHeaderBytes is %d", srv.MaxHeaderBytes)
	}
}

func TestSlowClientsAreCut(t *testing.T) {
	short := defaultLimits
	short.readHeader, short.read, short.idle = 30*time.Millisecond, 30*time.Millisecond, 30*time.Millisecond
	tests := []struct{ name, sent string }{
		{"silent", ""},
		{"half a header", "GET /livez HTTP/1.1\r\nHost: local"},
		{"body that does not come", "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"},
		{"idle after a request", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	}
	s := start(t, Options{}, short)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t, s)
			if _, err := io.WriteString(conn, tt.sent); err != nil {
				t.Fatal(err)
			}
			wantEnded(t, conn)
		})
	}
}

func TestHugeHeaderIsRefused(t *testing.T) {
	s := start(t, Options{}, defaultLimits)
	conn := dial(t, s)
	go func() { // the answer may come before all is sent
		_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%s, want 431", resp.Status)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	lim := defaultLimits
	lim.conns = 2
	s := start(t, Options{}, lim)
	first := dial(t, s)
	if resp := exchange(t, first, "/livez"); resp.Close {
		t.Error("one connection of two is not crowded, but was not kept")
	}
	silent := dial(t, s)

	// The third waits for a place, and gets the one that becomes free.
	third := dial(t, s)
	answered := make(chan error, 1)
	go func() {
		resp, err := tryExchange(third, "/livez")
		if err == nil && !resp.Close {
			err = errors.New("kept for later although all places are taken")
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a third connection was served beside two (%v)", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = first.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	_ = silent.Close()
}

// All ways in which a connection can be open without a request in progress, each of which must not hold up the end.
func TestShutdownDoesNotWaitForIdleConnections(t *testing.T) {
	tests := []struct {
		name string
		open func(t *testing.T, s *Server, conn net.Conn)
	}{
		{"kept alive", func(t *testing.T, _ *Server, conn net.Conn) { exchange(t, conn, "/livez") }},
		{"never used", func(t *testing.T, s *Server, _ net.Conn) { waitForFresh(t, s, 1) }},
		{"half a first request", func(t *testing.T, s *Server, conn net.Conn) {
			if _, err := io.WriteString(conn, "GET /live"); err != nil {
				t.Fatal(err)
			}
			waitForFresh(t, s, 1)
		}},
		{"half a second request", func(t *testing.T, _ *Server, conn net.Conn) {
			exchange(t, conn, "/livez")
			if _, err := io.WriteString(conn, "GET /live"); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, Options{}, defaultLimits)
			conn := dial(t, s)
			tt.open(t, s, conn)
			began := time.Now()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d > 2*time.Second { // net/http's own wait is 5 s
				t.Errorf("Shutdown took %v", d)
			}
			wantEnded(t, conn)
			if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
				_ = c.Close()
				t.Error("the address still answers after Shutdown")
			}
		})
	}
}

// waitForFresh waits until the server has n connections without a request yet.
func waitForFresh(t *testing.T, s *Server, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got := len(s.fresh)
		s.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d fresh connections, want %d", got, n)
		}
	}
}

func TestShutdownLetsARequestEnd(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, Options{Ready: func() error { close(entered); <-release; return nil }}, defaultLimits)
	conn := dial(t, s)
	answered := make(chan error, 1)
	go func() {
		resp, err := tryExchange(conn, "/readyz")
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		answered <- err
	}()
	<-entered
	shut := make(chan error, 1)
	go func() { shut <- s.Shutdown(t.Context()) }()
	select {
	case err := <-shut:
		t.Fatalf("Shutdown returned (%v) with a request in progress", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request in progress failed: %v", err)
	}
	if err := <-shut; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownBreaksOffAtTheLimit(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, Options{Ready: func() error { close(entered); <-release; return nil }}, defaultLimits)
	conn := dial(t, s)
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want context.Canceled", err)
	}
	wantEnded(t, conn)
	close(release)
}

func TestLifeCycleOutOfOrder(t *testing.T) {
	t.Run("Serve before Listen", func(t *testing.T) {
		if err := New(Options{}).Serve(); err == nil {
			t.Error("no error")
		}
	})
	t.Run("Listen twice", func(t *testing.T) {
		s := start(t, Options{}, defaultLimits)
		if err := s.Listen(); err == nil {
			t.Error("no error")
		}
	})
	t.Run("Addr before Listen", func(t *testing.T) {
		if a := New(Options{}).Addr(); a != nil {
			t.Errorf("%v, want nil", a)
		}
	})
	t.Run("Shutdown without Serve frees the address", func(t *testing.T) {
		s := New(Options{Addr: "127.0.0.1:0"})
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := s.Serve(); err != nil {
			t.Errorf("Serve after Shutdown: %v, want nil", err)
		}
		again := New(Options{Addr: s.Addr().String()})
		if err := again.Listen(); err != nil {
			t.Error(err)
		}
		_ = again.Shutdown(t.Context())
	})
	t.Run("Shutdown before Listen", func(t *testing.T) {
		s := New(Options{Addr: "127.0.0.1:0"})
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Listen(); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Listen: %v, want http.ErrServerClosed", err)
		}
	})
}

func TestAddressInUse(t *testing.T) {
	s := start(t, Options{}, defaultLimits)
	err := New(Options{Addr: s.Addr().String()}).Listen()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{s.Addr().String(), "ILP_ADMIN", "in use"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
	}
}

// Many connections that say nothing, or only begin to, do not hold up a probe.
func TestSilentConnectionsDoNotDelayProbes(t *testing.T) {
	for title, says := range map[string]string{"nothing": "", "half a request": "GET /live",
		"a body that does not come": "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"} {
		t.Run(title, func(t *testing.T) {
			lim := defaultLimits
			lim.readHeader, lim.read = time.Hour, time.Hour // not these may be what helps
			s := start(t, Options{}, lim)
			for range 80 {
				if _, err := io.WriteString(dial(t, s), says); err != nil {
					t.Fatal(err)
				}
			}
			for range 10 {
				exchange(t, dial(t, s), "/livez") // fails if it takes longer than patience
			}
		})
	}
}
