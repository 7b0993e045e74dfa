package delivery

import (
	"context"
	"time"

	"questdb-ilp-proxy/proxy/upstream"
)

// Conn is an authenticated upstream connection, as upstream.Conn is one.
type Conn interface {
	// Write writes all of p, waiting while the server does not read.
	Write(p []byte) (int, error)
	// TryWrite writes what the connection takes at once, perhaps nothing.
	TryWrite(p []byte) (int, error)
	// CloseWrite sends our FIN.
	CloseWrite() error
	// Done is closed when the connection has ended, by either side.
	Done() <-chan struct{}
	// End tells how it ended; valid once Done is closed.
	End() upstream.End
	// Addr is the server's IP address and port.
	Addr() string
	// Unacked is how many bytes of ours its kernel has not acknowledged.
	Unacked() (int, error)
	// Pings is how many LFs the pool sent over it.
	Pings() int
	// Discard closes the connection and gives its slot back.
	Discard()
}

// Witness is the connections that were open, to the same server, when another
// one ended.
type Witness interface {
	// Some reports whether there was any.
	Some() bool
	// Gone reports whether all of them have ended.
	Gone() bool
	// Alive reports whether one of them is still open and its server's kernel
	// answers: then the server process that was there has been there ever since.
	Alive(ctx context.Context) bool
	// Release says that nobody asks it any more: its connections may go. It may be
	// called again.
	Release()
}

// Source hands out upstream connections and knows whether servers live.
type Source interface {
	// Acquire waits for a connection that is authenticated, until ctx ends.
	Acquire(ctx context.Context) (Conn, error)
	// AcquireAddr is Acquire for one server only.
	AcquireAddr(ctx context.Context, addr string) (Conn, error)
	// Witness notes which other connections to conn's server are open.
	Witness(conn Conn) Witness
	// Prove makes a handshake with the server and returns nil if it was answered
	// as fast as usual.
	Prove(ctx context.Context, addr string) error
	// ProveSoon is Prove, but may begin a little later, for several who ask at once.
	ProveSoon(ctx context.Context, addr string) error
	// Hurry asks for n connections to be kept ready for a while.
	Hurry(n int, d time.Duration)
}
