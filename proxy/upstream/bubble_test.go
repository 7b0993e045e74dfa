package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/bubble"
)

// These tests run whole pools in synctest bubbles, against servers at the other
// end of a net.Pipe, so that minutes of retries take no time and can be counted.

// logBuffer is where a test's pool logs to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns those that contain all of what.
func (l *logBuffer) lines(what ...string) (found []string) {
	for line := range strings.Lines(l.String()) {
		all := true
		for _, w := range what {
			all = all && strings.Contains(line, w)
		}
		if all {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func testKey(t testing.TB) *auth.Key {
	t.Helper()
	key, err := auth.Generate("k1")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// startPool starts a pool that ends with the test, and its log at debug level.
func startPool(t testing.TB, o Options) (*Pool, *logBuffer) {
	t.Helper()
	logs := &logBuffer{}
	o.Logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if o.Key == nil {
		o.Key = testKey(t)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	t.Cleanup(func() {
		p.Close()
		if t.Failed() {
			t.Logf("the pool's log:\n%s", logs)
		}
	})
	return p, logs
}

// script is a server's part, from accepted to the end.
type script func(nc net.Conn)

// pipes is a Dial to servers that follow a script.
type pipes struct {
	dials   atomic.Int64
	open    atomic.Int64
	maxOpen atomic.Int64
	script  atomic.Pointer[script]
}

func newPipes(s script) *pipes {
	p := &pipes{}
	p.script.Store(&s)
	return p
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.dials.Add(1)
	s := *p.script.Load()
	if s == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errors.New("connection refused"))}
	}
	client, server := net.Pipe()
	n := p.open.Add(1)
	for m := p.maxOpen.Load(); n > m && !p.maxOpen.CompareAndSwap(m, n); m = p.maxOpen.Load() {
	}
	go func() {
		defer server.Close()
		s(server)
	}()
	return &countedConn{Conn: client, open: &p.open}, nil
}

// countedConn counts down when it is closed.
type countedConn struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.open.Add(-1) })
	return err
}

// The parts of scripts. None looks at the signature: see package standin for that.

func readLine(nc net.Conn) { _, _ = bufio.NewReader(nc).ReadBytes('\n') }

func challenge(nc net.Conn) {
	readLine(nc)
	fmt.Fprintf(nc, "%s\n", strings.Repeat("c", auth.ChallengeSize))
}

func accept(nc net.Conn) {
	challenge(nc)
	readLine(nc)
}

func healthy(nc net.Conn) {
	accept(nc)
	_, _ = io.Copy(io.Discard, nc)
}

func TestNoTightLoopWhateverTheServerDoes(t *testing.T) {
	const window = 10 * time.Minute
	for name, tc := range map[string]struct {
		script script
		max    int64    // attempts in the window
		min    int64    // it never gives up
		lines  int      // of log above debug, at most
		reason []string // in the status
	}{
		"refuses to connect":         {nil, 40, 20, 11, []string{"no answer", "connection refused", "9009"}},
		"accepts and closes":         {func(net.Conn) {}, 40, 20, 11, []string{"closed instead of a challenge"}},
		"closes after the key id":    {readLine, 40, 20, 11, []string{"closed instead of a challenge"}},
		"closes after the challenge": {challenge, 40, 20, 11, []string{"lost after the signature"}},
		"closes after the signature": {accept, 25, 15, 12, []string{"wrong credentials", `"k1"`, "auth.txt"}},
		"closes when ready": {func(nc net.Conn) {
			accept(nc)
			time.Sleep(200 * time.Millisecond)
		}, 100, 20, 14, nil}, // two or three after each pause
		"never speaks": {func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }, 30, 10, 11,
			[]string{"no challenge within 15s", "full", "stuck", "without authentication"}},
		"does not stop speaking": {func(nc net.Conn) {
			accept(nc)
			_, _ = nc.Write(make([]byte, 100000))
		}, 40, 20, 11, []string{"malformed challenge"}},
		"speaks another protocol": {func(nc net.Conn) {
			readLine(nc)
			fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}, 40, 20, 11, []string{"malformed challenge"}},
	} {
		for _, waiting := range []int{0, 50} {
			t.Run(fmt.Sprintf("%s, %d waiting", name, waiting), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					pipes := newPipes(tc.script)
					p, logs := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 16, Dial: pipes.dial})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					for range waiting {
						go func() {
							for ctx.Err() == nil {
								if c, err := p.Acquire(ctx); err == nil {
									<-c.Done() // written to by nobody
									c.Discard()
								}
							}
						}()
					}
					time.Sleep(window)
					synctest.Wait()
					if n := pipes.dials.Load(); n < tc.min || n > tc.max && waiting == 0 || n > 16*tc.max {
						t.Errorf("%d attempts in %v, want %d to %d", n, window, tc.min, tc.max)
					}
					loud := len(logs.lines("level=WARN")) + len(logs.lines("level=ERROR")) + len(logs.lines("level=INFO"))
					if loud > tc.lines {
						t.Errorf("%d lines in the log in %v, want at most %d:\n%s", loud, window, tc.lines, logs)
					}
					st := p.Status()
					for _, want := range tc.reason {
						if st.Ready || !strings.Contains(st.Reason, want) {
							t.Errorf("status %+v, want %q in its reason", st, want)
						}
					}
					if n := pipes.maxOpen.Load(); n > 16 {
						t.Errorf("%d connections at once, at most 16 allowed", n)
					}

					// And then all is well.
					good := script(healthy)
					pipes.script.Store(&good)
					time.Sleep(time.Minute) // an attempt under way, the longest pause, and a moment of trust
					synctest.Wait()
					if st := p.Status(); !st.Ready || st.Reason != "" || st.Connecting > 0 && waiting < 16 {
						t.Errorf("after the server was mended: %+v", st)
					}
					if n := len(logs.lines("connected to QuestDB again", "attempts=")); n != 1 {
						t.Errorf("said %d times that it is connected again, want once", n)
					}
				})
			})
		}
	}
}

func TestWrongCredentialsAreSaidOnceClearly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(accept)
		_, logs := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 4, Dial: pipes.dial})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		lines := logs.lines("level=ERROR")
		if len(lines) != 1 {
			t.Fatalf("%d errors, want one:\n%s", len(lines), logs)
		}
		for _, want := range []string{"refuses the credentials", "10.0.0.1:9009", "k1", "auth.txt", "private key", "x and y", "retry_in=30s"} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%q does not say %q", lines[0], want)
			}
		}
	})
}

func TestIdleConnectionsAreRenewedByAge(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, logs := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 4, Dial: pipes.dial})
		held, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer held.Discard()
		for range 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if st := p.Status(); st.Idle < 2 || !st.Ready {
				t.Fatalf("while renewing: %+v", st)
			}
		}
		// 2 connections for an hour, each for 4 to 5 minutes and what upkeep adds.
		if n := pipes.dials.Load(); n < 23 || n > 34 {
			t.Errorf("%d connections made in an hour", n)
		}
		if !held.alive() || len(logs.lines("level=WARN")) > 0 {
			t.Errorf("held one alive: %v; log:\n%s", held.alive(), logs)
		}
	})
}

func TestIdleConnectionsAreRenewedWhereThereIsNoRoom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 2, Dial: pipes.dial})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := pipes.dials.Load(); n < 23 || n > 34 {
			t.Errorf("%d connections made in an hour", n)
		}
		if st := p.Status(); pipes.maxOpen.Load() > 2 || st.Idle+st.Connecting != 2 {
			t.Errorf("%d at once, want 2; %+v", pipes.maxOpen.Load(), st)
		}
	})
}

func TestSlowChallengeMakesProbationLonger(t *testing.T) {
	for challenge, want := range map[time.Duration]time.Duration{
		0:                      probationMin,
		10 * time.Millisecond:  probationMin,
		100 * time.Millisecond: 500 * time.Millisecond,
		15 * time.Second:       2 * time.Second,
	} {
		if got := probation(challenge); got != want {
			t.Errorf("challenge after %v: probation of %v, want %v", challenge, got, want)
		}
	}
}

func TestServerRestartWhileIdleIsNoFailure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		pipes := newPipes(func(nc net.Conn) {
			accept(nc)
			go func() { _, _ = io.Copy(io.Discard, nc) }()
			select {
			case <-stop:
			case <-t.Context().Done():
			}
		})
		p, logs := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 4, Dial: pipes.dial})
		time.Sleep(10 * time.Second)
		good := script(healthy)
		pipes.script.Store(&good)
		close(stop)
		synctest.Wait()
		if st := p.Status(); !st.Ready {
			t.Errorf("not ready at once after idle connections ended: %+v", st)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if st := p.Status(); st.Idle != 2 {
			t.Errorf("not replaced: %+v", st)
		}
		if len(logs.lines("level=WARN"))+len(logs.lines("again")) > 0 || len(logs.lines("level=DEBUG", "replacing")) != 2 {
			t.Errorf("log:\n%s", logs)
		}
	})
}

func TestNotReadyFiveSecondsAfterTheLastConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(func(nc net.Conn) {
			accept(nc)
			time.Sleep(10 * time.Second)
		})
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 1, Max: 4, Dial: pipes.dial})
		if st := p.Status(); st.Ready || !strings.Contains(st.Reason, "connecting to 10.0.0.1:9009") {
			t.Errorf("at first: %+v", st)
		}
		time.Sleep(5 * time.Second)
		pipes.script.Store(new(script))
		if st := p.Status(); !st.Ready || st.Idle != 1 || st.Addr != "10.0.0.1:9009" {
			t.Errorf("then: %+v", st)
		}
		time.Sleep(9 * time.Second)
		if st := p.Status(); !st.Ready {
			t.Errorf("4 s after the end: %+v", st)
		}
		time.Sleep(3 * time.Second)
		if st := p.Status(); st.Ready || !strings.Contains(st.Reason, "no answer") || time.Since(st.Since) > 3*time.Second {
			t.Errorf("7 s after the end: %+v", st)
		}
	})
}

func TestAddressesAreTriedInOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		var firstUp atomic.Bool
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "10.0.0.1:9009" && !firstUp.Load() {
				<-ctx.Done() // a dead address: the dial takes all the time it has
				return nil, ctx.Err()
			}
			return pipes.dial(ctx, network, addr)
		}
		p, logs := startPool(t, Options{Addrs: []string{"10.0.0.1:9009", "10.0.0.2:9009"}, MinIdle: 1, Max: 4, Dial: dial})
		start := time.Now()
		c, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		between(t, "failed over", start, 10*time.Second, 11*time.Second)
		if c.Addr() != "10.0.0.2:9009" {
			t.Errorf("connected to %s", c.Addr())
		}
		if n := len(logs.lines("using a later address", "10.0.0.2:9009", "10.0.0.1:9009 did not accept")); n != 1 {
			t.Errorf("said %d times:\n%s", n, logs)
		}
		firstUp.Store(true)
		time.Sleep(15 * time.Second) // what was under way
		c.Discard()
		for {
			if c, err = p.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer c.Discard()
			if c.Addr() == "10.0.0.1:9009" {
				break
			}
		}
	})
}

func TestNamesAreResolvedAndEachAddressTried(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		var tried []string
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			tried = append(tried, addr)
			if addr == "[::1]:9009" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return pipes.dial(ctx, network, addr)
		}
		o := Options{Addrs: []string{"questdb:9009"}, MinIdle: 1, Max: 1, Dial: dial, Key: testKey(t)}
		p, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		lookups := 0
		p.lookup = func(context.Context, string) ([]string, error) {
			if lookups++; lookups < 3 {
				return nil, &net.DNSError{Err: "no such host", Name: "questdb"}
			}
			return []string{"::1", "10.0.0.7"}, nil
		}
		p.Start()
		time.Sleep(50 * time.Millisecond)
		if st := p.Status(); !strings.Contains(st.Reason, "questdb:9009") || !strings.Contains(st.Reason, "no such host") {
			t.Errorf("%+v", st)
		}
		start := time.Now()
		c, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		between(t, "connected", start, 5*time.Second, 6*time.Second)
		if c.Addr() != "10.0.0.7:9009" || fmt.Sprint(tried) != "[[::1]:9009 10.0.0.7:9009]" {
			t.Errorf("connected to %s, tried %v", c.Addr(), tried)
		}
	})
}

func TestAcquireServesInOrderAndTakesBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 2, Dial: pipes.dial})
		time.Sleep(time.Second)
		a, _ := p.Acquire(t.Context())
		b, _ := p.Acquire(t.Context())
		if a.ID() < b.ID() {
			t.Errorf("the older one (%d) was handed out before the newer one (%d)", a.ID(), b.ID())
		}
		got := make(chan int, 3)
		for i := range 3 {
			go func() {
				ctx := t.Context()
				if i == 1 {
					c, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					ctx = c
				}
				c, err := p.Acquire(ctx)
				got <- i
				if i == 1 {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("the one with a deadline got %v, %v", c, err)
					}
					return
				}
				time.Sleep(10 * time.Second)
				c.Discard()
			}()
			synctest.Wait()
		}
		time.Sleep(2 * time.Second) // 1 gives up
		a.Discard()
		time.Sleep(time.Second)
		b.Discard()
		b.Discard()
		for _, want := range []int{1, 0, 2} {
			if i := <-got; i != want {
				t.Errorf("%d came next, want %d", i, want)
			}
		}
		time.Sleep(time.Minute)
		if st := p.Status(); st.Idle != 2 || st.Acquired != 0 || st.Connecting != 0 || pipes.maxOpen.Load() != 2 {
			t.Errorf("%+v, %d at once", st, pipes.maxOpen.Load())
		}
	})
}

func TestWithdrawnConnectionGoesToTheNext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 0, Max: 1, Dial: pipes.dial})
		if st := p.Status(); st.Ready || !strings.Contains(st.Reason, "asked for") {
			t.Errorf("%+v", st)
		}
		// Callers whose time is up just when the connection is ready.
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), probationMin)
			if c, err := p.Acquire(ctx); err == nil {
				c.Discard()
			}
			cancel()
		}
		time.Sleep(time.Second)
		c, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.Discard()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 1, Max: 2, Dial: pipes.dial})
		a, _ := p.Acquire(t.Context())
		_, _ = p.Acquire(t.Context())
		waited := make(chan error)
		go func() {
			_, err := p.Acquire(context.Background())
			waited <- err
		}()
		synctest.Wait()
		p.Close()
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Errorf("who waited got %v", err)
		}
		<-a.Done()
		if !errors.Is(a.End().Err, net.ErrClosed) {
			t.Errorf("end %+v", a.End())
		}
		a.Discard()
		if _, err := p.Acquire(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if st := p.Status(); st.Ready || st.Reason != "closed" || pipes.open.Load() != 0 {
			t.Errorf("%+v, %d open", st, pipes.open.Load())
		}
		p.Close()
	})
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{Addrs: []string{"nowhere"}, MinIdle: 20, Max: 16, DialTimeout: -1})
	for _, want := range []string{"missing port", "no key", "20 connections", "dial timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
	p, err := New(Options{Addrs: []string{"a:1"}, Key: testKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	p.Close() // never started
	p.Start()
}
