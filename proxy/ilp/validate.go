package ilp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

// SyntaxError says why QuestDB refuses a record.
type SyntaxError struct {
	Offset int    // of the byte in the record at which the server finds the error
	Reason string // in a few words
}

func (e *SyntaxError) Error() string {
	return "malformed ILP record: " + e.Reason + " at byte " + strconv.Itoa(e.Offset)
}

// Validate reports whether the parser of QuestDB 9.3.4 accepts record, which is one record with the LF or CR that ends it (and
// maybe blank lines around it, which are accepted alone too). The error is a [*SyntaxError].
//
// It never refuses what a server accepts. So where the verdict depends on the server's version, or on where TCP happens to have
// split the record, it accepts; and it says nothing about what the server checks after parsing: whether the names are legal
// for tables and columns, the text is UTF-8, and the values fit the types of their columns.
func Validate(record []byte) error {
	v := validator{b: record}
	for v.i < len(record) && IsBlank(record[v.i:v.i+1]) {
		v.i++
	}
	if v.i == len(record) {
		return nil
	}
	if v.record() != nil {
		return v.err()
	}
	if v.unclear {
		return nil
	}
	if rest := record[v.i:]; !IsBlank(rest) {
		_ = v.errorAt(v.i, "more bytes after the end of the record")
		return v.err()
	}
	return nil
}

// validator reads one record from front to back. Its rules are those of [Scanner.run], with an error in place of inSkip.
type validator struct {
	b []byte
	i int

	// mayOpen is true where the server takes a quote for an opening one, if TCP had not delivered more than two bytes after
	// the '=' before it when it was parsed. The server forgets to reset this in some places.
	mayOpen bool
	// unclear is set where a quote stands at such a place: what is right here depends on the split, so nothing is refused.
	unclear bool

	// timing is what was found of a timestamp; it counts if there was no error and nothing is unclear.
	timing Timing

	// What errorAt was told.
	offset int
	reason string

	scratch [64]byte // for unescaped text, so that there is nothing to allocate
}

// errMalformed stands for what err returns. Making that for each record would be slow where there is nothing but rubbish.
var errMalformed = errors.New("malformed ILP record")

func (v *validator) errorAt(offset int, reason string) error {
	v.offset, v.reason = offset, reason
	return errMalformed
}

// err returns the error that errorAt was told last.
func (v *validator) err() error { return &SyntaxError{Offset: v.offset, Reason: v.reason} }

func (v *validator) unfinished() error {
	return v.errorAt(len(v.b), "the record does not end")
}

func (v *validator) record() error {
	_, end, err := v.name()
	if err != nil {
		return err
	}
	entities := 0 // tags and fields
	inFields := false
	afterSpace := false // as opposed to a comma
	switch end {
	case ',':
	case ' ':
		inFields, afterSpace = true, true
	case '=':
		return v.errorAt(v.i-1, "'=' in the table's name")
	default:
		return v.errorAt(v.i-1, "no tags and no fields")
	}
	tagsOnly := true
	for {
		begin := v.i
		name, end, err := v.name()
		if err != nil || v.unclear {
			return err
		}
		switch {
		case len(name) == 0 && end == ' ':
			if inFields {
				return v.timestamp(entities)
			}
			inFields, afterSpace = true, true
			continue
		case len(name) == 0 && isEnd(end):
			if entities == 0 {
				return v.errorAt(v.i-1, "no tags and no fields")
			}
			v.timing = Untimed
			if afterSpace {
				v.timing = UntimedSpace
			}
			return nil
		case len(name) > 0 && isEnd(end) && inFields && tagsOnly && entities > 0:
			// After tags alone this is the timestamp.
			if !timestampOK(name) {
				return v.errorAt(begin, "neither a field nor a timestamp")
			}
			v.timing = Timed
			return nil
		case len(name) > 0 && end == '=':
		case len(name) > 0:
			return v.errorAt(v.i-1, "a name without '='")
		default:
			return v.errorAt(v.i-1, "a name is missing")
		}

		entities++
		if inFields {
			tagsOnly = false
			end, err = v.fieldValue()
		} else {
			end, err = v.tagValue()
		}
		afterSpace = end == ' '
		switch {
		case err != nil || v.unclear:
			return err
		case isEnd(end):
			v.timing = Untimed
			return nil
		case end == ' ' && inFields:
			return v.timestamp(entities)
		case end == ' ':
			inFields = true
		}
	}
}

func isEnd(b byte) bool { return b == '\n' || b == '\r' }

// text reads to the next separator (LF, CR, comma, '=' or space), which it consumes too. It returns the bytes before it,
// unescaped, until it is called again. In names a pair of backslashes and a '/' are errors.
func (v *validator) text(isName bool) (text []byte, end byte, err error) {
	stop := uint8(stopValue)
	if isName {
		stop = stopName
	}
	var unescaped []byte
	lo := v.i // of what is not in unescaped
	for ; v.i < len(v.b); v.i++ {
		if !v.mayOpen {
			if v.i = indexClass(v.b, v.i, stop); v.i == len(v.b) {
				break
			}
		}
		switch b := v.b[v.i]; b {
		case '\n', '\r', ',', '=', ' ':
			text = v.b[lo:v.i]
			if unescaped != nil {
				text = append(unescaped, text...)
			}
			v.i++
			return text, b, nil
		case '\\':
			if v.i+1 == len(v.b) {
				return nil, 0, v.unfinished()
			}
			if isName && v.b[v.i+1] == '\\' {
				return nil, 0, v.errorAt(v.i+1, `"\\" in a name or timestamp`)
			}
			if unescaped == nil {
				unescaped = v.scratch[:0]
			}
			unescaped = append(unescaped, v.b[lo:v.i]...)
			v.i++
			lo = v.i
		case 0:
			return nil, 0, v.errorAt(v.i, "a NUL byte")
		case '/':
			if isName {
				return nil, 0, v.errorAt(v.i, "'/' in a name or timestamp")
			}
			v.mayOpen = false
		case '"':
			if v.mayOpen {
				v.unclear = true
				return nil, 0, nil
			}
		default:
			v.mayOpen = false
		}
	}
	return nil, 0, v.unfinished()
}

func (v *validator) name() (text []byte, end byte, err error) { return v.text(true) }

func (v *validator) tagValue() (end byte, err error) {
	_, end, err = v.text(false)
	if err == nil && end == '=' {
		err = v.errorAt(v.i-1, "'=' in a tag's value")
	}
	return end, err
}

func (v *validator) fieldValue() (end byte, err error) {
	if v.i == len(v.b) {
		return 0, v.unfinished()
	}
	v.mayOpen = true
	begin := v.i
	var ok bool
	switch v.b[v.i] {
	case '=':
		v.i++
		return v.binary()
	case '"':
		if err := v.quoted(); err != nil {
			return 0, err
		}
		// More text may follow, see afterQuoted.
		var more []byte
		more, end, err = v.afterQuoted()
		ok = len(more) == 0 || more[len(more)-1] == '"'
	default:
		var value []byte
		value, end, err = v.text(false)
		ok = valueOK(value)
	}
	switch {
	case err != nil || v.unclear:
		return 0, err
	case end == '=':
		return 0, v.errorAt(v.i-1, "'=' in a field's value")
	case !ok:
		return 0, v.errorAt(begin, "a field's value that is of no type")
	}
	return end, nil
}

// quoted reads a string from its opening to its closing quote.
func (v *validator) quoted() error {
	v.i++
	for ; v.i < len(v.b); v.i++ {
		switch v.b[v.i] {
		case '"':
			v.i++
			return nil
		case '\n':
			return v.errorAt(v.i, "a string without a closing quote")
		case '\\':
			v.i++
		}
		v.mayOpen = false
	}
	return v.unfinished()
}

// afterQuoted is text for what follows a closing quote, where another quote is an error.
func (v *validator) afterQuoted() (text []byte, end byte, err error) {
	lo := v.i
	text, end, err = v.text(false)
	if err != nil || v.unclear {
		return nil, 0, err
	}
	for i := lo; i < v.i; i++ {
		switch v.b[i] {
		case '\\':
			i++
		case '"':
			return nil, 0, v.errorAt(i, "a quote after a closing quote")
		}
	}
	return text, end, nil
}

// binary reads a value from its type byte to the separator.
func (v *validator) binary() (end byte, err error) {
	size, err := v.payload()
	if err != nil {
		return 0, err
	}
	if size >= len(v.b)-v.i {
		return 0, v.unfinished()
	}
	v.i += size
	end = v.b[v.i]
	if end != ',' && end != ' ' && !isEnd(end) {
		return 0, v.errorAt(v.i-1, "a binary value that is not followed by a separator")
	}
	v.i++
	return end, nil
}

// payload reads the header of a binary value and returns how many bytes follow.
func (v *validator) payload() (size int, err error) {
	typ, err := v.byte()
	if err != nil {
		return 0, err
	}
	if n := payloadSize(typ); n > 0 {
		return int(n), nil
	}
	switch typ {
	case typeArray:
		return v.array()
	case typeDecimal:
		scale, err := v.byte()
		if err != nil {
			return 0, err
		}
		if scale > maxScale {
			return 0, v.errorAt(v.i-1, "a binary decimal whose scale is not 0 to 76")
		}
		n, err := v.byte()
		if err == nil && n > maxDecimalLen && !allZero(v.b[v.i:min(v.i+int(n)-maxDecimalLen, len(v.b))]) {
			err = v.errorAt(v.i-1, "a binary decimal longer than 32 bytes")
		}
		return int(n), err
	}
	return 0, v.errorAt(v.i-1, "a binary value of unknown type")
}

func (v *validator) array() (size int, err error) {
	element, err := v.byte()
	if err != nil || isNullElement(element) {
		return 0, err
	}
	if element != elementDouble {
		return 0, v.errorAt(v.i-1, "a binary array whose elements are not doubles")
	}
	dims, err := v.byte()
	if err != nil || dims == 0 {
		return 0, err
	}
	if dims > maxDims {
		return 0, v.errorAt(v.i-1, "a binary array of more than 32 dimensions")
	}
	shape := int(dims) * 4
	if shape > len(v.b)-v.i {
		return 0, v.unfinished()
	}
	product, zero, over, negative := int64(8), false, false, false
	for ; shape > 0; shape -= 4 {
		d := int32(binary.LittleEndian.Uint32(v.b[v.i:]))
		v.i += 4
		zero = zero || d == 0
		negative = negative || d < 0
		if product *= int64(d); product > math.MaxInt32 || product < math.MinInt32 {
			over = true
		}
		product = int64(int32(product))
	}
	switch {
	case negative:
		return 0, v.errorAt(v.i-1, "a binary array with a negative dimension")
	case zero:
		return 0, nil
	case over:
		return 0, v.errorAt(v.i-1, "a binary array that is too large")
	}
	return int(product), nil
}

func (v *validator) byte() (byte, error) {
	if v.i == len(v.b) {
		return 0, v.unfinished()
	}
	v.i++
	return v.b[v.i-1], nil
}

// timestamp reads what follows the fields.
func (v *validator) timestamp(entities int) error {
	begin := v.i
	text, end, err := v.text(true)
	switch {
	case err != nil || v.unclear:
		return err
	case !isEnd(end):
		return v.errorAt(v.i-1, "something after the timestamp")
	case len(text) > 0 && !timestampOK(text):
		return v.errorAt(begin, "a timestamp that is not a number")
	case entities == 0:
		return v.errorAt(v.i-1, "no tags and no fields")
	case len(text) > 0:
		v.timing = Timed
	default:
		v.timing = UntimedSpace
	}
	return nil
}

// timestampOK reports whether the server takes v, which is not empty, for a timestamp: an integer, with n, t or m behind it
// for ns, µs or ms.
func timestampOK(v []byte) bool {
	last := len(v) - 1
	if bytes.IndexByte([]byte("ntm"), v[last]) >= 0 {
		v = v[:last]
	}
	return longOK(v)
}
