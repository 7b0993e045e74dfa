package delivery

import (
	"bytes"
	"context"
	"maps"
	"sync"
	"time"
)

// Facts of QuestDB's, measured on 7.4.2, 8.2.0 and 9.3.4. With a run of LFs behind
// the last record as long as the server's receive buffer, a refused record always
// ends in a reset, since LFs remain unread, and a good stream always in a FIN.
//
// There is nothing larger for servers with larger buffers: a relay that has not
// read all of it when the server closes makes a reset of its own (HAProxy does from
// 512 KiB on, always), and whoever trusts in that loses rows when the server is slow.
// Such servers are treated like those behind a relay.
var paddings = []int{
	128 << 10, // 9.x: line.tcp.recv.buffer.size; more than needed does no harm
	exactPadding,
}

// exactPadding is for 8.x: one less than its line.tcp.msg.buffer.size. It refuses more
// LFs in a row, and as many as that too unless it finds our FIN behind them, which may
// come late on a busy machine. One less is enough, since a refused record is no shorter
// than two bytes.
const exactPadding = 32<<10 - 1

// A path is found out again, unless it shows resets, after hiddenAgain, then less and less often;
// where that failed after triedAgain.
const (
	triedAgain     = 5 * time.Second
	hiddenAgain    = time.Minute
	hiddenAgainMax = time.Hour
)

// linefeeds is padding to write from: as much as the most of paddings.
var linefeeds = bytes.Repeat([]byte{'\n'}, 128<<10)

// A path is what the way to one server, and that server, do with a refused record.
type path struct {
	// pad is how many LFs must follow the last record.
	pad int
	// resets is set if a refused record ends in a reset that reaches us. Otherwise
	// something between hides it (a relay, a TLS terminator): then quiet waits.
	resets bool
	// skips is set if the server does not close on a malformed record but goes on
	// with the next (line.tcp.disconnect.on.error=false).
	skips bool
}

// hidden is the path of which nothing is known.
var hidden = path{pad: exactPadding}

// hides reports whether the end of a connection does not show a refusal.
func (p path) hides() bool { return !p.resets && !p.skips }

// padding returns how many LFs to send behind the last record on conn; largest is the
// size of the largest record before them, blanks that of the blank lines behind the last.
func (p path) padding(conn Conn, largest, blanks int) int {
	if p.pad == exactPadding {
		return p.pad - conn.Pings() - blanks // there is room for so many LFs, and no more
	}
	return grown(p.pad, largest)
}

// MaxBlank is more than the bytes of blank lines that may stand before a record; a server
// takes them for part of it.
const MaxBlank = 1 << 10

// grown returns how much a server may read at once whose buffer was size bytes before a
// record of largest: 9.3.4's grows fourfold until the record fits. 8.x's does not grow.
func grown(size, largest int) int {
	if largest += MaxBlank; largest > size {
		return 4 * largest
	}
	return size
}

// writePadding sends the padding.
func (p path) writePadding(conn Conn, largest, blanks int) error {
	for n := p.padding(conn, largest, blanks); n > 0; {
		k, err := conn.Write(linefeeds[:min(n, len(linefeeds))])
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// paths knows the paths to all servers. It finds each out at first, and again when the
// server has been away.
type paths struct {
	d   *Dispatcher
	off bool // ILP_PATH_CHECK=off

	mu    sync.Mutex
	known map[string]*pathEntry
	// paces is what was learned of how fast servers are.
	paces map[carried]pace
}

// A pathEntry is what is known of the path to one server. Its fields are under paths.mu.
type pathEntry struct {
	turn chan struct{} // holds an element while somebody finds the path out
	path path
	ok   bool // it was found out
	// again is when to find it out again, unless resets are seen, and wait how long that
	// was put off: a machine that is very busy may look like something else for once.
	again time.Time
	wait  time.Duration
	found time.Time // when it was found out last
}

func newPathEntry() *pathEntry { return &pathEntry{turn: make(chan struct{}, 1), path: hidden} }

// due reports whether the path is to be found out, for the first time or again.
func (e *pathEntry) due() bool {
	return !(e.ok && e.path.resets) && !time.Now().Before(e.again)
}

// check returns the path to addr, finding it out if need be; hidden while it is not known.
func (p *paths) check(ctx context.Context, addr string) path {
	if p.off {
		return hidden
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.known[addr]
	if e == nil {
		e = newPathEntry()
		p.known[addr] = e
	}
	switch {
	case !e.due():
	case e.ok:
		select {
		case e.turn <- struct{}{}: // nobody needs to wait for what is known already
			p.d.watchers.Go(func() { p.findOut(p.d.ctx, addr, e) })
		default:
		}
	default:
		p.mu.Unlock()
		select {
		case e.turn <- struct{}{}:
			p.findOut(ctx, addr, e)
		case <-ctx.Done():
		}
		p.mu.Lock()
	}
	return e.path
}

// findOut finds out the path of e, if that is due still. The caller has e's turn, which ends.
func (p *paths) findOut(ctx context.Context, addr string, e *pathEntry) {
	defer func() { <-e.turn }()
	p.mu.Lock()
	due := e.due()
	p.mu.Unlock()
	if !due {
		return // somebody has done it meanwhile
	}
	limited, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	found, err := p.d.explore(limited, addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.d.log.Debug("path check got no answer; will try again", "server", addr, "error", err)
		if ctx.Err() == nil {
			e.putOff(triedAgain)
		}
		return
	}
	if !e.ok || found != e.path {
		p.say(addr, found)
		e.wait = 0
	}
	e.path, e.ok, e.found = found, true, time.Now()
	e.putOff(hiddenAgain)
}

// putOff says that the path is to be found out again after a while, least or twice as long as
// the last time.
func (e *pathEntry) putOff(least time.Duration) {
	e.wait = min(max(least, 2*e.wait), hiddenAgainMax)
	e.again = time.Now().Add(e.wait)
}

// prepare has the path to addr be found out in the background, so that it is known
// when a connection is to be confirmed.
func (p *paths) prepare(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off || p.known[addr] != nil {
		return
	}
	e := newPathEntry()
	p.known[addr] = e
	e.turn <- struct{}{}
	p.d.watchers.Go(func() { p.findOut(p.d.ctx, addr, e) })
}

// away says that no connection to the server at addr is left, although it answers: something
// else may be between now. With a small pool, or while a refused record is looked for, that
// may be so again and again.
func (p *paths) away(addr string) {
	p.mu.Lock()
	e := p.known[addr]
	old := e != nil && e.ok && time.Since(e.found) > hiddenAgain
	p.mu.Unlock()
	if old {
		p.forget(addr)
	}
}

// forget has the path to addr be found out again.
func (p *paths) forget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, addr)
	maps.DeleteFunc(p.paces, func(c carried, _ pace) bool { return c.addr == addr })
}

// refused says that the server at addr closed a connection because of a record. If it
// was thought to skip those, its path has to be found out again.
func (p *paths) refused(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.known[addr]; e != nil && e.path.skips {
		delete(p.known, addr)
	}
}

func (p *paths) say(addr string, found path) {
	switch {
	case found.skips:
		p.d.log.Info("path check: this QuestDB skips malformed records by itself (line.tcp.disconnect.on.error=false); there is nothing to isolate, and what it skips only its own log tells", "server", addr)
	case found.resets:
		p.d.log.Debug("path check: refused records will be seen", "server", addr, "padding", found.pad)
	default:
		p.d.log.Warn("path check: something between the proxy and QuestDB hides connection resets (a relay or TLS terminator; or QuestDB's line.tcp.recv.buffer.size is none of 32, 64 and 128 KiB); rejected records are still found, but each confirmation waits a little longer, and for seconds where QuestDB is slow",
			"server", addr, "quiet", segmentQuiet, "quiet_max", quietMax)
	}
	p.d.m.paths.Reset()
	p.d.m.paths.WithLabelValues(addr, found.String()).Set(1)
}

// String names what was found, for metrics and the status.
func (p path) String() string {
	switch {
	case p.skips:
		return string(PathSkips)
	case p.resets:
		return string(PathResets)
	}
	return string(PathHidden)
}
