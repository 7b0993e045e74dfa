package delivery

import (
	"slices"
	"sort"
	"time"
)

const (
	// arrivalGap is how exactly it is known when records came, mostArrivals how many
	// times are kept: in a long outage every other one goes, so that they get less exact.
	arrivalGap   = 100 * time.Millisecond
	mostArrivals = 512
)

// arrivals knows when the records of a journal were accepted: not of each, but of one
// that was not much earlier.
type arrivals struct {
	marks []arrival // in order of their offsets
	last  time.Time // of what was added last
	gap   time.Duration
}

type arrival struct {
	offset int64
	at     time.Time
}

// add says that the records from offset on were accepted now, or at that time on another lane.
func (a *arrivals) add(offset int64, now time.Time) {
	if len(a.marks) > 0 && now.Sub(a.last).Abs() < a.gap {
		return
	}
	switch len(a.marks) {
	case 0:
		a.gap = arrivalGap
	case mostArrivals:
		a.gap *= 2
		n := 0
		for i := 0; i < len(a.marks); i += 2 {
			a.marks[n] = arrival{a.marks[i].offset, earliest(a.marks[i:min(i+2, len(a.marks))])}
			n++
		}
		a.marks = a.marks[:n]
	}
	a.marks = append(a.marks, arrival{offset, now})
	a.last = now
}

// at returns when the record at offset was accepted, or a little earlier.
func (a *arrivals) at(offset int64) time.Time {
	if len(a.marks) == 0 {
		return time.Time{}
	}
	return a.marks[a.find(offset)].at
}

// since returns when the oldest of the records from offset on was accepted, or a little earlier:
// those that another lane handed over may be older than those before them.
func (a *arrivals) since(offset int64) time.Time {
	if len(a.marks) == 0 {
		return time.Time{}
	}
	return earliest(a.marks[a.find(offset):])
}

func earliest(marks []arrival) time.Time {
	return slices.MinFunc(marks, func(a, b arrival) int { return a.at.Compare(b.at) }).at
}

// find returns the index of the last mark that is not behind offset, or of the first one.
func (a *arrivals) find(offset int64) int {
	return max(sort.Search(len(a.marks), func(i int) bool { return a.marks[i].offset > offset })-1, 0)
}

// forget drops what nobody asks for who asks for no record before offset.
func (a *arrivals) forget(offset int64) {
	if i := a.find(offset); i > len(a.marks)/2 {
		a.marks = slices.Delete(a.marks, 0, i)
		if len(a.marks) < mostArrivals/4 {
			a.gap = arrivalGap
		}
	}
}
