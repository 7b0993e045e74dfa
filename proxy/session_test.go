package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/rejected"
)

func TestRowsArrive(t *testing.T) {
	h := start(t, Options{}, delivery.Options{})
	c := h.dial(t)
	send(t, c, "t v=1i\nt v=")
	h.arrived(t, "t v=1i\n")
	send(t, c, "2i\n\nt v=3i\n")
	_ = c.CloseWrite()
	awaitEnd(t, c)
	h.arrived(t, "t v=1i\nt v=2i\n\nt v=3i\n")
	if got := h.m.records.Load(); got != 3 {
		t.Errorf("%v records counted, want 3", got)
	}
}

// TestAnySplit sends a stream in pieces of every kind and expects the same
// stream, for records below and above the size of a block.
func TestAnySplit(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			h := start(t, Options{MaxRecord: 64 << 10}, delivery.Options{Memory: 1 << 20})
			var stream strings.Builder
			n := 0
			for stream.Len() < 2<<20 {
				size := rng.IntN(200)
				if rng.IntN(50) == 0 {
					size = rng.IntN(60 << 10)
				}
				fmt.Fprintf(&stream, "t s=\"%s\",v=%di\n", strings.Repeat("x\\\n", size/3), n)
				n++
			}
			c := h.dial(t)
			for rest := stream.String(); rest != ""; {
				k := min(len(rest), 1+rng.IntN([]int{3, 300, 100 << 10}[rng.IntN(3)]))
				send(t, c, rest[:k])
				rest = rest[k:]
			}
			_ = c.CloseWrite()
			awaitEnd(t, c)
			h.arrived(t, stream.String())
			if got := h.m.records.Load(); got != int64(n) {
				t.Errorf("%v records counted, want %d", got, n)
			}
			if got := testutil.ToFloat64(h.m.fragmentMemory); got != 0 {
				t.Errorf("%v bytes of fragments counted after the end", got)
			}
		})
	}
}

func TestTooLongRecordCostsThatRecord(t *testing.T) {
	const limit = 16 << 10
	h := start(t, Options{MaxRecord: limit}, delivery.Options{})
	long := func(n int) string { return `t s="` + strings.Repeat("y", n-len("t s=\"\"\n")) + "\"\n" }
	c := h.dial(t)
	var want strings.Builder
	for i, size := range []int{limit, limit + 1, 100, 10 * limit, limit - 1, 3 * limit, 2*limit + 1, limit} {
		record := long(size)
		if size <= limit {
			want.WriteString(record)
		}
		send(t, c, record)
		if i%2 == 0 {
			h.arrived(t, want.String()) // so that the next one begins a read
		}
	}
	_ = c.CloseWrite()
	awaitEnd(t, c)
	h.arrived(t, want.String())
	if got := h.rejected(t, rejected.ReasonTooLong); got != 4 {
		t.Errorf("%v records rejected, want 4", got)
	}
	if log := h.log.String(); !strings.Contains(log, "ILP_MAX_RECORD") {
		t.Errorf("the log does not say so:\n%s", log)
	}
}

func TestFragmentIsDroppedAndCounted(t *testing.T) {
	for name, end := range map[string]func(c *net.TCPConn){
		"FIN":   func(c *net.TCPConn) { _ = c.Close() },
		"reset": func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, Options{}, delivery.Options{})
			a, b := h.dial(t), h.dial(t)
			send(t, a, "t v=1i\nt v=2")
			h.arrived(t, "t v=1i\n")
			end(a)
			await(t, "the end of the session", func() bool { return testutil.ToFloat64(h.m.fragments) == 1 })
			send(t, b, "t v=3i\n")
			h.arrived(t, "t v=1i\nt v=3i\n")
			if got := testutil.ToFloat64(h.m.fragmentBytes); got != 5 {
				t.Errorf("%v bytes of fragments counted, want 5", got)
			}
			if n := strings.Count(h.log.String(), "in the middle of a record"); n != 1 {
				t.Errorf("logged %d times, want once", n)
			}
		})
	}
}

func TestFullBufferHoldsWritersBackAndLosesNothing(t *testing.T) {
	const rows = 500_000 // 40 MB: far more than the kernel holds
	// Beforehand: a lane that is quiet for long has what it wrote confirmed.
	var want strings.Builder
	want.WriteString("t v=1i\n")
	for i := range rows {
		fmt.Fprintf(&want, "t s=\"%060d\" %d\n", i, i)
	}
	h := start(t, Options{}, delivery.Options{Memory: 1 << 20})
	c := h.dial(t)
	send(t, c, "t v=1i\n")
	h.arrived(t, "t v=1i\n") // from here on there is a connection
	h.db.Stall()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte(want.String()[len("t v=1i\n"):]))
		_ = c.CloseWrite()
		sent <- err
	}()
	await(t, "the session to wait for memory", h.waiting)
	if got := h.used(); got > 1<<20 {
		t.Errorf("%d bytes held, more than the limit", got)
	}
	h.db.Resume()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	h.arrived(t, want.String())
}

func TestUnfinishedRecordsCannotUseUpMemory(t *testing.T) {
	h := start(t, Options{FragmentMemory: 1 << 20, MaxRecord: 1 << 20}, delivery.Options{})
	good := h.dial(t)
	send(t, good, "t v=1") // a small one of a good writer
	var bad []*net.TCPConn
	for range 8 {
		c := h.dial(t)
		bad = append(bad, c)
		go func() { _, _ = c.Write([]byte(strings.Repeat("z", 400<<10))) }()
	}
	await(t, "writers to be disconnected", func() bool {
		return testutil.ToFloat64(h.m.ended.WithLabelValues(endNoMemory)) >= 5
	})
	await(t, "memory to be free", func() bool { return h.fragments.Load() <= 1<<20 })
	send(t, good, "i\n")
	h.arrived(t, "t v=1i\n")
	for _, c := range bad {
		_ = c.Close()
	}
}

func TestIdleTimeout(t *testing.T) {
	h := start(t, Options{IdleTimeout: 300 * time.Millisecond}, delivery.Options{})
	c := h.dial(t)
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 10 { // 500 ms: busy for longer than the timeout
		send(t, c, "t v=1i\n")
		<-tick.C
	}
	awaitEnd(t, c)
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("ended after %v, although it was not idle for long enough", took)
	}
	h.arrived(t, strings.Repeat("t v=1i\n", 10))
	if n := testutil.ToFloat64(h.m.ended.WithLabelValues(endIdle)); n != 1 {
		t.Errorf("%v sessions ended for idleness, want 1", n)
	}
}

// TestIdleTimeoutIsTheWriters has a writer that waits because the proxy's memory is
// full: it is not the one who is idle.
func TestIdleTimeoutIsTheWriters(t *testing.T) {
	rows := strings.Repeat("t s=\""+strings.Repeat("x", 90)+"\"\n", 400_000) // far more than the kernel holds
	h := start(t, Options{IdleTimeout: time.Second}, delivery.Options{Memory: 1 << 20})
	c := h.dial(t)
	send(t, c, "t v=1i\n")
	h.arrived(t, "t v=1i\n") // from here on there is a connection
	h.db.Stall()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte(rows))
		_ = c.CloseWrite()
		sent <- err
	}()
	await(t, "the session to wait for memory", h.waiting)
	timeouts := time.NewTimer(2500 * time.Millisecond) // several of them
	<-timeouts.C
	h.db.Resume()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	h.arrived(t, "t v=1i\n"+rows)
}

// TestBufferThatCameTooLate: a session waits for memory, and its deadline passes. What it got
// then belongs to its lane, and the next read may be of another.
func TestBufferThatCameTooLate(t *testing.T) {
	d := delivery.New(delivery.Options{Source: away{}, Memory: 1 << 20, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
	t.Cleanup(d.Close)
	srv := NewServer(Options{Dispatcher: d, Metrics: NewMetrics(prometheus.NewRegistry())})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	writer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := newSession(srv, conn)
	if err != nil {
		t.Fatal(err)
	}
	var all []*delivery.Block
	for b := s.out.TryBuffer(); b != nil; b = s.out.TryBuffer() {
		all = append(all, b)
	}
	send(t, writer, "t v=1i\n") // so that it asks for memory
	read := make(chan error, 1)
	go func() {
		_, err := s.read(t.Context())
		read <- err
	}()
	await(t, "the session to wait for memory", func() bool { return d.Waiting() == 1 })
	if err := conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	s.out.Return(all[0])
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the read ended with %v, want its deadline", err)
	}
	if s.in != nil {
		t.Error("the session keeps the memory that it waited for, though it has left the read")
	}
}
