package proxy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/standin"
	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/upstream"
)

// patience is how long a test waits for what must happen soon.
const patience = 20 * time.Second

// harness is a whole proxy in the test's process, before a stand-in for QuestDB
// that verifies signatures.
type harness struct {
	*Server
	reg  *prometheus.Registry
	db   *standin.Server
	d    *delivery.Dispatcher
	addr string
	log  *syncBuffer
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// source gives the lanes the pool's connections.
type source struct{ *upstream.Pool }

func (s source) Acquire(ctx context.Context) (delivery.Conn, error) { return s.Pool.Acquire(ctx) }
func (s source) AcquireAddr(ctx context.Context, addr string) (delivery.Conn, error) {
	return s.Pool.AcquireAddr(ctx, addr)
}
func (s source) Witness(c delivery.Conn) delivery.Witness {
	return s.Witnesses(c.Addr(), c.(*upstream.Conn))
}

// start runs a proxy; o and do may be changed beforehand.
func start(t *testing.T, o Options, do delivery.Options) *harness {
	t.Helper()
	key, err := auth.Generate("test")
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{db: standin.New(t, key.AuthLine()), log: &syncBuffer{}}
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewRegistry()
	h.reg = reg
	pool, err := upstream.New(upstream.Options{Addrs: []string{h.db.Addr()}, Key: key, MinIdle: 1, Max: 8,
		RetryMax: time.Second, Logger: logger, Metrics: upstream.NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	pool.Start()
	do.Source = source{pool}
	// Nothing but what the writers send: confirmation is tested elsewhere.
	do.AtMostOnce, do.NoPathCheck = true, true
	do.ConfirmBytes, do.ConfirmInterval = 1<<40, time.Hour
	do.Metrics = delivery.NewMetrics(reg)
	do.Logger = logger
	if do.MaxRecord == 0 {
		do.MaxRecord = o.MaxRecord
	}
	h.d = delivery.New(do)
	o.Dispatcher = h.d
	o.Metrics = NewMetrics(reg)
	o.Logger = logger
	h.Server = NewServer(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
		h.d.Close()
		pool.Close()
	})
	return h
}

// dial connects a writer.
func (h *harness) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func send(t testing.TB, c net.Conn, p string) {
	t.Helper()
	if _, err := c.Write([]byte(p)); err != nil {
		t.Fatal(err)
	}
}

// awaitEnd waits until the proxy ends a writer's connection.
func awaitEnd(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the connection was not ended: %d bytes, %v", n, err)
	}
}

// await polls for what has no event of its own: counters.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// arrived waits until the stand-in has got want on one connection or more. Behind it
// there may be the padding of a confirmation, if the test was slow to look.
func (h *harness) arrived(t testing.TB, want string) {
	t.Helper()
	await(t, "the rows", func() bool { return len(h.db.Received()) >= len(want) })
	if got := string(h.db.Received()); !strings.HasPrefix(got, want) || strings.Trim(got[len(want):], "\n") != "" {
		t.Fatalf("QuestDB got\n%.500q\nwant\n%.500q", got, want)
	}
}

// used returns the bytes that the journals hold, waiting whether a session waits
// for more.
func (h *harness) used() int64   { return h.d.Used() }
func (h *harness) waiting() bool { return h.d.Waiting() > 0 }

// rejected returns how many records were rejected for a reason.
func (h *harness) rejected(t testing.TB, reason string) float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "questdb_ilp_proxy_records_rejected_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric of records rejected for %s", reason)
	return 0
}
