package proxy

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/upstream"
)

// void is a Source whose connections forget everything.
type void struct{}

func (void) Acquire(context.Context) (delivery.Conn, error) {
	return &voidConn{done: make(chan struct{})}, nil
}
func (v void) AcquireAddr(ctx context.Context, _ string) (delivery.Conn, error) {
	return v.Acquire(ctx)
}
func (void) Witness(delivery.Conn) delivery.Witness  { return void{} }
func (void) Prove(context.Context, string) error     { return nil }
func (void) ProveSoon(context.Context, string) error { return nil }
func (void) Hurry(int, time.Duration)                {}
func (void) Gone() bool                              { return false }
func (void) Release()                                {}
func (void) Some() bool                              { return true }
func (void) Alive(context.Context) bool              { return true }

type voidConn struct {
	once sync.Once
	end  upstream.End
	done chan struct{}
}

func (c *voidConn) TryWrite(p []byte) (int, error) { return len(p), nil }
func (c *voidConn) Write(p []byte) (int, error)    { return len(p), nil }
func (c *voidConn) Done() <-chan struct{}          { return c.done }
func (c *voidConn) End() upstream.End              { return c.end }
func (c *voidConn) Addr() string                   { return "void:9009" }
func (c *voidConn) Pings() int                     { return 0 }
func (c *voidConn) Unacked() (int, error)          { return 0, nil }
func (c *voidConn) Discard()                       { c.once.Do(func() { close(c.done) }) }
func (c *voidConn) CloseWrite() error {
	c.once.Do(func() {
		c.end = upstream.End{AfterHalfClose: true}
		close(c.done)
	})
	return nil
}

// BenchmarkConsume is what is done with each read, from the block to the upstream
// connection: of many rows and of one.
func BenchmarkConsume(b *testing.B) {
	const row = "weather,city=Oslo,station=blindern temperature=3.5,humidity=81i\n"
	for name, stamp := range map[string]bool{"plain": false, "stamps": true} {
		for size, rows := range map[string]int{"many": 300, "one": 1} {
			b.Run(name+"/"+size, func(b *testing.B) {
				d := delivery.New(delivery.Options{Source: void{}, AtMostOnce: true, NoPathCheck: true, Gather: stamp, Metrics: delivery.NewMetrics(prometheus.NewRegistry()),
					ConfirmInterval: time.Hour, ConfirmBytes: 1 << 60})
				srv := NewServer(Options{Dispatcher: d, Stamp: stamp, Metrics: NewMetrics(prometheus.NewRegistry())})
				s := &session{srv: srv, out: d.NewWriter("w", nil), stamps: srv.newStamper()}
				text := []byte(strings.Repeat(row, rows))
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					in, err := s.out.Buffer(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					from, to := s.window()
					s.in = in
					s.consume(b.Context(), copy(in.Bytes()[from:to], text))
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
				d.Close()
				srv.Close()
			})
		}
	}
}
