package ilp

// Scanner finds the boundaries of records in the stream of one writer, given in chunks of any size. The zero value is ready
// for the start of a stream. It allocates nothing, keeps no reference to what it was given, and is not safe for concurrent use.
type Scanner struct {
	state  state
	escape bool // the last byte was a backslash whose pair has not arrived yet

	last byte // last byte of the field's value or binary payload so far
	odd  bool // a byte beyond val that no number contains

	n     uint8 // bytes in val; valueKeep+1: there were more
	dims  uint8 // dimensions of an array's shape still to come
	part  uint8 // bytes of the current dimension that have arrived
	zeros uint8 // bytes of a decimal's value still to come that must be 0
	flag  flags

	need int32  // bytes of a binary payload still to come
	dim  uint32 // the current dimension, as far as it has arrived
	prod int32  // bytes of the array's values, from the dimensions so far

	val [valueKeep]byte // a field's value that spans chunks or holds escapes, unescaped
}

// state is where in a record the scanner stands. The names are those of the parser's handlers.
type state uint8

const (
	atStart     state = iota // between records
	atStartEq                // only '=' so far, which the server ignores
	inTable                  // the table's name, not empty
	atTagName                // a tag's name, empty so far
	inTagName                // a tag's name, not empty
	inTagValue               // a tag's value
	atFieldName              // a field's name, empty so far
	inFieldName              // a field's name, not empty
	atValue                  // directly after the '=' of a field
	inValue                  // a field's unquoted value
	inQuoted                 // between quotes
	afterQuoted              // after the closing quote
	inTimestamp              // after the fields
	inSkip                   // after an error: to the next LF or CR
	binType                  // after "==": the type byte
	binPayload               // need bytes of a binary value
	binEnd                   // after a binary value: the separator
	arrElement               // an array's element type
	arrDims                  // its number of dimensions
	arrShape                 // its dimensions
	decScale                 // a decimal's scale
	decLen                   // its length
)

// flags is what has been seen of a binary value.
type flags uint8

const (
	shapeZero  flags = 1 << iota // a dimension of an array is 0: no values follow
	shapeOver                    // the product of the dimensions exceeds an int32
	payloadBad                   // there is an error, which the server finds at the last byte
)

// blockSize is how many bytes scanText looks at in one step, but where there are few.
const blockSize = 64

// Reset makes s ready for the start of another stream.
func (s *Scanner) Reset() { *s = Scanner{} }

// MidRecord reports whether anything was scanned since the last boundary.
func (s *Scanner) MidRecord() bool { return s.state != atStart || s.escape }

// Scan consumes all of p, the next bytes of the stream. end is the offset just past the last boundary in p, so that p[end:]
// belongs to an unfinished record; records is the number of records, blank lines not counted, that ended.
//
// end is 0 where no record ended in p. Then records is 0 too, but for one rare case: the server takes the last byte of the
// binary value with which the previous chunk ended for the end of the record, because of what p begins with. That boundary is
// at the start of p, so end is 0 and records counts it.
func (s *Scanner) Scan(p []byte) (end, records int) {
	// After the fast paths met something that they can't judge, the state machine goes on for at least this many bytes. Where
	// such places are close together, as in a stream of quoted texts, it soon goes on for longer.
	const minStep, maxStep = blockSize, 64 * blockSize
	step := minStep
	for i := 0; i < len(p); {
		until := i
		if s.state == atStart && !s.escape {
			start := i
			done, n, last := scanText(p[i:])
			looked := i + done
			if last > 0 {
				records += n
				i += last
				end = i
			}
			if useVector && looked < len(p) {
				if done, n = scanRows(p[i:]); done > 0 {
					records += n
					i += done
					end = i
					looked = max(looked, i)
				}
			}
			if i == len(p) {
				break
			}
			until = looked + step
			if looked-start >= maxStep {
				step = minStep
			} else if step < maxStep {
				step *= 2
			}
		}
		next, last, n := s.run(p, i, until)
		i = next
		records += n
		if last > 0 {
			end = last
		}
	}
	return end, records
}

// Next consumes p up to and including the first boundary, of a blank line too, and says where it is. Where there is none it
// consumes all of p and ok is false. The bytes after end are still to be given to s. end may be 0, see [Scanner.Scan].
func (s *Scanner) Next(p []byte) (end int, ok bool) {
	_, last, _ := s.run(p, 0, 0)
	if last < 0 {
		return len(p), false
	}
	return last, true
}

// IsBlank reports whether line, as [Scanner.Next] delimits it, holds no record.
func IsBlank(line []byte) bool {
	for _, b := range line {
		if b != '\n' && b != '\r' && b != '=' {
			return false
		}
	}
	return true
}
