package standin

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

const (
	challengeSize = 512
	maxLine       = 512 // of a key id or signature
	readSize      = 64 << 10
)

// Conn is one client's connection.
type Conn struct {
	server *Server
	nc     net.Conn
	id     string // the client's key id

	endOnce sync.Once
	ended   chan struct{} // closed when this side has closed

	// Guarded by server.mu.
	process int         // the server's when it accepted this
	pending []row       // parsed, not committed
	timer   *time.Timer // commits them; nil if there are none

	mu       sync.Mutex
	count    int64
	received []byte
}

// KeyID is what the client called itself.
func (c *Conn) KeyID() string { return c.id }

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Received is a copy of what came after the signature.
func (c *Conn) Received() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.received)
}

// Count is how many bytes came after the signature.
func (c *Conn) Count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Ended is closed when the server has closed its side.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Close closes with a FIN (a reset if there is unread data, as everywhere).
func (c *Conn) Close() { c.end(false) }

// Reset resets.
func (c *Conn) Reset() { c.end(true) }

// Send sends what QuestDB never would.
func (c *Conn) Send(p []byte) error {
	_, err := c.nc.Write(p)
	return err
}

// end may be called with server.mu held.
func (c *Conn) end(reset bool) {
	c.endOnce.Do(func() {
		if tcp, ok := c.nc.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = c.nc.Close()
		close(c.ended)
	})
}

// serve is the connection's life.
func (c *Conn) serve() {
	defer c.leave()
	rest, ok := c.handshake()
	if !ok {
		return
	}
	if end := c.server.behaviour().CloseAfterSignature; end != nil {
		// Reads go on meanwhile: unread data would turn a FIN into a reset.
		stop := time.AfterFunc(end.After, func() { c.end(end.Reset) })
		defer stop.Stop()
	}
	if how := c.server.behaviour().Records; how != nil {
		c.serveRecords(rest, how)
		return
	}
	buf := make([]byte, readSize)
	n := copy(buf, rest)
	for {
		if n > 0 && !c.take(buf[:n]) {
			return
		}
		var err error
		if n, err = c.read(buf); err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				c.server.update(func() { c.server.stats.EOF++ })
			}
			return
		}
	}
}

// leave ends the connection, if that was not done, and frees its place.
func (c *Conn) leave() {
	c.end(false)
	c.server.update(func() {
		delete(c.server.open, c)
		c.server.stats.Open = len(c.server.open)
	})
}

// take handles data; false ends the connection.
func (c *Conn) take(chunk []byte) bool {
	how := c.server.behaviour()
	if how.OnData != nil {
		if err := how.OnData(c, chunk); err != nil {
			c.end(errors.Is(err, ErrReset))
			return false
		}
	}
	c.mu.Lock()
	c.count += int64(len(chunk))
	if !how.Forget {
		c.received = append(c.received, chunk...)
	}
	count := c.count
	c.mu.Unlock()
	c.server.update(func() { c.server.stats.Bytes += int64(len(chunk)) })
	switch {
	case how.ResetAfterBytes > 0 && count >= how.ResetAfterBytes:
		c.end(true)
	case how.CloseAfterBytes > 0 && count >= how.CloseAfterBytes:
		c.end(false)
	default:
		return true
	}
	return false
}

// read reads what there is, unless the server is stalled: then it waits.
func (c *Conn) read(p []byte) (int, error) {
	for {
		if !c.running() {
			return 0, net.ErrClosed
		}
		n, err := c.nc.Read(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue // stalled, or just resumed
		}
		// A read that Stall was to end may find what came since, on a busy machine: it
		// counts as read when the server goes on.
		if !c.running() {
			return 0, net.ErrClosed
		}
		return n, err
	}
}

// running waits while the server is stalled; false: the connection has ended.
func (c *Conn) running() bool {
	for {
		c.server.mu.Lock()
		stalled, changed := c.server.stalled, c.server.changed
		c.server.mu.Unlock()
		if !stalled {
			return true
		}
		select {
		case <-changed:
		case <-c.ended:
			return false
		}
	}
}

// handshake does the server's side, and returns what came behind the signature.
func (c *Conn) handshake() (rest []byte, ok bool) {
	id, _, ok := c.line() // what is behind the key id, the server discards
	if !ok {
		return nil, false
	}
	c.id = string(id)
	challenge, ok := c.challenge()
	if !ok {
		return nil, false
	}
	line, rest, ok := c.line()
	if !ok {
		return nil, false
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if err != nil {
		// QuestDB leaks the connection: its place is taken until the server's restart.
		c.server.update(func() { c.server.stats.Malformed++ })
		<-c.ended
		return nil, false
	}
	how := c.server.behaviour()
	c.server.mu.Lock()
	key := c.server.keys[c.id]
	c.server.mu.Unlock()
	if key == nil || how.RefuseKeys || !verify(key, challenge, signature) {
		delay := how.RefuseDelay
		if delay == 0 {
			delay = 100*time.Microsecond + rand.N(9900*time.Microsecond)
		}
		c.pause(delay)
		c.server.update(func() { c.server.stats.Refused++ })
		return nil, false
	}
	c.server.update(func() {
		c.server.stats.OK++
		c.server.conns = append(c.server.conns, c)
	})
	return rest, true
}

// challenge sends the challenge, or what is to come instead of it.
func (c *Conn) challenge() ([]byte, bool) {
	how := c.server.behaviour()
	c.sleep(how.ChallengeDelay)
	challenge := make([]byte, challengeSize, 4*challengeSize)
	for i := range challenge {
		challenge[i] = byte(0x20 + rand.IntN(0x7f-0x20))
	}
	line := append(challenge, '\n')
	switch how.Challenge {
	case ChallengeNone:
		_, _ = io.Copy(io.Discard, readerFunc(c.read)) // until the client gives up
		return nil, false
	case ChallengeClose:
		return nil, false
	case ChallengeReset:
		c.end(true)
		return nil, false
	case ChallengeMalformed:
		line[100] = 0xe9
	case ChallengeShort:
		line[300] = '\n'
	case ChallengeLong:
		line = append(line[:challengeSize], bytes.Repeat([]byte{'x'}, 2*challengeSize)...)
	}
	_, err := c.nc.Write(line)
	return challenge, err == nil
}

// line reads up to an LF, and returns what came behind it as well.
func (c *Conn) line() (line, rest []byte, ok bool) {
	var buf [maxLine]byte
	for n := 0; n < len(buf); {
		m, err := c.read(buf[n:])
		n += m
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return bytes.Clone(buf[:i]), bytes.Clone(buf[i+1 : n]), true
		}
		if err != nil {
			break
		}
	}
	return nil, nil, false
}

// pause waits, but not beyond the connection's end.
func (c *Conn) pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-c.ended:
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
