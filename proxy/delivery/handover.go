package delivery

import "time"

// handOver moves what is pending of w to the lane apart, so that its neighbours do not wait
// until each of its records was looked for. w must be waiting for that, or gone, or it could
// append something to this lane meanwhile; and nothing of it may be on its way, or what comes
// behind would overtake it. It moves everything or, where that is too much, there is no memory
// for it, or the lane apart has ended, nothing, and reports whether something moved. Only the lane's goroutine
// may call it, while no connection carries anything.
func (l *Lane) handOver(w *Writer) (moved bool) {
	apart := l.d.apart
	if apart == nil || l == apart {
		return false
	}
	records, fills := l.pendingOf(w)
	if len(records) == 0 {
		return false
	}
	size := l.d.free.size
	for n := range fills {
		if !apart.share.TryTransfer(blockCost(size)) {
			apart.share.Release(int64(n) * blockCost(size))
			return false
		}
	}
	for i, rest := 0, records; i < len(fills); i++ {
		f := &fills[i]
		f.block = l.d.free.get()
		l.mu.Lock() // not for all: sessions wait for it
		f.at = l.j.arrivals.at(rest[0].start)
		for _, h := range rest[:f.records] {
			p, _ := l.j.bytes(h.start, h.end)
			f.n += copy(f.block.buf[f.n:], p)
		}
		l.mu.Unlock()
		rest = rest[f.records:]
	}
	end, ok := apart.take(w, fills)
	if !ok {
		for _, f := range fills {
			apart.release(f.block)
		}
		return false
	}
	l.d.quarantine.version.Add(1) // that lane may have looked for what is held already
	l.mu.Lock()
	for _, h := range records {
		l.j.dismiss(h.start, h.end)
	}
	l.j.clean()
	w.apart, w.handed = end, true
	l.mu.Unlock()
	l.progress.broadcast()
	return true
}

// mostHandedOver is how many records are handed over at most: each takes memory that no budget
// knows, until it is settled.
const mostHandedOver = 4 * mostHoles

// A fill is a block, what is to be in it, and when the first of that came.
type fill struct {
	block      *Block
	n, records int
	at         time.Time
}

// take appends records of w that are handed over, and returns the offset behind them. It
// takes none once the lane has ended, as one does that has nothing to do in a drain.
func (l *Lane) take(w *Writer, fills []fill) (end int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, false
	}
	for _, f := range fills {
		l.j.push(f.block)
		l.j.accept(w, f.n, f.records, f.at)
	}
	end = l.j.end
	l.flush()
	return end, true
}

// pendingOf returns where the pending records of w are, and how many fit into each block;
// nothing if they have to stay.
func (l *Lane) pendingOf(w *Writer) (records []hole, fills []fill) {
	l.mu.Lock()
	l.j.skip()
	from, to := l.j.sent, l.j.end // w appends nothing behind
	stay := !w.moving && !w.closed.Load() || l.j.carries(w)
	l.mu.Unlock()
	if stay {
		return nil, nil
	}
	size := l.d.free.size
	room := 0
	l.walk(from, to, func(start, end int64, of *Writer, record []byte) {
		if of != w {
			return
		}
		stay = stay || len(record) > size || len(records) == mostHandedOver
		if stay {
			return
		}
		if room < len(record) {
			room = size
			fills = append(fills, fill{})
		}
		room -= len(record)
		fills[len(fills)-1].records++
		records = append(records, hole{start: start, end: end})
	})
	if stay {
		return nil, nil
	}
	return records, fills
}

// carries reports whether a record of w is in flight or settling.
func (j *journal) carries(w *Writer) (found bool) {
	for from := j.settled; from < j.sent && !found; {
		b, i := j.find(from)
		if b == nil {
			break
		}
		end := min(j.sent, b.start+int64(b.spans[i].end))
		if b.spans[i].w == w {
			j.records(from, end, func(int64, int64, *Writer, []byte) bool {
				found = true
				return false
			})
		}
		from = end
	}
	return found
}
