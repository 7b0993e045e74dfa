package proxy

import (
	"slices"
	"strconv"

	"questdb-ilp-proxy/proxy/ilp"
)

const (
	// stampSize is how many bytes a stamp adds: a space, and 19 digits until the
	// year 2262, when there are no later ones.
	stampSize = 1 + 19
	// shortestUntimed is the size in bytes of the shortest record without a
	// timestamp: " f=" and its end.
	shortestUntimed = 4
	// stampStep is how far the stamps of one writer are apart at least, in
	// nanoseconds. A column of type TIMESTAMP keeps microseconds: closer together,
	// two rows could become one there.
	stampStep = 1000
)

// A stamper gives timestamps to those records of one writer that have none: the
// time at which the proxy read them, in nanoseconds, each later than the one before
// whatever the clock says. So a record that is sent again is the same row.
type stamper struct {
	now  func() int64 // Unix nanoseconds
	last int64        // the last stamp
	most int          // the size in bytes that no record may exceed by its stamp
}

// next returns the next stamp for a record that was read now.
func (s *stamper) next(now int64) int64 {
	s.last = max(now, s.last+stampStep)
	return s.last
}

// stampWindow returns where in size bytes of memory the next ones are to be read,
// directly behind a fragment of some bytes, so that there is room enough in front of
// both for the stamps of any records that they may be.
func stampWindow(size, fragment int) (from, to int) {
	// One record may begin in the fragment. All others lie in what is read.
	return size - (size-fragment-stampSize)/(1+stampSize/shortestUntimed), size
}

// stampsOf returns how much room the stamps of n bytes need in front of them.
func stampsOf(n int) int { return stampSize + n*stampSize/shortestUntimed }

// stamp moves the whole records in p from one offset to another to the start of p,
// with stamps; [stampWindow] says where they must be. It returns how long they are
// then, and how many of them it stamped. All that has a timestamp, is malformed, or
// cannot be told stays as it is, byte for byte.
func (s *stamper) stamp(p []byte, from, to int) (size, stamped int) {
	now := s.now()
	for from < to {
		n, timing := ilp.First(p[from:to])
		end := p[from+n-1]
		if !s.wants(n, timing) {
			size += copy(p[size:], p[from:from+n])
			from += n
			continue
		}
		size += copy(p[size:], p[from:from+n-1])
		from += n
		size += len(s.write(p[size:size], timing, s.next(now)))
		p[size] = end
		size++
		stamped++
	}
	return size, stamped
}

// stampOne is stamp for p, which is one record and has memory of its own.
func (s *stamper) stampOne(p []byte) (result []byte, stamped int) {
	n, timing := ilp.First(p)
	if n != len(p) || !s.wants(n, timing) {
		return p, 0
	}
	end := p[n-1]
	p = slices.Grow(p, stampSize)
	return append(s.write(p[:n-1], timing, s.next(s.now())), end), 1
}

// wants reports whether a record of n bytes gets a stamp. QuestDB closes the
// connection on one that is too long for it: then rather a row that may come twice.
func (s *stamper) wants(n int, timing ilp.Timing) bool {
	return (timing == ilp.Untimed || timing == ilp.UntimedSpace) && n+stampSize <= s.most
}

// write appends a stamp to a record without its end.
func (s *stamper) write(record []byte, timing ilp.Timing, at int64) []byte {
	if timing == ilp.Untimed {
		record = append(record, ' ')
	}
	return strconv.AppendInt(record, at, 10)
}
