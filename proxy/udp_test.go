package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
)

// away is a Source of a server that never answers.
type away struct{ void }

func (away) Acquire(ctx context.Context) (delivery.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// serveUDP has a server read datagrams into d; c sends them there, and served tells how it ended.
func serveUDP(t *testing.T, d *delivery.Dispatcher) (srv *Server, c net.Conn, served chan error) {
	t.Helper()
	srv = NewServer(Options{Dispatcher: d, Metrics: NewMetrics(prometheus.NewRegistry())})
	t.Cleanup(srv.Close)
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan error, 1)
	go func() { served <- srv.ServeUDP(l, false) }()
	if c, err = net.Dial("udp", l.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return srv, c, served
}

// TestEveryDatagramIsCounted sends more than there is memory for, to a proxy that has
// to end then: each datagram was read or is counted as dropped, and each record of
// those that were read is in the journal, the end of one for which there was no
// memory any more too.
func TestEveryDatagramIsCounted(t *testing.T) {
	d := delivery.New(delivery.Options{Source: away{}, Memory: 256 << 10, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
	defer d.Close()
	srv, c, served := serveUDP(t, d)

	const sent, rows, row = 500, 3000, "full v=1i 1000000000\n"
	if size := d.BlockSize(); rows*len(row) <= size {
		t.Fatalf("a datagram of %d bytes fits into a block of %d", rows*len(row), size)
	}
	datagram := strings.Repeat(row, rows)
	for range sent {
		send(t, c, datagram)
	}
	await(t, "memory to be full", func() bool { return d.Waiting() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	srv.Shutdown(ctx)
	<-served
	read, dropped := testutil.ToFloat64(srv.m.datagrams), testutil.ToFloat64(srv.m.datagramsDropped)
	if read+dropped != sent || read == 0 || dropped == 0 {
		t.Errorf("of %d datagrams %v were read and %v dropped", sent, read, dropped)
	}
	if got, want := d.Left(), int64(read)*rows; got != want || srv.Records() != want {
		t.Errorf("%d records are in the journal and %d were counted, of %v datagrams, which have %d", got, srv.Records(), read, want)
	}
}

// TestQueueIsReadAfterAWait has memory be full when the drain begins, and come free later, first for one datagram:
// all that are in the kernel's queue are read.
func TestQueueIsReadAfterAWait(t *testing.T) {
	d := delivery.New(delivery.Options{Source: away{}, Lanes: 1, Memory: 256 << 10, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
	defer d.Close()
	srv, c, served := serveUDP(t, d)
	other := d.NewWriter("other", func() {})
	var held []*delivery.Block
	for b := other.TryBuffer(); b != nil; b = other.TryBuffer() {
		held = append(held, b)
	}
	const sent = 4
	for range sent {
		send(t, c, strings.Repeat("full v=1i 1000000000\n", d.BlockSize()*3/4/21)) // each needs a block of its own
	}
	await(t, "memory to be full", func() bool { return d.Waiting() > 0 })
	before := testutil.ToFloat64(srv.m.datagrams) // what it had a block for already
	ended := make(chan struct{})
	go func() {
		srv.Shutdown(t.Context())
		close(ended)
	}()
	await(t, "the drain to begin", func() bool {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		for p := range srv.packets {
			return len(p.half) > 0
		}
		return false
	})
	other.Return(held[0])
	await(t, "memory to be full again", func() bool { return testutil.ToFloat64(srv.m.datagrams) > before && d.Waiting() > 0 })
	<-time.After(3 * lastWait) // any deadline of now has passed then
	for _, b := range held[1:] {
		other.Return(b)
	}
	<-served
	<-ended
	if read := testutil.ToFloat64(srv.m.datagrams); read != sent {
		t.Errorf("of %d datagrams %v were read", sent, read)
	}
}

// TestWokenUDPGoesOn: a listener that is woken to change its lane reads on, and ends when it is to.
func TestWokenUDPGoesOn(t *testing.T) {
	d := delivery.New(delivery.Options{Source: away{}, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
	defer d.Close()
	srv, c, served := serveUDP(t, d)
	for n := range 3 {
		send(t, c, "t v=1i\n")
		await(t, "the datagram to be read", func() bool { return testutil.ToFloat64(srv.m.datagrams) == float64(n+1) })
		srv.mu.Lock()
		for p := range srv.packets {
			p.wake()
			await(t, "the listener to wake", func() bool { return !p.woken.Load() })
		}
		srv.mu.Unlock()
	}
	srv.Shutdown(t.Context())
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("it ended with %v", err)
	}
}
