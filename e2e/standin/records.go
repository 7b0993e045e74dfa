package standin

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

const (
	recvBuffer      = 128 << 10 // line.tcp.recv.buffer.size of 9.x
	recvBuffer8     = 32 << 10  // line.tcp.msg.buffer.size of 8.x
	largestBuffer   = 1 << 30   // a record's, in 9.x
	commitEvery     = 500 * time.Millisecond
	commitDelayMin  = 15 * time.Millisecond
	commitDelayMax  = 50 * time.Millisecond
	refusalCloseMax = 3 * time.Millisecond
)

// Records is how a Server treats records. The zero value is QuestDB 9.x, but for the
// time from a refused record to the connection's end, which is short.
//
// As on QuestDB, a record that is malformed or refused ends its connection: what
// came before it on the connection is committed, everything after it is not, be it
// in the buffer already or not; and the end is a reset if there is anything unread
// in the socket, else a FIN. On the client's FIN everything is parsed (a last line
// without an end is dropped), then the server closes its side, and only then are
// the connection's rows committed.
type Records struct {
	// Version8: as 8.x does. The buffer does not grow, so that a record over its size
	// is refused, and so is a longer run of LFs, or of LFs and a record.
	Version8 bool
	// Buffer is how much is read at once; 0: 131,072, for 8.x 32,768.
	Buffer int
	// Refuse tells which well-formed records are refused (the wrong type for a
	// column, say); nil: none. It gets the record with the LF or CR that ends it, from
	// the connections' goroutines.
	Refuse func(record []byte) bool
	// SkipErrors: a refused record costs that record only, as with
	// line.tcp.disconnect.on.error=false.
	SkipErrors bool
	// CloseDelay is the time from a refused record to the connection's end. 0: up
	// to 3 ms; QuestDB takes 20 to 60 ms.
	CloseDelay time.Duration
	// EOFDelay is the time from the client's FIN to the server's, on top of what
	// parsing takes: 13 to 30 ms for each new table.
	EOFDelay time.Duration
	// CommitEvery is when an open connection's rows are committed, after the first of
	// them was parsed; 0: 500 ms.
	CommitEvery time.Duration
	// CommitDelay is the time from the server's closing to the commit; 0: by chance,
	// 15 to 50 ms.
	CommitDelay time.Duration
}

func (r *Records) buffer() int {
	if r.Version8 {
		return cmp.Or(r.Buffer, recvBuffer8)
	}
	return cmp.Or(r.Buffer, recvBuffer)
}

func (r *Records) closeDelay() time.Duration {
	return cmp.Or(r.CloseDelay, rand.N(refusalCloseMax))
}

func (r *Records) commitDelay() time.Duration {
	return cmp.Or(r.CommitDelay, commitDelayMin+rand.N(commitDelayMax-commitDelayMin))
}

// row is a record that was parsed.
type row struct {
	sequence uint64 // in the order of parsing
	record   []byte
}

// errRefused ends a connection because of a record.
var errRefused = errors.New("a record was refused")

// Committed returns all records that were committed, with their ends and without
// blank lines, in the order in which they were parsed: in the order of each
// connection, and after all those of connections that had ended before.
func (s *Server) Committed() [][]byte {
	s.mu.Lock()
	rows := slices.Clone(s.rows)
	s.mu.Unlock()
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.sequence, b.sequence) })
	records := make([][]byte, len(rows))
	for i, r := range rows {
		records[i] = r.record
	}
	return records
}

// DiskFull has the server refuse every record, well-formed ones too, as one does
// that has no disk space or file handles left.
func (s *Server) DiskFull(full bool) { s.update(func() { s.diskFull = full }) }

// Kill ends the server as a killed process ends: what is not committed is gone, all
// connections are reset, and it does not listen any more.
func (s *Server) Kill() { s.die(true) }

// KillQuietly is Kill, but the connections end in a FIN unless there is unread data,
// as the kernel does it.
func (s *Server) KillQuietly() { s.die(false) }

// Stop ends the server as one that is asked to: it closes connections with what it
// has read and not committed lost, and does not listen any more.
func (s *Server) Stop() { s.die(false) }

// Restart starts it again, after Kill, KillQuietly or Stop, on the same address. Its
// disk is as full as before, its records committed.
func (s *Server) Restart() error { return s.Listen() }

// Pause stops the server as SIGSTOP does: sockets stay open and the kernel answers,
// connects go into the backlog, but nothing is read, no handshake answered, nothing
// closed or committed. [Server.Resume] goes on.
func (s *Server) Pause() { s.Stall() }

func (s *Server) die(reset bool) {
	s.update(func() {
		s.process++
		if s.listener != nil {
			_ = s.listener.Close()
			s.listener = nil
		}
		for c := range s.open {
			c.pending = nil
			c.end(reset)
		}
		s.stalled = false
	})
}

// serveRecords is the life of a connection on which records are parsed.
func (c *Conn) serveRecords(rest []byte, how *Records) {
	p := parser{c: c, buf: make([]byte, how.buffer())}
	if how.Version8 {
		p.limit = len(p.buf)
		p.buf = append(p.buf, 0) // room to see that there is too much
	}
	p.n = copy(p.buf, rest)
	n := p.n
	for {
		if n > 0 {
			err := p.parse()
			if !c.take(p.buf[p.n-n : p.n]) {
				break
			}
			if err != nil {
				c.sleep(c.records(how).closeDelay())
				break
			}
			if !p.makeRoom() {
				c.refused()
				c.sleep(c.records(how).closeDelay())
				break
			}
		}
		var err error
		if n, err = c.read(p.buf[p.n:]); err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				c.server.update(func() { c.server.stats.EOF++ })
				c.sleep(c.records(how).EOFDelay)
			}
			break
		}
		p.n += n
	}
	c.leave()
	c.commitAfter(c.records(how).commitDelay())
}

// records is the present behaviour, or what it was if there is none any more.
func (c *Conn) records(was *Records) *Records {
	return cmp.Or(c.server.behaviour().Records, was)
}

// parser finds records in what was read, as it is in the server's buffer.
type parser struct {
	c     *Conn
	limit int // of a record and the blank lines before it, as in 8.x; 0: none
	buf   []byte
	n     int // of buf are read
	done  int // of them are parsed; then comes an unfinished record, or blank lines in 8.x
}

// parse parses what it can. What it was given stays where it is until makeRoom.
func (p *parser) parse() error {
	how := p.c.records(&Records{})
	var rows [][]byte
	defer func() { p.c.parsed(rows, how) }()
	start := p.done
	for start < p.n {
		if p.buf[start] == '\n' || p.buf[start] == '\r' {
			start++
			if p.limit == 0 {
				p.done = start
			}
			continue
		}
		var s ilp.Scanner
		end, ok := s.Next(p.buf[start:p.n])
		if !ok {
			return nil
		}
		record := p.buf[start : start+end]
		tooLong := p.limit > 0 && start+end-p.done > p.limit
		start += end
		p.done = start
		switch {
		case ilp.IsBlank(record):
		case !tooLong && !p.c.refuses(record, how):
			rows = append(rows, bytes.Clone(record))
		default:
			p.c.refused()
			if !how.SkipErrors {
				return errRefused
			}
		}
	}
	return nil
}

// makeRoom makes room to read on; false if there can be none.
func (p *parser) makeRoom() bool {
	p.n = copy(p.buf, p.buf[p.done:p.n])
	p.done = 0
	switch {
	case p.n < len(p.buf):
		return true
	case p.limit > 0 || len(p.buf) >= largestBuffer:
		return false
	}
	p.buf = append(p.buf, make([]byte, 3*len(p.buf))...) // fourfold, as 9.3.4 does
	return true
}

// refuses reports whether the server refuses a record.
func (c *Conn) refuses(record []byte, how *Records) bool {
	c.server.mu.Lock()
	full := c.server.diskFull
	c.server.mu.Unlock()
	return full || ilp.Validate(record) != nil || how.Refuse != nil && how.Refuse(record)
}

func (c *Conn) refused() { c.server.update(func() { c.server.stats.RefusedRecords++ }) }

// parsed takes records, to be committed later.
func (c *Conn) parsed(records [][]byte, how *Records) {
	if len(records) == 0 {
		return
	}
	s := c.server
	s.update(func() {
		if c.process != s.process {
			return
		}
		for _, record := range records {
			s.sequence++
			c.pending = append(c.pending, row{s.sequence, record})
		}
		s.stats.Parsed += len(records)
		if c.timer == nil {
			c.timer = time.AfterFunc(cmp.Or(how.CommitEvery, commitEvery), c.commit)
		}
	})
}

// commit commits what was parsed, unless the process died or is stopped.
func (c *Conn) commit() {
	s := c.server
	s.update(func() {
		c.timer = nil
		switch {
		case c.process != s.process || len(c.pending) == 0:
		case s.stalled:
			c.timer = time.AfterFunc(time.Millisecond, c.commit)
		default:
			s.rows = append(s.rows, c.pending...)
			s.stats.Committed += len(c.pending)
			c.pending = nil
		}
	})
}

// commitAfter commits what an ended connection left, after d.
func (c *Conn) commitAfter(d time.Duration) {
	s := c.server
	s.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	process := s.process
	s.mu.Unlock()
	for timer := time.After(d); timer != nil; {
		s.mu.Lock()
		over, changed := s.closed || s.process != process, s.changed
		s.mu.Unlock()
		if over {
			return
		}
		select {
		case <-timer:
			timer = nil
		case <-changed:
		}
	}
	for {
		s.mu.Lock()
		wait, changed := s.stalled && !s.closed && s.process == process, s.changed
		s.mu.Unlock()
		if !wait {
			break
		}
		<-changed
	}
	c.commit()
}

// sleep waits while the process runs, but not beyond the connection's end.
func (c *Conn) sleep(d time.Duration) {
	c.pause(d)
	for {
		c.server.mu.Lock()
		stalled, changed := c.server.stalled, c.server.changed
		c.server.mu.Unlock()
		if !stalled {
			return
		}
		select {
		case <-changed:
		case <-c.ended:
			return
		}
	}
}
