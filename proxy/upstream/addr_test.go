package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
	"questdb-ilp-proxy/e2e/standin"
)

func acquireAddr(t *testing.T, p *Pool, addr string) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := p.AcquireAddr(ctx, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Discard)
	if c.Addr() != addr {
		t.Errorf("connected to %s instead of %s", c.Addr(), addr)
	}
	return c
}

func TestAcquireAddr(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	second := standin.New(t, key.AuthLine())
	first, p, _ := withServer(t, Options{Key: key, MinIdle: 2, Max: 3})
	awaitIdle(t, p, 2)
	acquireAddr(t, p, second.Addr())
	acquireAddr(t, p, second.Addr()) // takes the place of an idle one of the first
	acquireAddr(t, p, first.Addr())
	if a, b := first.Stats(), second.Stats(); a.Open != 1 || b.Open != 2 {
		t.Errorf("%d and %d open", a.Open, b.Open)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.AcquireAddr(ctx, second.Addr()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in a full pool: %v", err)
	}
}

func TestDeadAddressDoesNotHoldUpTheOthers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		var dead atomic.Int64
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "10.0.0.9:9009" {
				dead.Add(1)
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return pipes.dial(ctx, network, addr)
		}
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 1, Max: 4, Dial: dial})
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make(chan error)
		go func() {
			_, err := p.AcquireAddr(ctx, "10.0.0.9:9009")
			got <- err
		}()
		for range 100 {
			start := time.Now()
			c, err := p.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			between(t, "another one", start, 0, probationMin)
			c.Discard()
			time.Sleep(100 * time.Millisecond)
		}
		if err := <-got; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := dead.Load(); n < 8 || n > 20 {
			t.Errorf("%d attempts in a minute", n)
		}
	})
}

func TestHurry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 1, Max: 6, Dial: pipes.dial})
		idle := func(want int) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if st := p.Status(); st.Idle != want {
				t.Errorf("%+v, want %d idle", st, want)
			}
		}
		idle(1)
		p.Hurry(4, 10*time.Second)
		idle(4)
		p.Hurry(2, time.Second) // another one's does not end this
		c, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		idle(4)
		c.Discard()
		p.Hurry(100, 10*time.Second)
		idle(6)
		time.Sleep(10 * time.Second)
		for range 6 {
			c, err := p.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Discard()
		}
		idle(1)
	})
}

func TestProbationOfATrustedServerIsShort(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		pipes := newPipes(healthy)
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 0, Max: 4, Dial: pipes.dial})
		takes := func(want time.Duration) {
			t.Helper()
			start := time.Now()
			c, err := p.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			between(t, "ready", start, want, want+20*time.Millisecond)
			c.Discard()
		}
		takes(probationMin)
		takes(probationTrusted)
		time.Sleep(trustFor)
		takes(probationMin)
		slow := script(func(nc net.Conn) {
			readLine(nc)
			time.Sleep(15 * time.Millisecond)
			_, _ = io.WriteString(nc, strings.Repeat("c", 512)+"\n")
			_, _ = io.Copy(io.Discard, nc)
		})
		pipes.script.Store(&slow)
		takes(probationMin)
		good, bad := script(healthy), script(accept)
		pipes.script.Store(&bad)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, _ = p.Acquire(ctx) // refused
		pipes.script.Store(&good)
		time.Sleep(time.Second)
		takes(probationMin)
	})
}

// A write that blocks ends with its connection, also where the server only closed
// its side and reads nothing.
func TestBlockedWriteEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  func(server *net.TCPConn, c *Conn)
		want error
	}{
		"FIN":   {func(server *net.TCPConn, _ *Conn) { _ = server.CloseWrite() }, errClosedByServer},
		"reset": {func(server *net.TCPConn, _ *Conn) { _ = server.SetLinger(0); server.Close() }, nil},
		"ours":  {func(_ *net.TCPConn, c *Conn) { c.close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			c := newConn(&Pool{log: discardLog()}, 1, "10.0.0.1:9009", client, 0)
			go c.read()
			wrote := make(chan error, 1)
			go func() {
				_, err := c.Write(make([]byte, 64<<20))
				wrote <- err
			}()
			for full := 0; full < 3; { // until nothing moves
				before, _ := c.Unacked()
				time.Sleep(20 * time.Millisecond)
				if n, _ := c.Unacked(); n == before && n > 0 {
					full++
				}
			}
			tc.end(server.(*net.TCPConn), c)
			select {
			case err := <-wrote:
				if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("error %v, want %v", err, tc.want)
				}
			case <-time.After(10 * time.Second):
				t.Error("the write hangs")
			}
			awaitEnd(t, c)
			if _, err := c.TryWrite([]byte("\n")); err == nil {
				t.Error("written after the end")
			}
			c.close()
		})
	}
}

// Where a connection is no plain TCP, the kernel has nothing to say.
func TestWitnessesThatAreNoPlainTCP(t *testing.T) {
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
		p, _ := startPool(t, Options{Addrs: []string{"10.0.0.1:9009"}, MinIdle: 2, Max: 4, Dial: pipes.dial})
		time.Sleep(time.Second)
		w := p.Witnesses("10.0.0.1:9009", nil)
		if !w.Alive(t.Context()) {
			t.Error("idle ones")
		}
		for range 2 {
			if _, err := p.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if !w.Alive(t.Context()) {
			t.Error("handed out")
		}
		close(stop)
		synctest.Wait()
		if w.Alive(t.Context()) {
			t.Error("ended")
		}
	})
}
