package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// quietTime is how long a refusing server needs at most to close, where we
	// must wait for that: it takes 20 to 60 ms. It is more if the server is slow.
	quietTime = 250 * time.Millisecond
	// segmentQuiet is how long a segment is quiet at least. It carries more than a trial, and
	// there are fewer of them, so there is time for a server that has just become slow.
	segmentQuiet = 2 * quietTime
	// quietMax is the longest quiet time. Some relays end a connection that is quiet for
	// longer, and that would look like a refusal.
	quietMax = 4 * time.Second
	// refusalTime is a little more than those 20 to 60 ms.
	refusalTime = 100 * time.Millisecond
	// unlikeBy is by how much a FIN may come later than usual, or by a quarter: a new table takes
	// 13 to 30 ms, and a busy machine some more. soonerBy is by how much it may come sooner than
	// ever, or by an eighth. quietTimes is how many times the difference, or a FIN that is
	// so soon, the quiet time has to be else.
	unlikeBy   = 150 * time.Millisecond
	soonerBy   = 20 * time.Millisecond
	quietTimes = 16
	// fasterLimit is how long to look at most whether a server is faster than it was.
	fasterLimit = 5 * time.Second
	// patientProofs is how often an answer may be missing before somebody is told.
	patientProofs = 3
	// unackedEvery is how often to look whether the server's kernel has all.
	unackedEvery = 10 * time.Millisecond
)

// errUnusualFIN is why a connection that ended well proves nothing.
var errUnusualFIN = errors.New("it was not as fast as usual to close, so it may have refused one of the last records, which does not show there")

// quiet waits, where resets do not reach us, for as long as a refusing server takes
// to close, and reports whether conn is still open.
func (d *Dispatcher) quiet(ctx context.Context, conn Conn, p path, t time.Duration) (open bool) {
	return !p.hides() || d.still(ctx, conn, t)
}

// still waits until the server has had t to read everything and to close. A server that
// is stopped does neither, so it must answer before that time and after it.
func (d *Dispatcher) still(ctx context.Context, conn Conn, t time.Duration) (open bool) {
	if !acked(ctx, conn) {
		return false
	}
	for n := 1; ; n++ {
		err := d.o.Source.Prove(ctx, conn.Addr())
		if !stillOpen(ctx, conn, t) {
			return false
		}
		if err == nil {
			err = d.o.Source.Prove(ctx, conn.Addr())
		}
		if err == nil {
			// It may have been stopped until just now.
			return stillOpen(ctx, conn, refusalTime)
		}
		if n >= patientProofs {
			d.limiter.Log(ctx, slog.LevelWarn, "no proof", "QuestDB does not answer a handshake in time; records wait for that before their connection is ended (is it stopped, or are all its connections in use?)",
				slog.String("server", conn.Addr()), slog.Any("error", err))
		}
	}
}

// acked waits until the server's kernel, or a relay's, has everything, and reports whether
// conn is still open.
func acked(ctx context.Context, conn Conn) (open bool) {
	for {
		if n, err := conn.Unacked(); err != nil || n == 0 {
			return true // or it has just ended
		}
		if !stillOpen(ctx, conn, unackedEvery) {
			return false
		}
	}
}

// stillOpen waits for t and reports whether conn is open all the time.
func stillOpen(ctx context.Context, conn Conn, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-conn.Done():
		return false
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// carried is what the connections to a server carried: a lane's segments, which may take
// the server longer than another lane's, or trials.
type carried struct {
	addr string
	lane int
}

// ofTrials is the lane of all trials.
const ofTrials = -1

func (c carried) trials() bool { return c.lane == ofTrials }

// shortest returns the shortest quiet time.
func (c carried) shortest() time.Duration {
	if c.trials() {
		return quietTime
	}
	return segmentQuiet
}

// longest returns the longest quiet time. Trials carry little, and a good record would
// seem to be refused where a relay ends the connection.
func (c carried) longest() time.Duration {
	if c.trials() {
		return quietMax / 2
	}
	return quietMax
}

// A pace is how fast a server was, where its refusals are hidden.
type pace struct {
	// quiet is how long to wait until it must have come to the last record.
	quiet time.Duration
	// usual is how long it takes then to read the padding and to close.
	usual time.Duration
	// soonest is the shortest time that took lately.
	soonest time.Duration
	// least is how long to wait at least, because less was not enough; see doubt.
	least time.Duration
}

// pace returns what was learned until now. Trials are rarer than segments, and what these
// tell of the same server is newer.
func (p *paths) pace(c carried) pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	trials := p.paces[carried{c.addr, ofTrials}]
	other := trials.usual
	if c.trials() {
		for of, pace := range p.paces {
			if of.addr == c.addr && !of.trials() {
				other = max(other, pace.usual)
			}
		}
	}
	known, ok := p.paces[c]
	if !ok {
		known.usual, known.soonest = other, trials.soonest // the path check's, at least
	}
	if !ok || c.trials() {
		known.quiet = max(known.quiet, 4*other)
	}
	known.quiet = min(max(known.quiet, c.shortest()), c.longest())
	return known
}

func (p *paths) learn(c carried, now pace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paces[c] = now
}

// ended says that a connection for c ended well, after the server had been given the time
// of was, and took so long for it. Where refusals are hidden it returns errUnusualFIN if
// that is not as usual. Later: the server had more to read than we gave it time for, and a
// refusal among that does not show. Sooner: the FIN was under way before ours. But after a
// quiet time that is long beside it there is another reason, and that is usual now.
func (p *paths) ended(c carried, path path, took time.Duration, was pace) error {
	if !path.hides() && !c.trials() {
		return nil
	}
	unlike, enough := was.sooner(took), quietTimes*max(took, refusalTime) // a refusal takes its time, too
	if more := took - was.usual; more > max(unlikeBy, was.usual/4) {
		unlike, enough = true, quietTimes*more
	}
	enough = min(enough, c.longest())
	next := was
	var err error
	switch {
	case !unlike:
		next.quiet = max(was.least, 2*took, was.quiet*7/8)
		if next.usual = min(took, was.usual+(took-was.usual)/8); was.usual == 0 {
			next.usual = took // nothing was known yet
		}
		if next.soonest = min(took, was.soonest+(took-was.soonest)/64); was.soonest == 0 {
			next.soonest = took
		}
	case was.quiet >= enough || !path.hides():
		next.usual, next.soonest = took, took
	default:
		next.quiet = enough
		err = fmt.Errorf("%w (%v after its end, %v to %v before)", errUnusualFIN,
			took.Round(time.Millisecond), was.soonest.Round(time.Millisecond), was.usual.Round(time.Millisecond))
	}
	p.learn(c, next)
	return err
}

// sooner reports whether a FIN that took so long came sooner than the server's ever does.
func (was pace) sooner(took time.Duration) bool {
	return was.soonest-took > max(soonerBy, was.soonest/8)
}

// isFaster reports whether the server at addr closes within took now if nothing can be refused.
func (d *Dispatcher) isFaster(ctx context.Context, addr string, p path, took time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, fasterLimit) // the pool may have no place for that
	defer cancel()
	answer, now, err := d.tryOnce(ctx, addr, nil, p)
	return (answer == taken && err == nil || errors.Is(err, errUnusualFIN)) && now <= took+soonerBy
}

// cut says that a connection ended while it was quiet. That may be a refusal; but a relay
// may end what is quiet, too.
func (p *paths) cut(c carried, was pace) {
	was.quiet, was.least = was.quiet*7/8, 0
	p.learn(c, was)
}

// doubt says that a trial ended well although its only record seems to be refused: where
// refusals are hidden, trials may need more time.
func (p *paths) doubt(addr string) {
	c := carried{addr, ofTrials}
	doubted := p.pace(c)
	doubted.least = min(max(quietTime, 2*doubted.least), c.longest())
	doubted.quiet = max(doubted.quiet, doubted.least)
	p.learn(c, doubted)
}
