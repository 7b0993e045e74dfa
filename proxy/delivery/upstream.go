package delivery

import (
	"context"

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
	// Addr is the server's address, for logs.
	Addr() string
	// Discard closes the connection and gives its slot back.
	Discard()
}

// Source hands out upstream connections. Acquire waits until there is one, or
// until ctx ends.
type Source interface {
	Acquire(ctx context.Context) (Conn, error)
}

// SourceFunc lets a function be a Source.
type SourceFunc func(ctx context.Context) (Conn, error)

// Acquire calls f.
func (f SourceFunc) Acquire(ctx context.Context) (Conn, error) { return f(ctx) }
