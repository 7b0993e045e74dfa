package delivery

import "time"

// handOver moves what is pending of w to the lane apart, so that its neighbours do not wait
// until each of its records was looked for. w must be waiting for that, or gone, or it could
// append something to this lane meanwhile; and nothing of it may be on its way, or what comes
// behind would overtake it. It moves everything or, where the lane apart has no memory for
// that, nothing, and reports whether nothing of w is left here. Only the lane's goroutine may
// call it, while no connection carries anything.
func (l *Lane) handOver(w *Writer) (done bool) {
	apart := l.d.apart
	if apart == nil || l == apart {
		return false
	}
	size := l.d.free.size
	l.mu.Lock()
	moved, sizes := l.pendingOf(w, size)
	l.mu.Unlock()
	for n := range sizes {
		if !apart.share.TryAcquire(blockCost(size)) {
			apart.share.Release(int64(n) * blockCost(size))
			return false
		}
	}
	for _, records := range sizes {
		b := l.d.free.get()
		n := 0
		l.mu.Lock()
		for _, h := range moved[:records] {
			p, _ := l.j.bytes(h.start, h.end)
			n += copy(b.buf[n:], p)
		}
		l.mu.Unlock()
		apart.mu.Lock()
		apart.j.push(b)
		apart.j.accept(w, n, records, time.Now())
		end := apart.j.end
		apart.flush()
		apart.mu.Unlock()
		l.mu.Lock()
		for _, h := range moved[:records] {
			l.j.dismiss(h.start, h.end)
		}
		l.j.clean()
		moved = moved[records:]
		w.apart, w.handed = end, len(moved) == 0
		l.mu.Unlock()
		done = len(moved) == 0
	}
	l.progress.broadcast()
	return done
}

// pendingOf returns where the pending records of w are, and how many fit into each block of
// size; nothing if they have to stay. The caller holds mu.
func (l *Lane) pendingOf(w *Writer, size int) (records []hole, blocks []int) {
	l.j.skip()
	if !w.moving && !w.closed.Load() || l.j.carries(w) {
		return nil, nil
	}
	fits, room := true, 0
	l.j.records(l.j.sent, l.j.end, func(start, end int64, of *Writer, record []byte) bool {
		if of != w {
			return true
		}
		if fits = len(record) <= size; !fits {
			return false
		}
		if room < len(record) {
			room = size
			blocks = append(blocks, 0)
		}
		room -= len(record)
		blocks[len(blocks)-1]++
		records = append(records, hole{start: start, end: end})
		return true
	})
	if !fits {
		return nil, nil
	}
	return records, blocks
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
