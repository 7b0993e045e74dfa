package proxytest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// writeLimit bounds what a writer does; backpressure may hold it up for long.
const writeLimit = 2 * time.Minute

// Dial connects as a writer does. The connection is closed when the test ends.
func (p *Proxy) Dial() *net.TCPConn {
	p.t.Helper()
	conn, err := net.DialTimeout("tcp", p.addr, startLimit)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// Send connects, writes ilp, half-closes, and returns when the proxy has read all
// of it and closed the connection.
func (p *Proxy) Send(ilp string) {
	p.t.Helper()
	if err := p.TrySend(ilp); err != nil {
		p.t.Fatal(err)
	}
}

// TrySend is Send for other goroutines than the test's.
func (p *Proxy) TrySend(ilp string) error {
	conn, err := net.DialTimeout("tcp", p.addr, startLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(writeLimit))
	if _, err := io.WriteString(conn, ilp); err != nil {
		return fmt.Errorf("writing to the proxy: %w", err)
	}
	return Finish(conn)
}

// Finish half-closes a writer's connection and returns when the proxy has read
// all of it and closed its side. It is an error if the proxy says anything.
func Finish(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T cannot be half-closed", conn)
	}
	if err := tcp.CloseWrite(); err != nil {
		return fmt.Errorf("half-closing: %w", err)
	}
	if n, err := io.Copy(io.Discard, conn); err != nil {
		return fmt.Errorf("waiting for the proxy to close: %w", err)
	} else if n > 0 {
		return errors.New("the proxy said something to a writer")
	}
	return nil
}
