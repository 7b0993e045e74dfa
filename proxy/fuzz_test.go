package proxy

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/ilp"
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

func (noSource) Prove(context.Context, string) error { return errors.New("none") }

func (noSource) Hurry(int, time.Duration) {}

func (noSource) Witness(delivery.Conn) delivery.Witness { return nil }

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
