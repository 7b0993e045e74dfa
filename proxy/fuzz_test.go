package proxy

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/upstream"
)

// noSource has no connections.
type noSource struct{}

func (noSource) Acquire(ctx context.Context) (delivery.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (noSource) AcquireAddr(context.Context, string) (delivery.Conn, error) {
	return nil, errors.New("none")
}

func (noSource) Prove(context.Context, string) error     { return errors.New("none") }
func (noSource) ProveSoon(context.Context, string) error { return errors.New("none") }

func (noSource) Hurry(int, time.Duration) {}

func (noSource) Witness(delivery.Conn) delivery.Witness { return nil }

// sink is a connection that takes everything, and the source of it alone.
type sink struct {
	noSource
	mu   sync.Mutex
	got  []byte
	more chan struct{} // has an element when something came
}

// alive is a server that lives.
type alive struct{}

func (alive) Release()                   {}
func (alive) Some() bool                 { return true }
func (alive) Gone() bool                 { return false }
func (alive) Alive(context.Context) bool { return true }

func (s *sink) Witness(delivery.Conn) delivery.Witness { return alive{} }

func (s *sink) Acquire(context.Context) (delivery.Conn, error) {
	c := &sinkConn{s: s, done: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.done) })
	return c, nil
}

// sinkConn is a connection to a sink.
type sinkConn struct {
	s    *sink
	done chan struct{}
	end  func()
}

func (c *sinkConn) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.got = append(c.s.got, p...)
	select {
	case c.s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *sinkConn) TryWrite(p []byte) (int, error) { return c.Write(p) }
func (c *sinkConn) CloseWrite() error              { c.end(); return nil }
func (c *sinkConn) Done() <-chan struct{}          { return c.done }
func (c *sinkConn) End() upstream.End              { return upstream.End{} }
func (c *sinkConn) Addr() string                   { return "127.0.0.1:1" }
func (c *sinkConn) Pings() int                     { return 0 }
func (c *sinkConn) Unacked() (int, error)          { return 0, nil }
func (c *sinkConn) Discard()                       { c.end() }

// FuzzSession reads streams in pieces of any size. What goes on is every whole record
// that is not too long, in order, as it was, and few blank lines between them.
func FuzzSession(f *testing.F) {
	for i, seed := range []string{
		"t v=1i 1\nt v=2i 2\n", "t v=1i,w=\"un", "\n\n\r\n", "t v==\x10\x00\n\r\"\\\n\n\n", "t v==\x0e\x0a\x01\x02\x00\x00\x00\n\n\n\n",
		"t,a=b\\\n v=1 1\n", "t v=\"" + string(bytes.Repeat([]byte("x"), 300)) + "\" 1\nt v=1i\n", "t v=1\r\nt\rv=2\n", "=\n",
	} {
		f.Add([]byte(seed), uint64(i), uint8(1))
		f.Add([]byte(seed), uint64(i), uint8(20))
	}
	const maxRecord = 2 << 10
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, times uint8) {
		if len(stream) > 4<<10 {
			return
		}
		stream = bytes.Repeat(stream, int(times%32))
		to := &sink{more: make(chan struct{}, 1)}
		d := delivery.New(delivery.Options{Source: to, Memory: 64 << 20, MaxRecord: maxRecord, AtMostOnce: true, NoPathCheck: true,
			ConfirmBytes: 1 << 40, ConfirmInterval: time.Hour, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
		defer d.Close()
		s := NewServer(Options{Dispatcher: d, MaxRecord: maxRecord, Metrics: NewMetrics(prometheus.NewRegistry())})
		defer s.Close()
		se := &session{srv: s, out: d.NewWriter("test", func() {})}
		defer se.out.Close()

		r := rand.New(rand.NewPCG(seed, 0))
		for rest := stream; len(rest) > 0; {
			b, err := se.out.Buffer(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			se.in = b
			from, to := se.window()
			most := to - from
			if r.IntN(2) == 0 {
				most = min(most, 1+r.IntN(30))
			}
			n := copy(b.Bytes()[from:][:most], rest)
			rest = rest[n:]
			se.consume(t.Context(), n)
		}

		var want []byte
		var each ilp.Scanner
		for begin, end := 0, 0; end < len(stream); begin = end {
			n, whole := each.Next(stream[end:])
			if !whole {
				break
			}
			end += n
			if end-begin <= maxRecord && !ilp.IsBlank(stream[begin:end]) {
				want = append(want, stream[begin:end]...)
			}
		}
		var scan ilp.Scanner
		_, records := scan.Scan(stream)
		for {
			to.mu.Lock()
			all := bytes.Clone(to.got)
			to.mu.Unlock()
			var got []byte
			blanks, most := 0, 0
			for line := range eachRecord(all) {
				if blanks += len(line); !ilp.IsBlank(line) {
					got = append(got, line...)
					most = max(most, blanks-len(line)) // behind the last one there may be padding
					blanks = 0
				}
			}
			if len(got) >= len(want) {
				if !bytes.Equal(got, want) {
					t.Fatalf("of %q\n%q went on, want\n%q", stream, got, want)
				}
				if most >= delivery.MaxBlank {
					t.Errorf("of %q\n%d bytes of blank lines in a row went on", stream, most)
				}
				break
			}
			select {
			case <-to.more:
			case <-time.After(patience):
				t.Fatalf("of %q\nonly %q went on, want\n%q", stream, got, want)
			}
		}
		if int(s.Records()) != records {
			t.Errorf("%q: %d records were read, want %d", stream, s.Records(), records)
		}
		se.setFragment(nil)
		if n := s.fragments.Load(); n != 0 {
			t.Errorf("%q: %d bytes of fragments are accounted for at the end", stream, n)
		}
	})
}

// FuzzDatagram takes datagrams apart. What goes on is whole records, as they were, but
// for an LF behind the last one; what does not is a fragment, or too long, and counted.
func FuzzDatagram(f *testing.F) {
	for _, seed := range []string{
		"t v=1i 1\nt v=2i 2\n", "t v=1i 1\nt v=2i 2", "t v=1i,w=\"unf", "t v=1i,w=\"x\n\" 1", "\n\n", "", "t", "t v=\\", "t v=1\r",
		"t v==\x10\x00\x00\n", "t v=\"" + string(bytes.Repeat([]byte("x"), 100)) + "\" 1\nt v=1i\n", "t v==\x0e\x0a\x01\x02\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	const maxRecord = 64
	d := delivery.New(delivery.Options{Source: noSource{}, Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
	f.Cleanup(d.Close)
	s := NewServer(Options{Dispatcher: d, MaxRecord: maxRecord, Metrics: NewMetrics(prometheus.NewRegistry())})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= maxDatagram {
			return
		}
		p := &packets{srv: s, buf: make([]byte, maxDatagram+1), out: d.NewWriter("udp:test", func() {})}
		defer p.out.Close()
		n := copy(p.buf, data)
		fragments, fragmentBytes, received := testutil.ToFloat64(s.m.fragments), testutil.ToFloat64(s.m.fragmentBytes), s.Records()
		whole, records := p.whole(p.buf[:n])
		fragments, fragmentBytes, received = testutil.ToFloat64(s.m.fragments)-fragments, testutil.ToFloat64(s.m.fragmentBytes)-fragmentBytes, s.Records()-received

		// What is whole in the datagram, with an LF behind it if that makes it so.
		var scan ilp.Scanner
		end, count := scan.Scan(data)
		want := data[:end:end]
		if tail := data[end:]; len(tail) > 0 && scan.MidRecord() {
			ended := append(bytes.Clone(tail), '\n')
			var again ilp.Scanner
			if at, n := again.Scan(ended); at == len(ended) && !again.MidRecord() && (n == 0 || n == 1 && ilp.Validate(ended) == nil) {
				want, count = append(bytes.Clone(want), ended...), count+n
			} else if fragments != 1 || int(fragmentBytes) != len(tail) {
				t.Errorf("%q: %v fragments, %v bytes, want one of %d", data, fragments, fragmentBytes, len(tail))
			}
		} else if fragments != 0 {
			t.Errorf("%q: %v fragments", data, fragments)
		}
		if int(received) != count {
			t.Errorf("%q: %d records received, want %d", data, received, count)
		}
		var kept []byte
		keptRecords, together := 0, []byte(nil)
		for record := range eachRecord(want) {
			together = append(together, record...)
			if len(record) > maxRecord && len(want) > maxRecord {
				continue
			}
			kept = append(kept, record...)
			if !ilp.IsBlank(record) {
				keptRecords++
			}
		}
		if !bytes.Equal(together, want) {
			t.Errorf("%q taken apart is %q", want, together)
		}
		if !bytes.Equal(whole, kept) || records != keptRecords {
			t.Errorf("%q became %d records, %q; want %d, %q", data, records, whole, keptRecords, kept)
		}
	})
}
