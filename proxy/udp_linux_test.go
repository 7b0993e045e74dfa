package proxy

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
)

// TestDatagramsAreLeft has a socket that somebody else keeps: what the proxy cannot take at
// its end stays in the kernel's queue, and what the kernel dropped before it is not counted
// once more by the next one.
func TestDatagramsAreLeft(t *testing.T) {
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	keeper := &packets{conn: l}
	serve := func() (*Server, chan error) {
		d := delivery.New(delivery.Options{Source: away{}, Memory: 256 << 10, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
		t.Cleanup(d.Close)
		srv := NewServer(Options{Dispatcher: d, Metrics: NewMetrics(prometheus.NewRegistry())})
		t.Cleanup(srv.Close)
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		conn, err := net.FilePacketConn(f)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- srv.ServeUDP(conn.(*net.UDPConn), true) }()
		return srv, served
	}
	end := func(srv *Server, served chan error) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		srv.Shutdown(ctx)
		<-served
	}

	first, served := serve()
	c, err := net.Dial("udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	datagram := strings.Repeat("left v=1i 1000000000\n", 3000)
	send(t, c, datagram)
	await(t, "the first datagram", func() bool { return testutil.ToFloat64(first.m.datagrams) > 0 })
	sent := 1
	for ; ; sent++ {
		if n, ok := keeper.kernelDrops(); !ok {
			t.Fatal("the kernel does not say what it drops")
		} else if n > 0 {
			break
		}
		send(t, c, datagram)
	}
	end(first, served)
	read, counted := testutil.ToFloat64(first.m.datagrams), testutil.ToFloat64(first.m.datagramsDropped)
	if n, _ := keeper.kernelDrops(); counted != float64(n) || read == 0 {
		t.Errorf("%v datagrams were read, and %v counted as dropped, where the kernel dropped %d", read, counted, n)
	}

	second, served := serve()
	await(t, "the second to read what the first left", func() bool { return testutil.ToFloat64(second.m.datagrams) > 0 })
	end(second, served)
	read += testutil.ToFloat64(second.m.datagrams)
	if n := testutil.ToFloat64(second.m.datagramsDropped); n != 0 {
		t.Errorf("the second counts %v datagrams, which were dropped before it", n)
	}
	left := 0
	for b := make([]byte, maxDatagram); ; left++ {
		_ = l.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := l.Read(b); err != nil {
			break
		}
	}
	if read+counted+float64(left) != float64(sent) || left == 0 {
		t.Errorf("of %d datagrams %v were read, %v dropped, and %d left", sent, read, counted, left)
	}
}
