package questdb

import (
	"context"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
)

// Server is a [Process] that belongs to a test: what fails, fails the test.
type Server struct {
	*Process
	t testing.TB
}

// Start runs a server for the duration of a test and returns when it answers, or
// with Options.Later when it could be started. A test that failed shows the end
// of the server's log.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Logf == nil {
		o.Logf = t.Logf
	}
	p, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of QuestDB's log:\n%s", tail(p.Log(), 4000))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Server{Process: p, t: t}
}

// MustQuery is Query that fails the test on an error.
func (s *Server) MustQuery(sql string) [][]string {
	s.t.Helper()
	rows, err := s.Query(s.t.Context(), sql)
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// Count returns the number of rows in a table; a table that does not exist has
// none.
func (s *Server) Count(table string) int {
	s.t.Helper()
	n, err := s.Process.Count(s.t.Context(), table)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// countEvery is the pause between two looks at a table. SQL has no way to be
// told of new rows.
const countEvery = 25 * time.Millisecond

// WaitCount returns when the table has want rows or more, and fails the test if
// it has not within limit, or has more. Errors of a server that is away
// meanwhile are waited out too.
func (s *Server) WaitCount(table string, want int, limit time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	last := 0
	for {
		n, err := s.Process.Count(ctx, table)
		switch {
		case err == nil && n == want:
			return
		case err == nil && n > want:
			s.t.Fatalf("table %s has %d rows, want %d", table, n, want)
		case err == nil:
			last = n
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("table %s has %d rows after %v, want %d (last error: %v)", table, last, limit, want, err)
		case <-tick.C:
		}
	}
}

// Stop ends the server politely (SIGTERM) and returns when it has ended.
func (s *Server) Stop() {
	s.t.Helper()
	s.must(s.Process.Stop())
}

// Kill ends the server by SIGKILL and returns when it has ended.
func (s *Server) Kill() {
	s.t.Helper()
	s.must(s.Process.Kill())
}

// Pause stops the server in its tracks, its connections open.
func (s *Server) Pause() {
	s.t.Helper()
	s.must(s.Process.Pause())
}

// Resume lets a paused server go on.
func (s *Server) Resume() {
	s.t.Helper()
	s.must(s.Process.Resume())
}

// Start starts the server after Stop, Kill or Options.Later, on its data and its
// ports, and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.must(s.Process.Start(s.t.Context()))
}

// Restart starts the server again on its data and its ports, after a polite
// stop if it is running, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.must(s.Process.Restart(s.t.Context()))
}

// SetKeys rewrites auth.txt: from its next start on, the server knows these keys
// and the options' AuthLines.
func (s *Server) SetKeys(keys ...*auth.Key) {
	s.t.Helper()
	s.must(s.Process.SetKeys(keys...))
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
