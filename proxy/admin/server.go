// Package admin is the HTTP server for those who operate the proxy: health for Kubernetes and the like, metrics for Prometheus.
// It changes nothing but that POST /drain ends the proxy. What it tells comes from what the proxy knows already; no request
// makes it dial.
//
// A [Server] is used like one of net/http: Listen, Serve, Shutdown.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"questdb-ilp-proxy/auth"
)

// maxConns bounds the open connections. A few scrapers and probes need a handful.
const maxConns = 64

// limits are those of one server; the tests have shorter ones.
type limits struct {
	readHeader, read, write, idle time.Duration
	headerBytes                   int
	conns                         int
}

var defaultLimits = limits{
	readHeader:  5 * time.Second,
	read:        10 * time.Second,
	write:       30 * time.Second,
	idle:        30 * time.Second,
	headerBytes: 16 << 10,
	conns:       maxConns,
}

// Options are what a Server needs to know.
type Options struct {
	// Addr is the TCP address to listen on, host:port; port 0 lets the kernel choose.
	Addr string
	// Ready returns nil when records can be delivered, else why not, in words for whoever operates the proxy. It is called for
	// each /readyz, concurrently, and must not block. Nil: always ready.
	Ready func() error
	// Hosts are names, in lower case, that requests may be for beside localhost, IP addresses (on a loopback address: loopback
	// ones), Addr's own name and, off loopback, the machine's. Without any, a server that is not on a loopback address answers
	// to names without a dot as well.
	Hosts []string
	// Drain asks the proxy to end. It must not block, and may be called more than once. Nil: it can't be asked here.
	Drain func()
	// Pprof has /debug/pprof/ show the profiles of net/http/pprof.
	Pprof bool
	// Token is what a request for Drain or Pprof has to carry (Authorization: Bearer). Without one such requests are answered
	// only on a loopback address.
	Token auth.Secret
	// Gatherer has what /metrics shows. Nil: nothing.
	Gatherer prometheus.Gatherer
	// Status answers GET / and GET /status. It may set a Content-Security-Policy of its own. Nil: / lists what there is.
	Status http.Handler
	// Logger gets the server's own trouble. Nil: nobody hears of it.
	Logger *slog.Logger
}

// Server is the admin server. Make it with New.
type Server struct {
	opts   Options
	limits limits
	http   *http.Server

	mu       sync.Mutex
	ln       *limitListener
	stopping bool
	fresh    []net.Conn // connections that have not sent a request yet, oldest first
}

// New returns a Server that does not listen yet.
func New(opts Options) *Server { return newServer(opts, defaultLimits) }

func newServer(opts Options, lim limits) *Server {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Gatherer == nil {
		opts.Gatherer = prometheus.NewRegistry()
	}
	s := &Server{opts: opts, limits: lim}
	s.http = &http.Server{
		ReadHeaderTimeout: lim.readHeader,
		ReadTimeout:       lim.read,
		WriteTimeout:      lim.write,
		IdleTimeout:       lim.idle,
		MaxHeaderBytes:    lim.headerBytes,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelWarn),
		// Otherwise net/http itself answers "OPTIONS *", past our checks.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// Listen opens the address, so that an address that can't be had is known before anything else is started.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return http.ErrServerClosed
	}
	if s.ln != nil {
		return errors.New("admin: Listen called twice")
	}
	ln, err := net.Listen("tcp", s.opts.Addr)
	if err != nil {
		return fmt.Errorf("admin server can't listen on %q (set ILP_ADMIN to an address that is free here, or to off): %w", s.opts.Addr, err)
	}
	tcp := ln.(*net.TCPListener) // what net.Listen returns for "tcp"
	s.ln = newLimitListener(tcp, s.limits.conns)
	s.http.Handler = withoutBodies(closeWhenCrowded(s.ln, newHandler(s.opts, tcp.Addr().(*net.TCPAddr).IP.IsLoopback())))
	return nil
}

// Addr is the address that is listened on, with the port the kernel chose; nil before Listen.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return nil
	}
	return s.ln.Addr()
}

// Serve answers requests until Shutdown, and then returns nil, at once: as in net/http, wait for Shutdown's return, not Serve's.
func (s *Server) Serve() error {
	s.mu.Lock()
	ln, stopping := s.ln, s.stopping
	s.mu.Unlock()
	if stopping {
		return nil
	}
	if ln == nil {
		return errors.New("admin: Serve called before Listen")
	}
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin server on %s ended: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown closes the listener and every connection that is not in the middle of a request, and waits for those that are. When
// ctx ends first, it breaks them off and returns the context's error. It is safe to call before Serve and more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	ln := s.ln
	// net/http would wait up to five seconds for a connection without a request to send one (a browser opens such in
	// advance).
	for _, conn := range s.fresh {
		_ = conn.Close()
	}
	s.mu.Unlock()

	err := s.http.Shutdown(ctx)
	if ln != nil {
		// For a Listen without Serve, of which net/http does not know. Not earlier: Serve must find the server closed, not its
		// listener.
		_ = ln.Close()
	}
	if err != nil {
		_ = s.http.Close()
		return fmt.Errorf("admin server: requests broken off: %w", err)
	}
	return nil
}

// connState keeps s.fresh. net/http calls it for each change.
func (s *Server) connState(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		s.fresh = slices.DeleteFunc(s.fresh, func(c net.Conn) bool { return c == conn })
		return
	}
	s.fresh = append(s.fresh, conn)
	// Those that say nothing must not take the places of those that do: a probe sends its request at once. A quarter, because
	// half of the places may be kept by connections that were used before.
	if len(s.fresh) > max(s.limits.conns/4, 2) {
		_ = s.fresh[0].Close()
		s.fresh = slices.Delete(s.fresh, 0, 1)
	}
	if s.stopping { // accepted just before the listener was closed
		_ = conn.Close()
	}
}

// closeWhenCrowded ends connections after one request while many are open, so that clients that keep theirs for later leave
// room for a probe, whose failure would have the process restarted.
func closeWhenCrowded(ln *limitListener, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ln.crowded() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// withoutBodies has net/http not wait for a request's body, which nothing here reads: connections on which none comes would keep
// probes out for as long as a request may take.
func withoutBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")                              // or it is read before the answer
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // and after that; what has come already is taken
		}
		next.ServeHTTP(w, r)
	})
}
