package ilp

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Type bytes of binary values, and an array's element types (LineTcpParser, ColumnType).
const (
	typeFloat     = 0x02
	typeInt       = 0x03
	typeBool      = 0x06
	typeTimestamp = 0x0D
	typeArray     = 0x0E
	typeLong      = 0x0F
	typeDouble    = 0x10
	typeDecimal   = 0x17

	elementDouble = 0x0A
	elementNull90 = 33 // a null array, as clients of 9.0's time send it
	elementNull93 = 41 // the same in 9.3; the number grows with the server's column types
	elementNull92 = 40

	maxDims  = 32
	maxScale = 76
)

// payloadSize gives the bytes after the type byte for the types of fixed size, 0 for others.
func payloadSize(typ byte) int32 {
	switch typ {
	case typeBool:
		return 1
	case typeFloat, typeInt:
		return 4
	case typeDouble, typeLong:
		return 8
	case typeTimestamp:
		return 9
	}
	return 0
}

func isNullElement(b byte) bool {
	return b == elementNull90 || b == elementNull92 || b == elementNull93
}

// Classes of bytes that mean something in a state.
const (
	stopName   = 1 << iota // in names of tables, tags and fields, and in timestamps
	stopValue              // in values
	numberByte             // may occur in a number (see longValueOK)
)

var class = func() (c [256]uint8) {
	for _, b := range []byte("\n\r,= \\\x00") {
		c[b] |= stopName | stopValue
	}
	c['/'] |= stopName
	for b := 0; b <= ' '; b++ {
		c[b] |= numberByte
	}
	for _, b := range []byte("0123456789+-._\x7fabcdefABCDEFxXpPlLIinNftyTm") {
		c[b] |= numberByte
	}
	return c
}()

// run is the state machine. It consumes p from i on, until a boundary at or behind until, or to the end. last is the last
// boundary, -1 if there was none; records is the number of records that ended.
func (s *Scanner) run(p []byte, i, until int) (next, last, records int) {
	last = -1
	st := s.state
	if s.escape && i < len(p) {
		st = s.escaped(st, p[i])
		s.escape = false
		i++
	}
	for i < len(p) {
		// A case either goes on with the loop, or leaves the switch where a record has ended at i.
		switch st {
		case atStart, atStartEq:
			b := p[i]
			switch b {
			case '\n', '\r':
				i++
				last = i
				st = atStart
				if i >= until {
					s.state = st
					return i, last, records
				}
			case '=':
				i++
				st = atStartEq
			default:
				st = inTable
			}
			continue

		case inTable:
			if i = indexClass(p, i, stopName); i == len(p) {
				continue
			}
			switch p[i] {
			case '\n', '\r':
				i++
			case ',':
				i++
				st = atTagName
				continue
			case ' ':
				i++
				st = atFieldName
				continue
			case '\\':
				i, st = s.backslash(p, i, st)
				continue
			default:
				st = inSkip
				continue
			}

		case atTagName, inTagName:
			lo := i
			if i = indexClass(p, i, stopName); i > lo {
				st = inTagName
			}
			if i == len(p) {
				continue
			}
			switch b := p[i]; {
			case b == '\n' || b == '\r':
				i++
			case b == '=' && st == inTagName:
				i++
				st = inTagValue
				continue
			case b == ' ' && st == atTagName:
				i++
				st = atFieldName
				continue
			case b == '\\':
				i, st = s.backslash(p, i, st)
				continue
			default:
				st = inSkip
				continue
			}

		case inTagValue:
			if i = indexClass(p, i, stopValue); i == len(p) {
				continue
			}
			switch p[i] {
			case '\n', '\r':
				i++
			case ',':
				i++
				st = atTagName
				continue
			case ' ':
				i++
				st = atFieldName
				continue
			case '\\':
				i, st = s.backslash(p, i, st)
				continue
			default:
				st = inSkip
				continue
			}

		case atFieldName, inFieldName:
			lo := i
			if i = indexClass(p, i, stopName); i > lo {
				st = inFieldName
			}
			if i == len(p) {
				continue
			}
			switch b := p[i]; {
			case b == '\n' || b == '\r':
				i++
			case b == '=' && st == inFieldName:
				i++
				st = atValue
				continue
			case b == ' ' && st == atFieldName:
				i++
				st = inTimestamp
				continue
			case b == '\\':
				i, st = s.backslash(p, i, st)
				continue
			default:
				st = inSkip
				continue
			}

		case atValue:
			s.n, s.odd = 0, false
			switch p[i] {
			case '"':
				i++
				st = inQuoted
			case '=':
				i++
				st = binType
				// The usual binary value, all of it here, without a detour through its states.
				if end := i + 1 + 8; end < len(p) && p[i] == typeDouble {
					switch p[end] {
					case ',':
						i, st = doubles(p, end+1)
					case ' ':
						i = end + 1
						st = inTimestamp
					}
				}
			default:
				st = inValue
			}
			continue

		case inValue:
			lo := i
			i = indexClass(p, i, stopValue)
			if i == len(p) {
				s.keep(p[lo:i])
				continue
			}
			b := p[i]
			if b == '\\' {
				s.keep(p[lo:i])
				i, st = s.backslash(p, i, st)
				continue
			}
			if b == '\n' || b == '\r' {
				i++
				break
			}
			var ok bool
			switch {
			case b != ',' && b != ' ':
			case s.n == 0:
				ok = fieldValueOK(p[lo:i])
			default:
				s.keep(p[lo:i])
				ok = s.keptOK()
			}
			st = afterValue(b, ok)
			if ok {
				i++
			}
			continue

		case inQuoted:
			if i = indexAny(p, i, '\n', '"', '\\'); i == len(p) {
				continue
			}
			switch p[i] {
			case '\n':
				i++
			case '"':
				i++
				s.last = '"'
				st = afterQuoted
				continue
			default:
				i, st = s.backslash(p, i, st)
				continue
			}

		case afterQuoted:
			// More text may follow, but the server takes the whole for a string only if it ends with a quote, which then
			// must be an escaped one.
			b := p[i]
			if b == '\n' || b == '\r' {
				i++
				break
			}
			switch b {
			case ',', ' ':
				ok := s.last == '"'
				st = afterValue(b, ok)
				if ok {
					i++
				}
			case '\\':
				i, st = s.backslash(p, i, st)
			case '"', '=', 0:
				st = inSkip
			default:
				s.last = b
				i++
			}
			continue

		case inTimestamp:
			if i = indexClass(p, i, stopName); i == len(p) {
				continue
			}
			switch p[i] {
			case '\n', '\r':
				i++
			case '\\':
				i, st = s.backslash(p, i, st)
				continue
			default:
				st = inSkip
				continue
			}

		case inSkip:
			if i = indexAny(p, i, '\n', '\r', '\n'); i == len(p) {
				continue
			}
			i++

		case binType:
			// An error is at the byte that is wrong, so inSkip looks at it again: it may be LF or CR.
			b := p[i]
			if s.need = payloadSize(b); s.need > 0 {
				i++
				s.flag, s.zeros = 0, 0
				st = binPayload
				continue
			}
			switch b {
			case typeArray:
				i++
				st = arrElement
			case typeDecimal:
				i++
				st = decScale
			default:
				st = inSkip
			}
			continue

		case binPayload:
			n := min(int(s.need), len(p)-i)
			if s.zeros > 0 {
				s.leadingZeros(p[i : i+n])
			}
			i += n
			s.need -= int32(n)
			if s.need > 0 {
				continue
			}
			s.last = p[i-1]
			if s.flag&payloadBad == 0 {
				st = binEnd
				continue
			}
			// The error is at the last byte of the payload.
			if s.last != '\n' && s.last != '\r' {
				st = inSkip
				continue
			}

		case binEnd:
			switch p[i] {
			case ',':
				i++
				st = atFieldName
				continue
			case ' ':
				i++
				st = inTimestamp
				continue
			case '\n', '\r':
				i++
			default:
				// The error is at the value's last byte.
				if s.last != '\n' && s.last != '\r' {
					st = inSkip
					continue
				}
			}

		case arrElement:
			switch b := p[i]; {
			case b == elementDouble:
				i++
				st = arrDims
			case isNullElement(b):
				i++
				s.last = b
				st = binEnd
			default:
				st = inSkip
			}
			continue

		case arrDims:
			switch b := p[i]; {
			case b > maxDims:
				st = inSkip
			case b == 0:
				i++
				s.last = b
				st = binEnd
			default:
				i++
				s.dims, s.part, s.dim, s.prod = b, 0, 0, 8
				s.flag, s.zeros = 0, 0
				st = arrShape
			}
			continue

		case arrShape:
			if s.part == 0 && len(p)-i >= 4 {
				s.dim = binary.LittleEndian.Uint32(p[i:])
				i += 4
			} else {
				s.dim |= uint32(p[i]) << (8 * s.part)
				i++
				if s.part++; s.part < 4 {
					continue
				}
			}
			s.dimension(int32(s.dim))
			s.part, s.dim = 0, 0
			if s.dims--; s.dims > 0 {
				continue
			}
			switch {
			case s.flag&(shapeZero|payloadBad) == shapeZero:
				s.last = p[i-1]
				st = binEnd
				continue
			case s.flag&(shapeZero|shapeOver) == 0 && s.prod > 0:
				s.need = s.prod
				st = binPayload
				continue
			case p[i-1] != '\n' && p[i-1] != '\r':
				// The error is at the last byte of the shape, which is not the end of the record.
				st = inSkip
				continue
			}

		case decScale:
			if p[i] > maxScale {
				st = inSkip
				continue
			}
			i++
			st = decLen
			continue

		case decLen:
			switch b := p[i]; {
			case b == 0:
				i++
				s.last = b
				st = binEnd
			default:
				i++
				s.need, s.flag, s.zeros = int32(b), 0, 0
				if b > maxDecimalLen {
					s.zeros = b - maxDecimalLen
				}
				st = binPayload
			}
			continue
		}
		records++
		last = i
		st = atStart
		if i >= until {
			break
		}
	}
	s.state = st
	return i, last, records
}

// maxDecimalLen is the longest value of a decimal in bytes. A longer one must begin with so many zeros that it fits.
const maxDecimalLen = 32

// leadingZeros takes in bytes of a decimal's value that must be zero.
func (s *Scanner) leadingZeros(v []byte) {
	n := min(int(s.zeros), len(v))
	s.zeros -= uint8(n)
	if !allZero(v[:n]) {
		s.flag |= payloadBad
	}
}

func allZero(v []byte) bool {
	for _, b := range v {
		if b != 0 {
			return false
		}
	}
	return true
}

// dimension takes in one dimension of an array's shape. The server multiplies negative ones like others, and refuses them
// when it has the values.
func (s *Scanner) dimension(d int32) {
	switch {
	case d == 0:
		s.flag |= shapeZero
	case d < 0:
		s.flag |= payloadBad
	}
	prod := int64(s.prod) * int64(d)
	if prod > math.MaxInt32 || prod < math.MinInt32 {
		s.flag |= shapeOver
	}
	s.prod = int32(prod)
}

// afterValue tells the state after a field's value that ended at b.
func afterValue(b byte, ok bool) state {
	switch {
	case !ok:
		return inSkip
	case b == ',':
		return atFieldName
	default:
		return inTimestamp
	}
}

// backslash consumes the backslash at p[i] and the byte after it, if that has arrived.
func (s *Scanner) backslash(p []byte, i int, st state) (int, state) {
	if i+1 == len(p) {
		s.escape = true
		return i + 1, st
	}
	return i + 2, s.escaped(st, p[i+1])
}

// escaped takes in a byte that follows a backslash.
func (s *Scanner) escaped(st state, b byte) state {
	switch st {
	case inValue:
		s.keep([]byte{b})
		return st
	case afterQuoted:
		s.last = b
		return st
	case inTagValue, inQuoted:
		return st
	}
	if b == '\\' {
		return inSkip // illegal in names and timestamps
	}
	switch st {
	case atTagName:
		return inTagName
	case atFieldName:
		return inFieldName
	}
	return st
}

// keep appends to the field's value in s.
func (s *Scanner) keep(v []byte) {
	if len(v) == 0 {
		return
	}
	s.last = v[len(v)-1]
	if s.n <= valueKeep {
		n := copy(s.val[s.n:], v)
		s.n += uint8(n)
		if v = v[n:]; len(v) == 0 {
			return
		}
		s.n = valueKeep + 1
	}
	s.odd = s.odd || hasOdd(v)
}

// keptOK is fieldValueOK of the value in s.
func (s *Scanner) keptOK() bool {
	if s.n > valueKeep {
		return longValueOK(s.val[:], s.odd, s.last)
	}
	return valueOK(s.val[:s.n])
}

// indexClass returns the index of the first byte of p, from i on, that is in one of the stop classes; len(p) if there is none.
func indexClass(p []byte, i int, cl uint8) int {
	for len(p)-i >= 8 {
		m := stops(binary.LittleEndian.Uint64(p[i:]))
		if m == 0 {
			i += 8
			continue
		}
		if i += bits.TrailingZeros64(m) / 8; class[p[i]]&cl != 0 {
			return i
		}
		i++
	}
	for ; i < len(p); i++ {
		if class[p[i]]&cl != 0 {
			break
		}
	}
	return i
}

// doubles goes over fields that are binary doubles, from the start of a field's name on: where there is one, there are often many.
// It stops before the first that is anything else, does not lie in p with the byte behind it, or has a name with a byte in it that
// stops might mean, and returns the state there.
func doubles(p []byte, i int) (next int, st state) {
	const value = 2 + 8 // the second '=', the type and the payload
	for name := i; len(p)-name >= 8; {
		w := binary.LittleEndian.Uint64(p[name:])
		m := stops(w)
		if m == 0 {
			name += 8
			continue
		}
		name += bits.TrailingZeros64(m) / 8
		if name == i || p[name] != '=' || len(p)-name <= 1+value || p[name+1] != '=' || p[name+2] != typeDouble {
			break
		}
		name += 1 + value
		if p[name] == ' ' {
			return name + 1, inTimestamp
		}
		if p[name] != ',' {
			break
		}
		name++
		i = name
	}
	return i, atFieldName
}

// stops has the high bit of the lowest byte of w that might stop anything, and maybe of others above it: all such bytes are
// below '0', or '=' or a backslash. Most others are not.
func stops(w uint64) uint64 {
	const eq, slash, digit = ones * '=', ones * '\\', ones * '0'
	return (w-digit)&^w&highs | zeroBytes(w^eq) | zeroBytes(w^slash)
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// zeroBytes has the high bit of each byte of x that is zero, and maybe of others above the lowest such byte.
func zeroBytes(x uint64) uint64 { return (x - ones) & ^x & highs }

// indexAny returns the index of the first a, b or c in p, from i on; len(p) if there is none. It never looks far behind
// what it finds (as bytes.IndexByte for one of them would), so many short records cost no more than a long one.
func indexAny(p []byte, i int, a, b, c byte) int {
	wa, wb, wc := ones*uint64(a), ones*uint64(b), ones*uint64(c)
	for ; len(p)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		if m := zeroBytes(w^wa) | zeroBytes(w^wb) | zeroBytes(w^wc); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(p); i++ {
		if x := p[i]; x == a || x == b || x == c {
			break
		}
	}
	return i
}
