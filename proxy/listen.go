package proxy

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"
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

// admit makes a session of conn, waiting for a place if all are taken: then the
// caller accepts nobody meanwhile, and writers wait in the kernel's backlog.
func (s *Server) admit(conn net.Conn) {
	if !isUnix(conn) && !s.o.Allow(remoteIP(conn)) {
		s.m.refused.WithLabelValues(notAllowed).Inc()
		s.limit.Log(s.ctx, slog.LevelWarn, "allow", "refused a connection; ILP_ALLOW says who may connect",
			slog.String("remote", conn.RemoteAddr().String()))
		_ = conn.Close()
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.waiting.Add(1)
		s.m.waiting.Inc()
		s.limit.Log(s.ctx, slog.LevelWarn, "clients", "ILP_MAX_CLIENTS writers are connected; more wait until one leaves",
			slog.Int("limit", s.o.MaxClients))
		var ended bool
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			ended = true
		}
		s.waiting.Add(-1)
		s.m.waiting.Dec()
		if ended {
			_ = conn.Close()
			return
		}
	}
	se, err := newSession(s, conn)
	if err != nil {
		s.m.refused.WithLabelValues(acceptFailed).Inc()
		s.limit.Log(s.ctx, slog.LevelError, "session", "cannot serve a writer", slog.Any("error", err))
		<-s.slots
		_ = conn.Close()
		return
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		se.close()
		<-s.slots
		return
	}
	s.sessions[se] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.m.accepted.Inc()
	s.m.sessions.Inc()
	go s.serve(se)
}

// serve runs a session; it is a method so that goroutine dumps name it.
func (s *Server) serve(se *session) {
	defer s.wg.Done()
	reason := se.run(s.ctx)
	s.mu.Lock()
	delete(s.sessions, se)
	s.mu.Unlock()
	s.m.ended.WithLabelValues(reason).Inc()
	s.m.sessions.Dec()
	se.close()
	<-s.slots
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
