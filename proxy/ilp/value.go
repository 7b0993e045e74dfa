package ilp

import (
	"math"
	"strconv"
	"unsafe"
)

// valueKeep is how many bytes of a value are looked at exactly where its chunks are not at hand together. All but some
// decimals and very long notations of numbers are shorter.
const valueKeep = 40

// fieldValueOK is valueOK for the scanner: it must say the same of a value that arrives in pieces.
func fieldValueOK(v []byte) bool {
	if len(v) <= valueKeep {
		return valueOK(v)
	}
	return longValueOK(v[:valueKeep], hasOdd(v[valueKeep:]), v[len(v)-1])
}

// hasOdd reports whether v has a byte that occurs in no number.
func hasOdd(v []byte) bool {
	for _, b := range v {
		if class[b]&numberByte == 0 {
			return true
		}
	}
	return false
}

// longValueOK judges a value of more than valueKeep bytes by its first ones, its last one, and whether there are odd ones
// among the others. It accepts all that valueOK does, and a malformed value only if it is of the bytes of numbers.
func longValueOK(head []byte, odd bool, last byte) bool {
	switch {
	case head[0] == '"':
		return last == '"'
	case last == 'i' && head[0] == '0' && head[1] == 'x':
		return true
	case last == 'd':
		i, _ := skipSign(head, skipSpaces(head, 0))
		if len(head)-i < len("Infinity") || isNaNOrInfinity(head[i:]) {
			return true // NaN and Infinity may be followed by anything
		}
	}
	return !odd && !hasOdd(head)
}

// valueOK reports whether the unescaped, unquoted value of a field is one that the server takes. (ProtoEntity.parse)
func valueOK(v []byte) bool {
	n := len(v)
	if n == 0 {
		return true // null
	}
	last := v[n-1]
	switch last {
	case 'i': // integer, long256
		if n > 1 && v[1] != 'x' {
			return longOK(v[:n-1])
		}
		return n > 3 && v[0] == '0'
	case 'n', 'm': // timestamp in ns, ms
		return n > 1 && longOK(v[:n-1])
	case 't': // boolean, timestamp in µs
		return n == 1 || longOK(v[:n-1])
	case 'T', 'f', 'F', 'e', 'E': // boolean
		if n == 1 {
			return last != 'e'
		}
		return equalFold(v, "true") || equalFold(v, "false")
	case '"': // string, though not necessarily a quoted one: \"x"
		return n > 1 && v[0] == '"'
	case 'd': // decimal; servers before 9.2 take a double
		return decimalOK(v[:n-1]) || doubleOK(v)
	}
	return doubleOK(v)
}

// equalFold compares v to a lower-case word as SqlKeywords does.
func equalFold(v []byte, word string) bool {
	if len(v) != len(word) {
		return false
	}
	for i, b := range v {
		if b|0x20 != word[i] {
			return false
		}
	}
	return true
}

// longOK reports whether the server takes v for a 64-bit integer. Its check for overflow misses some numbers of 20 digits
// and more; so does this one. (Numbers.parseLong0)
func longOK(v []byte) bool {
	i := 0
	negative := len(v) > 0 && v[0] == '-'
	if negative {
		i++
	}
	if i == len(v) {
		return false
	}
	var val int64
	digits := 0
	for ; i < len(v); i++ {
		switch b := v[i]; {
		case '0' <= b && b <= '9':
			r := val*10 - int64(b-'0') // wraps
			if r > val {
				return false
			}
			val = r
			digits++
		case b == 'l' || b == 'L':
			if i == 0 || i+1 < len(v) {
				return false
			}
		case b|0x20 == 0x7F: // '_', and DEL, which the server mistakes for it
			if digits == 0 {
				return false
			}
			digits = 0
		default:
			return false
		}
	}
	return digits > 0 && (val != math.MinInt64 || negative)
}

// skipSpaces returns the index of the first byte that is not a space.
func skipSpaces(v []byte, i int) int {
	for i < len(v) && v[i] == ' ' {
		i++
	}
	return i
}

// skipBlanks is skipSpaces for all that the parser of doubles takes for white space.
func skipBlanks(v []byte, i int) int {
	for i < len(v) && v[i] <= ' ' {
		i++
	}
	return i
}

func skipSign(v []byte, i int) (next int, signed bool) {
	if i < len(v) && (v[i] == '-' || v[i] == '+') {
		return i + 1, true
	}
	return i, false
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func hasPrefix(v []byte, prefix string) bool {
	return len(v) >= len(prefix) && string(v[:len(prefix)]) == prefix
}

func isNaNOrInfinity(v []byte) bool { return hasPrefix(v, "NaN") || hasPrefix(v, "Infinity") }

// doubleOK reports whether the server takes v for a double. It refuses what overflows, and what is not zero but would become
// it. (FastDoubleMem)
func doubleOK(v []byte) bool {
	i := skipBlanks(v, 0)
	if i == len(v) {
		return false
	}
	begin := i
	i, signed := skipSign(v, i)
	if signed && (i == len(v) || v[i] == 0) {
		return false
	}
	if b := v[i]; 'I' <= b && b < 0x80 {
		switch {
		case b == 'N' && hasPrefix(v[i:], "NaN"):
			i += len("NaN")
		case hasPrefix(v[i:], "Infinity"):
			i += len("Infinity")
		default:
			return false
		}
		return skipBlanks(v, i) == len(v)
	}
	if v[i] == '0' && i+1 < len(v) && v[i+1]|0x20 == 'x' {
		return hexDoubleOK(v, i+2)
	}

	// The digits. exp10 becomes the power of ten of the first digit that is not 0.
	digits, first, point := 0, -1, -1
	for ; i < len(v); i++ {
		b := v[i]
		if isDigit(b) {
			if first < 0 && b != '0' {
				first = digits
			}
			digits++
			continue
		}
		if b != '.' {
			break
		}
		if point >= 0 {
			return false
		}
		point = digits
	}
	if digits == 0 {
		return false
	}
	if point < 0 {
		point = digits
	}
	exp, i, ok := exponent(v, i, 'e')
	if !ok {
		return false
	}
	end := i
	if i < len(v) && isFloatSuffix(v[i]) {
		i++
	}
	if skipBlanks(v, i) < len(v) {
		return false
	}
	if first < 0 {
		return true // zero
	}
	const surelyIn, surelyOut = 300, 400
	switch exp10 := point - first - 1 + exp; {
	case -surelyIn <= exp10 && exp10 <= surelyIn:
		return true
	case exp10 < -surelyOut || surelyOut < exp10:
		return false
	}
	return inRange(v[begin:end])
}

// exponent parses an exponent at v[i], if there is one, marked by mark in either case.
func exponent(v []byte, i int, mark byte) (exp, next int, ok bool) {
	if i == len(v) || v[i]|0x20 != mark {
		return 0, i, true
	}
	i++
	negative := i < len(v) && v[i] == '-'
	i, _ = skipSign(v, i)
	if i == len(v) || !isDigit(v[i]) {
		return 0, i, false
	}
	for ; i < len(v) && isDigit(v[i]); i++ {
		if exp < 1<<24 { // far beyond any double
			exp = 10*exp + int(v[i]-'0')
		}
	}
	if negative {
		exp = -exp
	}
	return exp, i, true
}

func isFloatSuffix(b byte) bool { return b|0x20 == 'd' || b|0x20 == 'f' }

// hexDoubleOK is doubleOK for numbers like 0x1.8p3, from behind the x on, except that it does not judge the range: what
// overflows is refused by some of the server's ways to compute it only.
func hexDoubleOK(v []byte, i int) bool {
	digits, point := 0, false
	for ; i < len(v); i++ {
		b := v[i]
		if isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'f' {
			digits++
			continue
		}
		if b != '.' {
			break
		}
		if point {
			return false
		}
		point = true
	}
	if digits == 0 || i == len(v) || v[i]|0x20 != 'p' {
		return false
	}
	_, i, ok := exponent(v, i, 'p')
	if !ok {
		return false
	}
	if i < len(v) && isFloatSuffix(v[i]) {
		i++
	}
	return skipBlanks(v, i) == len(v)
}

// inRange reports whether a well-formed decimal literal is neither infinite nor zero as a double.
func inRange(v []byte) bool {
	// The string lives no longer than the call: ParseFloat copies what it puts into an error.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(v), len(v)), 64)
	return err == nil && f != 0
}

// decimalOK reports whether the server takes v, without the d behind it, for a decimal of at most 76 digits. (DecimalParser)
func decimalOK(v []byte) bool {
	const maxPrecision = 76
	lo, hi := 0, len(v)
	if hi > lo && v[hi-1]|0x20 == 'm' {
		hi--
	}
	if hi > lo && isFloatSuffix(v[hi-1]) {
		hi--
	}
	v = v[:hi]
	if lo = skipSpaces(v, lo); lo == hi {
		return false
	}
	if lo, _ = skipSign(v, lo); lo == hi {
		return false
	}
	if isNaNOrInfinity(v[lo:]) {
		return true // null, whatever follows
	}
	zeros := false
	for lo < hi-1 && v[lo] == '0' {
		lo++
		zeros = true
	}
	dot, digits, isZero := -1, 0, true
	for ; lo < hi; lo++ {
		if isDigit(v[lo]) {
			digits++
			isZero = isZero && v[lo] == '0'
		} else if v[lo] == '.' && dot < 0 {
			dot = lo
		} else {
			break
		}
	}
	if digits == 0 {
		if !zeros {
			return false
		}
		digits++ // the last of them
	}
	var scale int32
	if dot >= 0 {
		scale = int32(lo - dot - 1)
	}
	var exp int32
	if lo < hi {
		if v[lo]|0x20 != 'e' {
			return false
		}
		e, ok := parseInt32(v[lo+1:])
		if !ok {
			return false
		}
		if e >= 0 && e > scale {
			exp, scale = e-scale, 0
		} else {
			scale -= e
		}
	}
	precision := int64(digits) + int64(exp)
	if precision > math.MaxInt32 && isZero {
		precision = 0 // the server's sum wraps; for other digits than 0 it fails because of that
	}
	return scale <= maxScale && scale+1 <= maxPrecision && precision <= maxPrecision
}

// parseInt32 parses as Numbers.parseInt0 does.
func parseInt32(v []byte) (n int32, ok bool) {
	negative := len(v) > 0 && v[0] == '-'
	i, _ := skipSign(v, 0)
	var val int64
	digits := 0
	for ; i < len(v); i++ {
		switch b := v[i]; {
		case isDigit(b):
			if val = val*10 - int64(b-'0'); val < math.MinInt32 {
				return 0, false
			}
			digits++
		case b == '_':
			if digits == 0 {
				return 0, false
			}
			digits = 0
		default:
			return 0, false
		}
	}
	if digits == 0 || val == math.MinInt32 && !negative {
		return 0, false
	}
	if !negative {
		val = -val
	}
	return int32(val), true
}
