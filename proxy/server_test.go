package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
)

func TestMaxClients(t *testing.T) {
	h := start(t, Options{MaxClients: 2}, delivery.Options{})
	a, b := h.dial(t), h.dial(t)
	send(t, a, "t v=1i\n")
	h.arrived(t, "t v=1i\n")
	send(t, b, "t v=2i\n")
	h.arrived(t, "t v=1i\nt v=2i\n")
	c := h.dial(t)
	send(t, c, "t v=3i\n")
	await(t, "the third to wait", func() bool { return testutil.ToFloat64(h.m.waiting) == 1 })
	if n := h.Sessions(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	_ = a.Close()
	h.arrived(t, "t v=1i\nt v=2i\nt v=3i\n")
}

func TestAllow(t *testing.T) {
	h := start(t, Options{Allow: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.2") }}, delivery.Options{})
	awaitEnd(t, h.dial(t))
	if n := testutil.ToFloat64(h.m.refused.WithLabelValues(notAllowed)); n != 1 {
		t.Errorf("%v connections refused, want 1", n)
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := from.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "t v=1i\n")
	h.arrived(t, "t v=1i\n")
	_ = c.Close()
}

// dialFrom connects a writer from an address of its own.
func dialFrom(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestMaxClientsPerAddress has one address connect again and again: it keeps what it
// may have, takes no place from others, and fills no log. Through a socket for IPv6,
// which sees it within IPv6, it is the same address.
func TestMaxClientsPerAddress(t *testing.T) {
	h := start(t, Options{MaxClients: 5, MaxClientsPerAddress: 2}, delivery.Options{})
	both, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = h.Serve(both) }()
	go func() { _ = h.Serve(unix) }()
	mapped := fmt.Sprintf("127.0.0.1:%d", both.Addr().(*net.TCPAddr).Port)
	want := ""
	row := func(c net.Conn) {
		t.Helper()
		line := fmt.Sprintf("t v=%di\n", len(want))
		send(t, c, line)
		want += line
		h.arrived(t, want)
	}

	greedy := []net.Conn{dialFrom(t, "127.0.0.2", h.addr), dialFrom(t, "127.0.0.2", mapped)}
	row(greedy[0])
	row(greedy[1])
	const over = 50
	for i := range over {
		awaitEnd(t, dialFrom(t, "127.0.0.2", []string{h.addr, mapped}[i%2]))
	}
	if n := testutil.ToFloat64(h.m.refused.WithLabelValues(tooMany)); n != over {
		t.Errorf("%v connections refused, want %d", n, over)
	}
	if n := strings.Count(h.log.String(), "ILP_MAX_CLIENTS_PER_ADDRESS"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	// Those it has go on, and so do others: another address, and Unix sockets, of
	// which each is more than one address may have.
	row(greedy[0])
	row(dialFrom(t, "127.0.0.3", h.addr))
	var local []net.Conn
	for range 2 {
		c, err := net.Dial("unix", unix.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		row(c)
		local = append(local, c)
	}
	if n := h.Sessions(); n != 5 {
		t.Errorf("%d sessions, want 5", n)
	}
	// All places are taken. Whoever waits for one counts too, and not any more when
	// the connection has ended.
	_ = local[0].Close()
	await(t, "a place", func() bool { return h.Sessions() == 4 })
	_ = greedy[1].Close()
	await(t, "another", func() bool { return h.Sessions() == 3 })
	row(dialFrom(t, "127.0.0.2", mapped))
	awaitEnd(t, dialFrom(t, "127.0.0.2", h.addr))
}

// TestAddressesAreForgotten keeps no memory of those that left.
func TestAddressesAreForgotten(t *testing.T) {
	a := addresses{limit: 1}
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if !a.take(one) || a.take(one) || !a.take(two) || !a.take(netip.Addr{}) || !a.take(netip.Addr{}) {
		t.Error("not each its own")
	}
	a.leave(one)
	a.leave(netip.Addr{})
	if !a.take(one) || len(a.conns) != 2 {
		t.Errorf("%v", a.conns)
	}
	a.leave(one)
	a.leave(two)
	if len(a.conns) != 0 {
		t.Errorf("left behind: %v", a.conns)
	}
}

// brokenListener fails a few times, as a listener without file handles does.
type brokenListener struct {
	net.Listener
	failures atomic.Int32
	broken   int32
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if l.failures.Add(1) <= l.broken {
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	h := start(t, Options{}, delivery.Options{})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &brokenListener{Listener: inner, broken: 4}
	began := time.Now()
	go func() { _ = h.Serve(l) }()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "t v=1i\n")
	h.arrived(t, "t v=1i\n")
	if took, least := time.Since(began), (5+10+20+40)*time.Millisecond; took < least {
		t.Errorf("went on after %v; four pauses are at least %v", took, least)
	}
	if n := strings.Count(h.log.String(), "cannot accept"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	_ = c.Close()
}

func TestShutdownReadsWhatWritersStillSay(t *testing.T) {
	h := start(t, Options{}, delivery.Options{})
	c := h.dial(t)
	send(t, c, "t v=1i\n")
	h.arrived(t, "t v=1i\n")
	idle := h.dial(t)
	await(t, "both sessions", func() bool { return h.Sessions() == 2 })

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() { h.Shutdown(ctx) })
	awaitEnd(t, c) // the half-close tells the writer, which says a last word
	send(t, c, "t v=2i\n")
	_ = c.CloseWrite()
	wg.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v with an idle writer and one that ended", took)
	}
	awaitEnd(t, idle)
	h.arrived(t, "t v=1i\nt v=2i\n")
	if _, err := net.Dial("tcp", h.addr); err == nil {
		t.Error("still listening")
	}
}

func TestShutdownWaitsForTheRestOfARecord(t *testing.T) {
	h := start(t, Options{}, delivery.Options{})
	c := h.dial(t)
	send(t, c, "t v=1")
	await(t, "the fragment", func() bool { return h.m.bytes.Load() == 5 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { h.Shutdown(ctx) })
	awaitEnd(t, c)
	time.AfterFunc(3*quiet, func() { _, _ = c.Write([]byte("2i\n")) })
	wg.Wait()
	h.arrived(t, "t v=12i\n")
}

func TestShutdownEndsAtHalfTime(t *testing.T) {
	h := start(t, Options{}, delivery.Options{})
	chatty, cut := h.dial(t), h.dial(t)
	send(t, cut, "t v=1")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = chatty.Write([]byte("t v=2i\n"))
			}
		}
	})
	await(t, "both sessions", func() bool { return h.Sessions() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	h.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("the sessions took all of the time, not half")
	}
	close(stop)
	wg.Wait()
	if n := testutil.ToFloat64(h.m.fragments); n != 1 {
		t.Errorf("%v fragments counted, want 1", n)
	}
}

func TestManyShortConnections(t *testing.T) {
	const writers, each = 20, 100
	h := start(t, Options{}, delivery.Options{Lanes: 4})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				c, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("t v=1i\n"))
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	const want = writers * each * len("t v=1i\n")
	await(t, "all rows", func() bool { return len(h.db.Received()) == want })
	await(t, "the sessions to end", func() bool { return h.Sessions() == 0 })
	if n := h.db.Stats().MaxOpen; n > 8 {
		t.Errorf("%d upstream connections, more than the pool allows", n)
	}
}

// lateListener accepts nobody before it is told of its end.
type lateListener struct {
	*net.TCPListener
	once sync.Once
	told chan struct{}
}

func (l *lateListener) Accept() (net.Conn, error) {
	<-l.told
	return l.TCPListener.Accept()
}

func (l *lateListener) SetDeadline(t time.Time) error {
	l.once.Do(func() { close(l.told) })
	return l.TCPListener.SetDeadline(t)
}

func (l *lateListener) Close() error {
	l.once.Do(func() { close(l.told) })
	return l.TCPListener.Close()
}

// TestLastCall has writers that wrote and went, as far as they can tell, when the end
// comes, while the proxy has not accepted them yet.
func TestLastCall(t *testing.T) {
	h := start(t, Options{}, delivery.Options{})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lateListener{TCPListener: tcp.(*net.TCPListener), told: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	const writers = 50
	for range writers {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, "t v=1i\n")
		_ = c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h.Shutdown(ctx)
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	h.arrived(t, strings.Repeat("t v=1i\n", writers))
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the listener is open after the end")
	}
}
