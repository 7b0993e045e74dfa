package delivery

import (
	"context"
	"math/rand/v2"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

// A probe says which of the records that are held is tried: any. A writer that sends the same
// in the same order again and again would always have the same one tried.
type probe struct {
	began time.Time // when the last one was tried
	held  int       // how many were held since
	drawn time.Time // when it was drawn which one is next; zero: not yet
	skip  int       // how many more are to be passed over until that
}

// due reports whether the record that is held now is to be tried. In the first half of probeEvery
// they are counted, and then any of as many is, or after probeEvery the next one, where fewer come.
func (p *probe) due(now time.Time) bool {
	if now.Sub(p.began) < probeEvery/2 {
		p.held++
		return false
	}
	if p.drawn.IsZero() {
		p.drawn, p.skip = now, rand.IntN(p.held+1)
	}
	if p.skip--; p.skip >= 0 && now.Sub(p.drawn) < probeEvery {
		return false
	}
	*p = probe{began: now}
	return true
}

// probe tries one record of a source in quarantine.
func (d *Dispatcher) probe(w *Writer, table string, record []byte) {
	ctx, cancel := context.WithTimeout(d.ctx, trialLimit)
	defer cancel()
	conn, err := d.o.Source.Acquire(ctx)
	if err != nil {
		d.quarantine.untold(w)
		return
	}
	addr, began := conn.Addr(), time.Now()
	d.discard(conn)
	switch answer, err := d.try(ctx, addr, record, d.paths.check(ctx, addr)); {
	case err != nil || answer == broken:
		d.quarantine.untold(w)
	case answer == taken:
		d.quarantine.accepted(table, began, time.Now(), w)
		name, _ := ilp.Table(record) // table may stand for several
		d.log.Info("QuestDB accepts records of this table again", "table", name)
	}
}
