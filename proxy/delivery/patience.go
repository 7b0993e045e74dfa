package delivery

import "time"

// patience bounds how long a lane keeps records that may be refused because of the
// server's trouble, and all behind them: for holdTables, and then a fifth of the time.
// Who goes on sending refused records, for ever other tables, must not hold up its
// neighbours without end.
type patience struct {
	spent   time.Duration
	at      time.Time // of the last question
	keeping bool      // what the answer was
	over    bool      // until half of it is there again
}

// keep reports whether the lane is to go on keeping them.
func (p *patience) keep(now time.Time) bool {
	passed := now.Sub(p.at)
	if p.keeping {
		p.spent += min(passed, longestPause)
	}
	p.spent = max(p.spent-passed/5, 0)
	p.at = now
	switch {
	case p.spent >= holdTables:
		p.over = true
	case p.spent < holdTables/2:
		p.over = false
	}
	p.keeping = !p.over
	return p.keeping
}

// longestPause is more than what passes between two attempts of which the lane keeps a record.
const longestPause = time.Minute
