package standin

import (
	"crypto/ecdsa"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// ErrReset is for [Behaviour.OnData].
var ErrReset = errors.New("reset this connection")

// Server listens on a port of 127.0.0.1. Its methods may be called at any time.
type Server struct {
	addr string
	wg   sync.WaitGroup

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when anything below changes
	listener net.Listener  // nil while it does not listen
	closed   bool
	stalled  bool
	keys     map[string]*ecdsa.PublicKey
	how      Behaviour
	open     map[*Conn]struct{}
	conns    []*Conn // all that were authenticated, in that order
	stats    Stats

	process  int    // counts up when the process dies: what it had not committed is gone
	diskFull bool   // every record is refused
	sequence uint64 // of the record that was parsed last
	rows     []row  // committed
}

// Stats counts what happened.
type Stats struct {
	Accepted  int   // connections
	OK        int   // handshakes with a right signature
	Refused   int   // handshakes with an unknown key id or a wrong signature
	Malformed int   // signatures that were no base64: those connections hang for ever
	Open      int   // connections open on this side
	MaxOpen   int   // the most at once
	Bytes     int64 // received after signatures
	EOF       int   // authenticated connections that the client ended with a FIN

	// With Behaviour.Records:
	Parsed         int // records taken, committed or not
	Committed      int
	RefusedRecords int // malformed, or refused by Records.Refuse, or for want of room
}

// New starts a server that accepts the keys of authLines (lines of auth.txt). The
// test's end ends it.
func New(tb testing.TB, authLines ...string) *Server {
	tb.Helper()
	s := &Server{changed: make(chan struct{}), keys: map[string]*ecdsa.PublicKey{}, open: map[*Conn]struct{}{}}
	for _, line := range authLines {
		if err := s.AddKey(line); err != nil {
			tb.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.listen(l)
	tb.Cleanup(s.Close)
	return s
}

// Addr is the address to connect to, also while the server does not listen.
func (s *Server) Addr() string { return s.addr }

// AddKey accepts the key of one line of auth.txt, also instead of another one with
// the same id.
func (s *Server) AddKey(authLine string) error {
	id, key, err := parseAuthLine(authLine)
	if err != nil {
		return err
	}
	s.update(func() { s.keys[id] = key })
	return nil
}

// RemoveKey makes a key id unknown.
func (s *Server) RemoveKey(id string) { s.update(func() { delete(s.keys, id) }) }

// Behave changes the server's behaviour: f gets the present one to change. It
// counts for what happens from then on, on open connections too.
func (s *Server) Behave(f func(b *Behaviour)) { s.update(func() { f(&s.how) }) }

// Stall stops reading from all connections, present and future, as a stopped
// process does. Connects go into the backlog.
func (s *Server) Stall() {
	s.update(func() {
		s.stalled = true
		for c := range s.open {
			_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // ends a read that waits
		}
	})
}

// Resume reads on.
func (s *Server) Resume() {
	s.update(func() {
		s.stalled = false
		for c := range s.open {
			_ = c.nc.SetReadDeadline(time.Time{})
		}
	})
}

// KillAll resets all open connections, as the kernel of a killed server with unread
// data does, and returns how many there were.
func (s *Server) KillAll() int { return s.endAll(true) }

// CloseAll closes all open connections with a FIN, as a server that stops does,
// and returns how many there were.
func (s *Server) CloseAll() int { return s.endAll(false) }

func (s *Server) endAll(reset bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.end(reset)
	}
	return len(s.open)
}

// StopListening refuses new connections; those in the backlog are reset.
func (s *Server) StopListening() {
	s.update(func() {
		if s.listener != nil {
			_ = s.listener.Close()
			s.listener = nil
		}
	})
}

// Listen listens again, on the same address.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.listen(l)
	return nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Conns returns all connections that were ever authenticated, in that order.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

// Received returns what came on all connections, one connection after the other.
func (s *Server) Received() []byte {
	var all []byte
	for _, c := range s.Conns() {
		all = append(all, c.Received()...)
	}
	return all
}

// Wait waits until ok is true of the counters, and fails the test after 20 s.
func (s *Server) Wait(tb testing.TB, what string, ok func(Stats) bool) {
	tb.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		stats, changed := s.stats, s.changed
		s.mu.Unlock()
		if ok(stats) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			tb.Fatalf("stand-in for QuestDB: waited 20 s for %s; counters: %+v", what, stats)
		}
	}
}

// Close ends everything and waits for it. New has the test call it at its end.
func (s *Server) Close() {
	s.StopListening()
	s.update(func() {
		s.closed, s.stalled = true, false
		for c := range s.open {
			c.end(false)
		}
	})
	s.wg.Wait()
}

// update changes something and wakes whoever waits for a change.
func (s *Server) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// behaviour is the present one.
func (s *Server) behaviour() Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.how
}

func (s *Server) listen(l net.Listener) {
	s.update(func() {
		if s.listener != nil {
			_ = s.listener.Close()
		}
		s.listener = l
		s.wg.Go(func() { s.accept(l) })
	})
}

// accept serves connections for as long as l is the one to listen on.
func (s *Server) accept(l net.Listener) {
	defer l.Close()
	for s.awaitRoom(l) {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		// What was asked for meanwhile may have taken the room; then this one is as
		// good as in the backlog.
		if !s.awaitRoom(l) {
			_ = nc.Close()
			return
		}
		c := &Conn{server: s, nc: nc, ended: make(chan struct{})}
		s.update(func() {
			c.process = s.process
			s.stats.Accepted++
			s.open[c] = struct{}{}
			s.stats.Open = len(s.open)
			s.stats.MaxOpen = max(s.stats.MaxOpen, s.stats.Open)
			if s.closed || s.listener != l {
				c.end(s.listener != l) // as it is with one in the backlog
			}
		})
		s.wg.Go(c.serve)
	}
}

// awaitRoom waits until another connection may be served; false: l is over.
func (s *Server) awaitRoom(l net.Listener) bool {
	for {
		s.mu.Lock()
		over := s.closed || s.listener != l
		room := !s.stalled && (s.how.ConnLimit == 0 || len(s.open) < s.how.ConnLimit)
		changed := s.changed
		s.mu.Unlock()
		if over || room {
			return !over
		}
		<-changed
	}
}
