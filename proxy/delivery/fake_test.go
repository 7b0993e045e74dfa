package delivery

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"questdb-ilp-proxy/proxy/upstream"
)

var errReset = errors.New("connection reset by peer")

// fakeServer is a Source whose connections keep what is written to them.
type fakeServer struct {
	mu    sync.Mutex
	conns []*fakeConn
	// window is how many bytes a new connection takes before it blocks; 0: all.
	window int
	// killAfter is after how many bytes each new connection fails; 0: never.
	killAfter int
	down      chan struct{} // Acquire waits until it is closed; nil: not at all
}

func (s *fakeServer) Acquire(ctx context.Context) (Conn, error) {
	if s.down != nil {
		select {
		case <-s.down:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &fakeConn{s: s, done: make(chan struct{}), killAfter: s.killAfter, window: s.window}
	if s.window == 0 {
		c.window = 1 << 40
	}
	c.room.L = &c.mu
	s.conns = append(s.conns, c)
	return c, nil
}

func (s *fakeServer) conn(i int) *fakeConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.conns) {
		return nil
	}
	return s.conns[i]
}

// whole returns what a server keeps: the whole records of each connection, in
// the order of the connections.
func (s *fakeServer) whole() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []byte
	for _, c := range s.conns {
		c.mu.Lock()
		p := c.got.Bytes()
		all = append(all, p[:bytes.LastIndexByte(p, '\n')+1]...)
		c.mu.Unlock()
	}
	return all
}

type fakeConn struct {
	s         *fakeServer
	mu        sync.Mutex
	room      sync.Cond
	got       bytes.Buffer
	window    int
	killAfter int
	half      bool
	end       upstream.End
	done      chan struct{}
	once      sync.Once
}

func (c *fakeConn) TryWrite(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.take(p)
}

func (c *fakeConn) take(p []byte) (int, error) {
	select {
	case <-c.done:
		return 0, errReset
	default:
	}
	n := min(len(p), c.window)
	if c.killAfter > 0 {
		n = min(n, c.killAfter-c.got.Len())
	}
	c.got.Write(p[:n])
	c.window -= n
	if c.killAfter > 0 && c.got.Len() == c.killAfter {
		c.over(errReset)
		return n, errReset
	}
	return n, nil
}

func (c *fakeConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum int
	for {
		n, err := c.take(p[sum:])
		sum += n
		if err != nil || sum == len(p) {
			return sum, err
		}
		c.room.Wait()
	}
}

// open lets the connection take n bytes more.
func (c *fakeConn) open(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window += n
	c.room.Broadcast()
}

// over ends the connection; mu is held.
func (c *fakeConn) over(err error) {
	c.once.Do(func() {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		c.end = upstream.End{Err: err, At: time.Now(), AfterHalfClose: c.half}
		close(c.done)
		c.room.Broadcast()
	})
}

func (c *fakeConn) kill(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over(err)
}

func (c *fakeConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.half = true
	c.over(io.EOF)
	return nil
}

func (c *fakeConn) Done() <-chan struct{} { return c.done }
func (c *fakeConn) End() upstream.End     { return c.end }
func (c *fakeConn) Addr() string          { return "fake:9009" }
func (c *fakeConn) Discard()              { c.kill(errors.New("discarded")) }
