package ilp

// Timing says whether a record has a timestamp.
type Timing uint8

// What First may find.
const (
	// Unknown is a record that QuestDB refuses, or of which it can't be told how the server reads it (see [Validate]).
	Unknown Timing = iota
	// Blank is no record.
	Blank
	// Timed is a record with a timestamp: an integer, of whichever unit.
	Timed
	// Untimed is a record without a timestamp, to which the server gives its own time. It has one with a space and an integer
	// before the byte that ends it.
	Untimed
	// UntimedSpace is the same, but there is a space already.
	UntimedSpace
)

// First returns the size of the first record in p, with the LF or CR that ends it, and whether it has a timestamp; or of a
// blank line, or several. p must begin where a record does, and not be empty. The size is that of [Scanner.Next], but for
// blank lines, and all of p where no record ends.
func First(p []byte) (size int, t Timing) {
	v := validator{b: p}
	for v.i < len(p) && isEnd(p[v.i]) {
		v.i++
	}
	if v.i > 0 {
		return v.i, Blank
	}
	for v.i < len(p) && p[v.i] == '=' {
		v.i++
	}
	if v.i == len(p) || isEnd(p[v.i]) {
		return min(v.i+1, len(p)), Blank
	}
	if v.record() == nil && !v.unclear {
		return v.i, v.timing
	}
	var s Scanner
	size, _ = s.Next(p) // all of p where it does not end
	return max(size, 1), Unknown
}
