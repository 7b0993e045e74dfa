package admin

import (
	"net"
	"sync"
	"sync/atomic"
)

// limitListener accepts no more than cap(slots) connections at a time. Those over it wait in the kernel's queue.
type limitListener struct {
	*net.TCPListener
	slots chan struct{} // one for each open connection, and one for the next while Accept waits for it
	open  atomic.Int64
	done  chan struct{}
	close func() error // once: net/http closes a listener as well as its owner
}

func newLimitListener(ln *net.TCPListener, limit int) *limitListener {
	l := &limitListener{TCPListener: ln, slots: make(chan struct{}, limit), done: make(chan struct{})}
	l.close = sync.OnceValue(func() error {
		close(l.done)
		return ln.Close()
	})
	return l
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		<-l.slots
		return nil, err
	}
	l.open.Add(1)
	return &limitConn{TCPConn: conn, release: sync.OnceFunc(func() {
		l.open.Add(-1)
		<-l.slots
	})}, nil
}

func (l *limitListener) Close() error { return l.close() }

// crowded reports whether more than half the connections are taken: time to keep none open for later.
func (l *limitListener) crowded() bool { return 2*l.open.Load() > int64(cap(l.slots)) }

// limitConn gives its slot back when it is closed. It embeds the TCPConn, and not a net.Conn, to keep CloseWrite, by which
// net/http saves an answer from the reset that closing with unread input causes.
type limitConn struct {
	*net.TCPConn
	release func()
}

func (c *limitConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}
