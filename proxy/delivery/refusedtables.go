package delivery

import (
	"sync"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

const (
	// watchTable is how long a table of which nothing is accepted is watched before a
	// record of it is set aside: whether others fare like that too shows only when
	// their lanes have found out.
	watchTable = 5 * time.Second
	// holdTables is how long records of several such tables are kept and tried again,
	// since that is most likely the server's trouble. A lane can't wait for ever: in
	// the end they are set aside, where they are kept too.
	holdTables = 2 * time.Minute
	// forgetTable is after how long without another refusal a table is forgotten.
	forgetTable = 30 * time.Second
	// troubleFor is how long the evidence against a record has to be stronger after
	// nothing was taken that was tried along with a record for another table: a disk
	// that is full takes a record here and there, as space comes free.
	troubleFor = 10 * time.Second
)

// refusedTables knows the tables of which nothing was accepted since one of their records
// was refused alone. With one such table it is that table's trouble: a column has
// another type, say. With several at once it is the server's, though it accepts
// records of others: it is out of file handles, and only tables that are open already
// go on.
type refusedTables struct {
	watched atomic.Int32 // how many tables: the fast path asks only for that

	mu     sync.Mutex
	tables map[string]*refusal
	// nothing is about each table with a record of which something else was tried, and
	// nothing of it all was taken.
	nothing map[string]nothing
}

type nothing struct {
	at    time.Time // the last time
	since bool      // the table has taken a record again after that
}

type refusal struct {
	since, last time.Time
	w           *Writer // whose record it was
	several     bool    // records of other writers too
}

func (r *refusedTables) watching() bool { return r.watched.Load() > 0 }

// refused says that a record of w for table was refused alone.
func (r *refusedTables) refused(w *Writer, table string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, x := range r.tables {
		if now.Sub(x.last) > forgetTable {
			r.drop(name)
		}
	}
	x := r.tables[table]
	if x == nil {
		if len(r.tables) >= mostTables {
			return
		}
		if r.tables == nil {
			r.tables = map[string]*refusal{}
		}
		x = &refusal{since: now, w: w}
		r.tables[table] = x
		r.watched.Add(1)
	}
	x.last = now
	x.several = x.several || x.w != w
}

// accepted says that a record for table was accepted that was sent at sent or later.
func (r *refusedTables) accepted(table string, sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.tables[table]; x != nil && sent.After(x.since) {
		r.drop(table)
	}
	if n, ok := r.nothing[table]; ok && sent.After(n.at) {
		n.since = true
		r.nothing[table] = n
	}
}

func (r *refusedTables) drop(table string) {
	delete(r.tables, table)
	r.watched.Add(-1)
}

// nothingTaken says that a record for table was refused, and so was all that it was
// compared with.
func (r *refusedTables) nothingTaken(table string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, n := range r.nothing {
		if now.Sub(n.at) > troubleFor {
			delete(r.nothing, name)
		}
	}
	if r.nothing == nil {
		r.nothing = map[string]nothing{}
	}
	if n, ok := r.nothing[table]; ok || len(r.nothing) < mostTables {
		n.at = now
		r.nothing[table] = n
	}
}

// trouble reports whether nothing was taken lately beside records for other tables
// than this one, or for this one, and then a record of it was: so it is not that the
// table refuses whatever comes.
func (r *refusedTables) trouble(table string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, n := range r.nothing {
		if (name != table || n.since) && now.Sub(n.at) < troubleFor {
			return true
		}
	}
	return false
}

// general reports whether the table refuses whoever it is: records of several writers, and
// nothing of it was accepted for as long as it has to be watched.
func (r *refusedTables) general(table string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.tables[table]
	return x != nil && x.several && now.Sub(x.since) >= watchTable
}

// A standing is what can be said of a table of which a record was refused.
type standing int

const (
	takes    standing = iota // it takes others, or is to be judged like one that does
	unclear                  // nothing of it was accepted, for a short time
	troubled                 // nothing of it nor of other tables was accepted: the server's trouble
)

// standing tells how table fares now. alone says that there is only one writer whom a
// wait would hold up.
func (r *refusedTables) standing(table string, alone bool, now time.Time) standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.tables[table]
	if x == nil || !legalTable(table) {
		return takes
	}
	if now.Sub(x.since) < watchTable {
		return unclear
	}
	if now.Sub(x.since) > holdTables {
		return takes
	}
	others := false
	several := alone || x.several
	for name, y := range r.tables {
		if name == table || now.Sub(y.last) > forgetTable || !legalTable(name) {
			continue
		}
		others = true
		several = several || y.several || y.w != x.w
	}
	// One writer with the types wrong everywhere must not hold up its neighbours.
	if others && several {
		return troubled
	}
	return takes
}

// legalTable reports whether QuestDB allows a table of this name: a record for another one is
// refused whatever the server's state.
func legalTable(name string) bool {
	_, illegal := ilp.TableFault(name)
	return !illegal
}

// tableOf returns the name of the table that record is for; ok is false where it can't be
// read. Tables whose names QuestDB does not allow for the same reason count as one, since none
// of them exists: a writer may send records for a new one each time.
func tableOf(record []byte) (name string, ok bool) {
	name, ok = ilp.Table(record)
	if fault, illegal := ilp.TableFault(name); ok && illegal {
		return fault, true
	}
	return name, ok
}
