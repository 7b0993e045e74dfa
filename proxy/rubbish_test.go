package proxy

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

// picky is a void that ends the connection on malformed records, and remembers what
// came, in the order in which it was written. Padding it forgets.
type picky struct {
	void
	mu  sync.Mutex
	got []byte
}

func (p *picky) Acquire(context.Context) (delivery.Conn, error) {
	return &pickyConn{voidConn{done: make(chan struct{})}, p}, nil
}
func (p *picky) AcquireAddr(ctx context.Context, _ string) (delivery.Conn, error) {
	return p.Acquire(ctx)
}

func (p *picky) received() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.got)
}

type pickyConn struct {
	voidConn
	p *picky
}

func (c *pickyConn) TryWrite(b []byte) (int, error) { return c.Write(b) }
func (c *pickyConn) Write(b []byte) (int, error) {
	if ilp.IsBlank(b) {
		return len(b), nil // padding
	}
	for record := range eachRecord(b) {
		if ilp.Validate(record) != nil {
			c.once.Do(func() {
				c.end.Err = syscall.ECONNRESET
				close(c.done)
			})
			return len(b), nil // the kernel took it
		}
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.got = append(c.p.got, b...)
	return len(b), nil
}

// kept are Rejects that remember what was put, and how often that was.
type kept struct {
	mu      sync.Mutex
	puts    int
	records []string
}

func (k *kept) Put(records ...rejected.Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.puts++
	for _, r := range records {
		k.records = append(k.records, r.Reason+" "+r.Remote+" "+string(r.Bytes))
	}
	return nil
}
func (k *kept) Lost(...rejected.Record) { panic("nothing is lost here") }

func (k *kept) look() (puts int, records []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.puts, slices.Clone(k.records)
}

// rubbishWriter is a session whose writer has sent a malformed record, so that all
// that follows is looked at before it goes upstream.
func rubbishWriter(tb testing.TB, source delivery.Source, rejects delivery.Rejects) *session {
	tb.Helper()
	d := delivery.New(delivery.Options{Source: source, Rejects: rejects, NoPathCheck: true, Settle: time.Millisecond,
		Metrics: delivery.NewMetrics(prometheus.NewRegistry())})
	srv := NewServer(Options{Dispatcher: d, Metrics: NewMetrics(prometheus.NewRegistry())})
	tb.Cleanup(func() {
		srv.Close()
		d.Close()
	})
	s := &session{srv: srv, out: d.NewWriter("w", nil)}
	s.take(tb, "x y z\n")
	await(tb, "the writer to be suspect", s.out.Suspect)
	return s
}

// take has s consume text as if it had just been read.
func (s *session) take(tb testing.TB, text string) {
	tb.Helper()
	for text != "" {
		in, err := s.out.Buffer(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		s.in = in
		from, to := s.window()
		n := copy(in.Bytes()[from:to], text)
		text = text[n:]
		s.consume(tb.Context(), n)
	}
}

// TestRubbishBetweenRows has rows and rubbish in any order: the rows arrive, in
// theirs, and the rubbish is kept, in its, without a look at the disk for each.
func TestRubbishBetweenRows(t *testing.T) {
	source, rejects := new(picky), new(kept)
	s := rubbishWriter(t, source, rejects)
	await(t, "the first to be kept", func() bool { puts, _ := rejects.look(); return puts == 1 })
	var text, rows strings.Builder
	want := []string{"malformed w x y z\n"}
	for i := range 30_000 {
		switch {
		case i%7 < 3 || i > 10_000 && i < 20_000:
			bad := fmt.Sprintf("rubbish %d %s\n", i, strings.Repeat("z", i%11))
			text.WriteString(bad)
			want = append(want, "malformed w "+bad)
		case i%100 == 5:
			text.WriteString("\r\n")
			rows.WriteString("\r\n")
		default:
			row := fmt.Sprintf("t s=\"%s\" %d\n", strings.Repeat("a\\\n", i%5), i)
			text.WriteString(row)
			rows.WriteString(row)
		}
	}
	s.take(t, text.String())
	puts, got := rejects.look()
	if !slices.Equal(got, want) {
		t.Errorf("%d records were kept, want %d", len(got), len(want))
	}
	if most := text.Len()/s.srv.o.Dispatcher.BlockSize() + len(want)/delivery.RejectAtOnce + 2; puts > most {
		t.Errorf("they were put in %d times, want %d at most", puts, most)
	}
	await(t, "the rows", func() bool { return len(source.received()) >= rows.Len() })
	if source.received() != rows.String() {
		t.Errorf("%d bytes of rows arrived, want %d, or others", len(source.received()), rows.Len())
	}
}

// BenchmarkRubbish is a writer that sends nothing but malformed records.
func BenchmarkRubbish(b *testing.B) {
	for name, path := range map[string]string{"log": "", "file": b.TempDir() + "/rejected"} {
		b.Run(name, func(b *testing.B) {
			sink, err := rejected.Open(rejected.Options{Path: path})
			if err != nil {
				b.Fatal(err)
			}
			defer sink.Close()
			s := rubbishWriter(b, new(picky), sink)
			text := string(bytes.Repeat([]byte("x y z\n"), 10_000))
			for b.Loop() {
				s.take(b, text)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*10_000), "ns/record")
		})
	}
}
