package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/standin"
)

// These tests use real sockets, and the stand-in that verifies signatures.

// withServer starts a stand-in that knows the pool's key, and the pool.
func withServer(t *testing.T, o Options, how ...func(*standin.Behaviour)) (*standin.Server, *Pool, *logBuffer) {
	t.Helper()
	if o.Key == nil {
		o.Key = testKey(t)
	}
	s := standin.New(t, o.Key.AuthLine())
	for _, h := range how {
		s.Behave(h)
	}
	if o.Addrs == nil {
		o.Addrs = []string{s.Addr()}
	}
	if o.RetryBase == 0 {
		o.RetryBase = 10 * time.Millisecond
	}
	if o.RetryMax == 0 {
		o.RetryMax = 200 * time.Millisecond
	}
	p, logs := startPool(t, o)
	return s, p, logs
}

// await waits until ok is true of the pool's status.
func await(t *testing.T, p *Pool, what string, ok func(Status) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		st := p.Status()
		if ok(st) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s; status: %+v", what, st)
		}
	}
}

func acquire(t *testing.T, p *Pool) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := p.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Discard)
	return c
}

// awaitEnd waits for a connection's end.
func awaitEnd(t *testing.T, c *Conn) End {
	t.Helper()
	select {
	case <-c.Done():
		return c.End()
	case <-time.After(20 * time.Second):
		t.Fatal("waited 20 s for a connection's end")
		return End{}
	}
}

func TestKeepsConnectionsReady(t *testing.T) {
	t.Parallel()
	s, p, logs := withServer(t, Options{MinIdle: 2, Max: 4})
	await(t, p, "2 idle ones", func(st Status) bool { return st.Idle == 2 && st.Connecting == 0 })
	start := time.Now()
	c := acquire(t, p)
	if d := time.Since(start); d > probationMin/2 {
		t.Errorf("took %v although there were some ready", d)
	}
	if _, err := c.Write([]byte("t a=1\n")); err != nil {
		t.Fatal(err)
	}
	s.Wait(t, "the row", func(st standin.Stats) bool { return st.Bytes == 6 })
	await(t, p, "2 idle ones again", func(st Status) bool { return st.Idle == 2 && st.Acquired == 1 && st.Ready && st.Reason == "" })
	if st := s.Stats(); st.OK != 3 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	if n := len(logs.lines("level=INFO", "connected to QuestDB")); n != 1 {
		t.Errorf("said %d times that it is connected", n)
	}
	if n := testutil.ToFloat64(p.metrics.Handshakes.WithLabelValues("ok")); n != 3 {
		t.Errorf("%v handshakes counted", n)
	}
	want := ""
	for state, n := range map[string]int{"idle": 2, "acquired": 1, "connecting": 0, "closing": 0} {
		want += fmt.Sprintf("questdb_ilp_proxy_upstream_connections{state=%q} %d\n", state, n)
	}
	const help = "# HELP questdb_ilp_proxy_upstream_connections Connections to QuestDB: ready (idle), in use (acquired), being made (connecting), being ended by the proxy (closing).\n" +
		"# TYPE questdb_ilp_proxy_upstream_connections gauge\n"
	if err := testutil.CollectAndCompare(p.metrics.Connections, strings.NewReader(help+want)); err != nil {
		t.Error(err)
	}
}

func TestWrongKeyThenRight(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	s, p, logs := withServer(t, Options{MinIdle: 2, Max: 4, Key: key}, func(b *standin.Behaviour) { b.RefuseKeys = true })
	await(t, p, "a reason", func(st Status) bool { return strings.Contains(st.Reason, "wrong credentials") })
	if st := p.Status(); st.Ready || !strings.Contains(st.Reason, s.Addr()) || !strings.Contains(st.Reason, `"k1"`) {
		t.Errorf("%+v", st)
	}
	s.Wait(t, "5 attempts", func(st standin.Stats) bool { return st.Refused >= 5 })
	s.Behave(func(b *standin.Behaviour) { b.RefuseKeys = false })
	acquire(t, p)
	await(t, p, "readiness", func(st Status) bool { return st.Ready && st.Reason == "" })
	if n := len(logs.lines("level=ERROR", "refuses the credentials", "x and y")); n != 1 {
		t.Errorf("%d errors:\n%s", n, logs)
	}
}

func TestNoServerThenServer(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	s := standin.New(t, key.AuthLine())
	s.StopListening()
	p, logs := startPool(t, Options{Addrs: []string{s.Addr()}, Key: key, MinIdle: 2, Max: 4,
		RetryBase: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond})
	await(t, p, "a reason", func(st Status) bool { return strings.Contains(st.Reason, "connection refused") })
	retries := func(Status) bool { return testutil.ToFloat64(p.metrics.Retries) >= 3 }
	await(t, p, "some retries", retries)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	acquire(t, p)
	await(t, p, "2 idle ones", func(st Status) bool { return st.Idle == 2 })
	if n := len(logs.lines("level=WARN")); n != 1 {
		t.Errorf("%d warnings:\n%s", n, logs)
	}
	if n := testutil.ToFloat64(p.metrics.Retries); n < 3 || n > 30 {
		t.Errorf("%v retries", n)
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 2, Max: 4, AuthTimeout: 50 * time.Millisecond},
		func(b *standin.Behaviour) { b.Challenge = standin.ChallengeNone })
	await(t, p, "a reason", func(st Status) bool { return strings.Contains(st.Reason, "no challenge within 50ms") })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no challenge") {
		t.Errorf("error of Acquire: %v", err)
	}
	s.Behave(func(b *standin.Behaviour) { b.Challenge = standin.ChallengeProper })
	acquire(t, p)
}

func TestServerLimitedBelowMax(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 1, Max: 8, AuthTimeout: 200 * time.Millisecond},
		func(b *standin.Behaviour) { b.ConnLimit = 3 })
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			c := acquire(t, p)
			if _, err := c.Write([]byte("t a=1\n")); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			if end := awaitEnd(t, c); !end.Clean() {
				t.Errorf("end %+v", end)
			}
			c.Discard()
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Bytes != 30*6 || st.MaxOpen > 3 {
		t.Errorf("%+v", st)
	}
}

func TestKilledIdleConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	s, p, logs := withServer(t, Options{MinIdle: 3, Max: 6})
	for round := range 3 {
		await(t, p, "3 idle ones", func(st Status) bool { return st.Idle == 3 && st.Connecting == 0 })
		time.Sleep(youngAge + 50*time.Millisecond) // ages need real time here
		if n := s.KillAll(); n != 3 {
			t.Errorf("%d killed", n)
		}
		s.Wait(t, "new ones", func(st standin.Stats) bool { return st.OK == 3*(round+2) })
	}
	await(t, p, "3 idle ones", func(st Status) bool { return st.Idle == 3 })
	if n := testutil.ToFloat64(p.metrics.ClosedIdle); n != 9 {
		t.Errorf("%v closed ones counted", n)
	}
	if len(logs.lines("level=WARN")) > 0 {
		t.Errorf("a server's restart is no failure:\n%s", logs)
	}
}

func TestMaxIsNeverExceeded(t *testing.T) {
	t.Parallel()
	const limit = 5
	var open, most atomic.Int64
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		n := open.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return &countedConn{Conn: nc, open: &open}, nil
	}
	s, p, _ := withServer(t, Options{MinIdle: 2, Max: limit, Dial: dial})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			if i%10 == 0 {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			}
			defer cancel()
			c, err := p.Acquire(ctx)
			if err != nil {
				if i%10 != 0 {
					t.Error(err)
				}
				return
			}
			defer c.Discard()
			if _, err := c.Write([]byte("t a=1\n")); err != nil && i%20 != 0 {
				t.Error(err)
			}
			if st := p.Status(); st.Idle+st.Acquired > limit {
				t.Errorf("%+v", st)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > limit {
		t.Errorf("%d connections at once, at most %d allowed", n, limit)
	}
	await(t, p, "rest", func(st Status) bool { return st.Acquired == 0 && st.Connecting == 0 && st.Idle >= 2 })
	if st := s.Stats(); st.Refused > 0 {
		t.Errorf("%+v", st)
	}
}

func TestRefusedConnectionsAreNotHandedOut(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 2, Max: 8, RetryBase: time.Millisecond, RetryMax: 2 * time.Millisecond})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // every other moment the server refuses everybody
		for refuse := true; ; refuse = !refuse {
			s.Behave(func(b *standin.Behaviour) { b.RefuseKeys = refuse })
			// A server reads its keys when it starts; this one would betray trust.
			p.server(s.Addr(), (*serverState).distrust)
			select {
			case <-stop:
				return
			case <-time.After(7 * time.Millisecond):
			}
		}
	})
	longest := watchStalls()
	var handedOut []string
	for range 40 {
		c := acquire(t, p)
		handedOut = append(handedOut, c.nc.LocalAddr().String())
		c.Discard()
	}
	close(stop)
	wg.Wait()
	proven := map[string]bool{}
	for _, c := range s.Conns() {
		proven[c.RemoteAddr().String()] = true
	}
	wrong := 0
	for _, addr := range handedOut {
		if !proven[addr] {
			wrong++
			t.Logf("%s was handed out, and its signature refused", addr)
		}
	}
	// The stand-in refuses within 10 ms, probationTrusted is 20: who finds the machine
	// stalled for the difference cannot tell. Without a probation a third would be wrong.
	if stall := longest(); wrong > 0 && stall < 10*time.Millisecond || wrong > 2 {
		t.Errorf("%d of %d that were handed out were refused; the machine stalled for %v at the most", wrong, len(handedOut), stall)
	}
	if st := s.Stats(); st.Refused < 5 {
		t.Errorf("not much of a test: %+v", st)
	}
}

// watchStalls measures, until the function that it returns is called, for how long this
// process did not get to run, or a timer of it to fire; that returns the longest time.
func watchStalls() (longest func() time.Duration) {
	stop, found := make(chan struct{}), make(chan time.Duration)
	go func() {
		const every = time.Millisecond
		most, last := time.Duration(0), time.Now()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				now := time.Now()
				most, last = max(most, now.Sub(last)-every), now
			case <-stop:
				found <- most
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-found
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		do    func(t *testing.T, s *standin.Server, c *Conn)
		check func(End) bool
	}{
		"after our half-close": {
			func(t *testing.T, s *standin.Server, c *Conn) {
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
			},
			func(e End) bool { return e.Clean() && e.Err == nil && e.AfterHalfClose && e.Unacked == 0 },
		},
		"server closes": {
			func(t *testing.T, s *standin.Server, c *Conn) { s.Conns()[0].Close() },
			func(e End) bool { return e.Err == nil && !e.AfterHalfClose && !e.Clean() },
		},
		"server resets": {
			func(t *testing.T, s *standin.Server, c *Conn) { s.Conns()[0].Reset() },
			func(e End) bool { return errors.Is(e.Err, syscall.ECONNRESET) && !e.AfterHalfClose },
		},
		"server speaks and closes": {
			func(t *testing.T, s *standin.Server, c *Conn) {
				if err := s.Conns()[0].Send(bytes.Repeat([]byte("unexpected\n"), 100)); err != nil {
					t.Error(err)
				}
				s.Conns()[0].Close()
			},
			func(e End) bool { return e.Err == nil && !e.Clean() },
		},
		"server does not stop speaking": {
			func(t *testing.T, s *standin.Server, c *Conn) {
				_ = s.Conns()[0].Send(bytes.Repeat([]byte("unexpected\n"), 1000)) // its end may come in between
			},
			func(e End) bool { return errors.Is(e.Err, auth.ErrChallengeMalformed) && !e.Clean() },
		},
		"our own doing": {
			func(t *testing.T, s *standin.Server, c *Conn) { c.Discard() },
			func(e End) bool { return errors.Is(e.Err, net.ErrClosed) && !e.Clean() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, _ := withServer(t, Options{MinIdle: 0, Max: 1})
			c := acquire(t, p)
			if _, err := c.Write([]byte("t a=1\n")); err != nil {
				t.Fatal(err)
			}
			s.Wait(t, "the row", func(st standin.Stats) bool { return st.Bytes == 6 })
			begin := time.Now()
			tc.do(t, s, c)
			end := awaitEnd(t, c)
			if !tc.check(end) {
				t.Errorf("end %+v", end)
			}
			if end.At.Before(begin) || time.Since(end.At) > 20*time.Second {
				t.Errorf("at %v", end.At)
			}
			_ = c.CloseWrite()
			c.Discard()
			if _, err := c.Write([]byte("t a=2\n")); err == nil {
				t.Error("written to after Discard")
			}
			if _, err := c.TryWrite([]byte("t a=2\n")); err == nil {
				t.Error("written to after Discard")
			}
			acquire(t, p) // its place is free
		})
	}
}

// A FIN that the reader has not noticed yet when we half-close is not an answer to
// our FIN, even if everything is acknowledged when it is.
func TestHalfCloseAfterTheServersFINIsNoCleanEnd(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 0, Max: 1})
	for range 10 {
		c := acquire(t, p)
		conns := s.Conns()
		c.closeWrite.Lock() // the reader needs it, and so learns late
		conns[len(conns)-1].Close()
		<-conns[len(conns)-1].Ended()
		first, err := c.halfClose()
		if first || err != nil {
			t.Fatalf("ours came first: %v, %v", first, err)
		}
		c.closeWrite.done, c.closeWrite.first = true, first
		c.closeWrite.Unlock()
		if end := awaitEnd(t, c); end.Clean() {
			t.Fatalf("end %+v", end)
		}
		c.Discard()
	}
}

func TestUnackedWhileTheServerIsStalled(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 0, Max: 1})
	c := acquire(t, p)
	s.Wait(t, "the login", func(st standin.Stats) bool { return st.OK == 1 })
	s.Stall()
	block := bytes.Repeat([]byte("0123456789abcde\n"), 1<<13)
	total := 0
	for full := 0; full < 3; {
		n, err := c.TryWrite(block)
		if err != nil || n < 0 || n > len(block) {
			t.Fatal(n, err)
		}
		total += n
		if n == 0 {
			full++
			time.Sleep(20 * time.Millisecond) // the kernel may still move something on
		} else {
			full = 0
		}
	}
	if n, err := c.Unacked(); err != nil || n <= 0 || n > total {
		t.Errorf("%d of %d unacknowledged, %v", n, total, err)
	}
	if !c.alive() {
		t.Error("backpressure was taken for an end")
	}
	s.Resume()
	s.Wait(t, "the rest", func(st standin.Stats) bool { return st.Bytes == int64(total) })
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if end := awaitEnd(t, c); !end.Clean() {
		t.Errorf("end %+v", end)
	}
}

func TestTryWriteDoesNotAllocate(t *testing.T) {
	s, p, _ := withServer(t, Options{MinIdle: 0, Max: 1}, func(b *standin.Behaviour) { b.Forget = true })
	c := acquire(t, p)
	row := []byte("t a=1\n")
	total := 0
	allocs := testing.AllocsPerRun(1000, func() {
		n, err := c.TryWrite(row)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	})
	if allocs > 0.5 && !raceEnabled { // the server in this process allocates a little
		t.Errorf("%v allocations for each TryWrite", allocs)
	}
	s.Wait(t, "the rows", func(st standin.Stats) bool { return st.Bytes == int64(total) })
}

func BenchmarkTryWrite(b *testing.B) {
	client, server := tcpPair(b)
	go func() {
		buf := make([]byte, 1<<20)
		for {
			if _, err := server.Read(buf); err != nil {
				return
			}
		}
	}()
	p := &Pool{log: discardLog()}
	c := newConn(p, 1, "", client, 0)
	block := make([]byte, 64<<10)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		for sent := 0; sent < len(block); {
			n, err := c.TryWrite(block[sent:])
			if err != nil {
				b.Fatal(err)
			}
			sent += n
		}
	}
}

func tcpPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestUnusedConnectionsAreGivenBack half-closes young connections on which nothing was written, as those do who find
// that they don't need one: that the server closes then is no sign of trouble.
func TestUnusedConnectionsAreGivenBack(t *testing.T) {
	t.Parallel()
	_, p, log := withServer(t, Options{MinIdle: 2, Max: 8})
	for n := range 20 {
		c := acquire(t, p)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		c.Discard()
		if reason := p.Status().Reason; reason != "" {
			t.Fatalf("after %d of them: %s", n+1, reason)
		}
	}
	if strings.Contains(log.String(), "closes authenticated") {
		t.Errorf("a false alarm:\n%s", log)
	}
}
