package proxy

import (
	"log/slog"
	"syscall"
	"time"
)

// The only timer of a session is its connection's read deadline. It serves the
// idle timeout, the quiet time of a drain, and to wake a session from outside.

// past is a deadline that wakes a session at once.
var past = time.Unix(1, 0)

// arm sets the deadline that the next read needs.
func (s *session) arm() {
	switch {
	case s.draining.Load() && s.told:
		at := time.Now().Add(quiet)
		if s.scan.MidRecord() {
			at = time.Time{}
		}
		if half := s.half.Load(); half != 0 && (at.IsZero() || at.UnixNano() > half) {
			at = time.Unix(0, half)
		}
		s.setDeadline(at)
	case s.srv.o.IdleTimeout > 0 && s.armed.IsZero():
		// Once per timeout, not once per read: timeout looks at lastRead.
		s.lastRead = time.Now()
		s.setDeadline(s.lastRead.Add(s.srv.o.IdleTimeout))
	}
}

// setDeadline sets the read deadline, unless the session is to wake up.
func (s *session) setDeadline(at time.Time) {
	s.armed = at
	_ = s.conn.SetReadDeadline(at) // fails only on a closed connection, as the read will
	if s.kicked.Load() {
		_ = s.conn.SetReadDeadline(past)
	}
}

// kick wakes the session, to look at what has changed. It and its callers below
// run in other goroutines.
func (s *session) kick() {
	s.kicked.Store(true)
	_ = s.conn.SetReadDeadline(past)
}

// drain tells the session that the proxy is to end, at half at the latest.
func (s *session) drain(half time.Time) {
	if !half.IsZero() {
		s.half.Store(half.UnixNano())
	}
	s.draining.Store(true)
	s.kick()
}

// evict ends the session for the memory that it holds.
func (s *session) evict() {
	s.evicted.Store(true)
	s.kick()
}

// disconnect ends the session because a record of it was rejected, as QuestDB
// itself would.
func (s *session) disconnect() {
	s.unwanted.Store(true)
	s.kick()
}

// timeout says what a passed deadline means: the end of the session or, having
// set a new one, nothing yet.
func (s *session) timeout() (reason string, over bool) {
	now := time.Now()
	switch {
	case s.draining.Load() && !s.told:
		s.told = true
		if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite() // an error means that the writer is gone: the next read tells
		}
		return "", false
	case s.draining.Load():
		half := s.half.Load()
		if half != 0 && now.UnixNano() >= half {
			return endDrain, true
		}
		// Woken early, or within a record, or in the very moment in which
		// something arrived: go on.
		return endDrain, !now.Before(s.armed) && !s.scan.MidRecord() && !readable(s.raw)
	case s.srv.o.IdleTimeout == 0:
		s.setDeadline(time.Time{})
		return "", false
	case now.Sub(s.lastRead) < s.srv.o.IdleTimeout:
		s.setDeadline(s.lastRead.Add(s.srv.o.IdleTimeout))
		return "", false
	case readable(s.raw):
		// It was the proxy that did not read: its memory was full.
		s.lastRead = now
		s.setDeadline(now.Add(s.srv.o.IdleTimeout))
		return "", false
	}
	s.srv.limit.Log(s.srv.ctx, slog.LevelInfo, endIdle, "disconnected a writer that was silent for ILP_CLIENT_IDLE_TIMEOUT",
		slog.String("remote", s.out.Remote()))
	return endIdle, true
}

// readable reports whether bytes, an end or a datagram are there to be read.
func readable(conn syscall.RawConn) (yes bool) {
	var p [1]byte
	err := conn.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		yes = err == nil
	})
	return yes && err == nil
}
