package proxy

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// Serve accepts writers on l until Shutdown or Close, and then returns
// ErrServerClosed. A failing Accept (no more file handles, say) is tried again
// with growing pauses, since writers must find the listener there when the
// trouble is over. Serve closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	done := make(chan struct{})
	s.listeners[l] = done
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer close(done)

	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(conn)
			continue
		case s.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return ErrServerClosed
		case s.lastCall.Load() && errors.Is(err, os.ErrDeadlineExceeded):
			if s.acceptOneMore(l) {
				continue
			}
			_ = l.Close()
			return ErrServerClosed
		}
		pause = min(max(2*pause, acceptBackoffMin), acceptBackoffMax)
		s.m.refused.WithLabelValues(acceptFailed).Inc()
		s.limit.Log(s.ctx, slog.LevelError, "accept", "cannot accept writers; trying again",
			slog.String("listener", l.Addr().String()), slog.Any("error", err), slog.Duration("pause", pause))
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-s.ctx.Done():
			t.Stop()
		}
	}
}

// acceptOneMore takes the deadline off l if somebody has connected there already, and
// admits one. On a busy machine a deadline may be over before anybody could look.
func (s *Server) acceptOneMore(l net.Listener) bool {
	conn, ok := l.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	waiting := false
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		waiting = err == nil && n > 0
	})
	return waiting && s.acceptOne(l)
}

// acceptOne admits a writer that is there, and sets l's deadline anew.
func (s *Server) acceptOne(l net.Listener) bool {
	limited, ok := l.(interface{ SetDeadline(time.Time) error })
	if !ok || limited.SetDeadline(time.Time{}) != nil {
		return false
	}
	conn, err := l.Accept() // or another process was quicker, until l is closed
	if err != nil {
		return false
	}
	s.admit(conn)
	return limited.SetDeadline(past) == nil
}

// admit makes a session of conn, waiting for a place if all are taken: then the
// caller accepts nobody meanwhile, and writers wait in the kernel's backlog.
func (s *Server) admit(conn net.Conn) {
	from := remoteIP(conn)
	if !isUnix(conn) && !s.o.Allow(from) {
		s.refuse(conn, notAllowed, "refused a connection; ILP_ALLOW says who may connect")
		return
	}
	if !s.addresses.take(from) {
		s.refuse(conn, tooMany, "refused a connection: ILP_MAX_CLIENTS_PER_ADDRESS of its address are there",
			slog.Int("limit", s.o.MaxClientsPerAddress))
		return
	}
	if !s.takePlace() {
		s.addresses.leave(from)
		_ = conn.Close()
		return
	}
	free := func() {
		<-s.slots
		s.addresses.leave(from)
	}
	se, err := newSession(s, conn)
	if err != nil {
		s.m.refused.WithLabelValues(acceptFailed).Inc()
		s.limit.Log(s.ctx, slog.LevelError, "session", "cannot serve a writer", slog.Any("error", err))
		_ = conn.Close()
		free()
		return
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		se.close()
		free()
		return
	}
	s.sessions[se] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.m.accepted.Inc()
	s.m.sessions.Inc()
	go s.serve(se, free)
}

// refuse closes a connection that does not become a session.
func (s *Server) refuse(conn net.Conn, reason, msg string, attrs ...slog.Attr) {
	s.m.refused.WithLabelValues(reason).Inc()
	s.limit.Log(s.ctx, slog.LevelWarn, reason, msg, append(attrs, slog.String("remote", conn.RemoteAddr().String()))...)
	_ = conn.Close()
}

// takePlace waits for one of the places of ILP_MAX_CLIENTS; it reports false if the
// server ends first.
func (s *Server) takePlace() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	s.waiting.Add(1)
	s.m.waiting.Inc()
	defer s.waiting.Add(-1)
	defer s.m.waiting.Dec()
	s.limit.Log(s.ctx, slog.LevelWarn, "clients", "ILP_MAX_CLIENTS writers are connected; more wait until one leaves",
		slog.Int("limit", s.o.MaxClients))
	select {
	case s.slots <- struct{}{}:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// serve runs a session, and frees its place; it is a method so that goroutine dumps
// name it.
func (s *Server) serve(se *session, free func()) {
	defer s.wg.Done()
	reason := se.run(s.ctx)
	s.mu.Lock()
	delete(s.sessions, se)
	s.mu.Unlock()
	s.m.ended.WithLabelValues(reason).Inc()
	se.close()
	free()
	s.m.sessions.Dec() // last: whoever sees it gone can have its place
}

// isUnix reports whether conn came by a Unix socket: the mode of its file says
// who may connect.
func isUnix(conn net.Conn) bool {
	_, ok := conn.(*net.UnixConn)
	return ok
}

// remoteName is what a writer is called in logs and rejected records. Those on a
// Unix socket have no address of their own.
func remoteName(conn net.Conn) string {
	if isUnix(conn) {
		return "unix:" + conn.LocalAddr().String()
	}
	return conn.RemoteAddr().String()
}

// remoteIP returns the address of the other end; the zero Addr if it has none.
func remoteIP(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
