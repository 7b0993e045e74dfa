package rejected

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// line is a record as the file has it.
type line struct {
	Time   string          `json:"time,omitempty"`
	Writer string          `json:"writer"`
	Reason string          `json:"reason"`
	Detail string          `json:"detail,omitempty"`
	Table  string          `json:"table,omitempty"`
	Size   int64           `json:"size,omitempty"`
	Text   json.RawMessage `json:"record,omitempty"`
	Base64 *[]byte         `json:"record_base64,omitempty"`
}

// appendLine appends r as one line. It writes what the JSON package would write of
// [line], but faster: there may be very many.
func appendLine(b []byte, r *Record) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","writer":`...)
	b = appendString(b, r.Remote)
	b = append(b, `,"reason":`...)
	b = appendString(b, r.Reason)
	if r.Detail != "" {
		b = append(b, `,"detail":`...)
		b = appendString(b, r.Detail)
	}
	if r.Table != "" {
		b = append(b, `,"table":`...)
		b = appendString(b, r.Table)
	}
	if r.Size != 0 {
		b = append(b, `,"size":`...)
		b = strconv.AppendInt(b, r.Size, 10)
	}
	if utf8.Valid(r.Bytes) {
		b = append(b, `,"record":`...)
		b = appendString(b, r.Bytes)
	} else {
		b = append(b, `,"record_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Bytes)
		b = append(b, '"')
	}
	return append(b, "}\n"...)
}

// appendString appends s as a JSON string. Only ASCII without rare characters it
// does itself.
func appendString[T string | []byte](b []byte, s T) []byte {
	begin := len(b)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case ' ' <= c && c <= '~':
			b = append(b, c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		default:
			return append(b[:begin], quote(string(s))...)
		}
	}
	return append(b, '"')
}

// quote returns s as a JSON string.
func quote(s string) []byte {
	var b bytes.Buffer
	b.Grow(len(s) + 2 + len(s)/8)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // it is for people too
	_ = enc.Encode(s)        // a string into memory: it cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// parseLine reads back what appendLine wrote, or somebody made of it. Its errors
// show nothing of p, which may be anything, a private key too.
func parseLine(p []byte) (Record, error) {
	if !utf8.Valid(p) {
		// The JSON package would put U+FFFD in its place without a word.
		return Record{}, errors.New("it is not UTF-8")
	}
	var l line
	if err := json.Unmarshal(p, &l); err != nil {
		return Record{}, describe(err)
	}
	r := Record{Remote: l.Writer, Reason: l.Reason, Detail: l.Detail, Table: l.Table, Size: l.Size}
	if l.Time != "" {
		t, err := time.Parse(time.RFC3339Nano, l.Time)
		if err != nil {
			return Record{}, errors.New("its time is not RFC 3339")
		}
		r.Time = t
	}
	var err error
	r.Bytes, err = l.bytes()
	return r, err
}

// bytes returns the record itself.
func (l *line) bytes() ([]byte, error) {
	text := len(l.Text) > 0 && !bytes.Equal(l.Text, []byte("null"))
	switch {
	case l.Size < 0:
		return nil, errors.New("its size is negative")
	case text && l.Base64 != nil:
		return nil, errors.New("it has both record and record_base64")
	case l.Base64 != nil:
		return *l.Base64, nil
	case !text:
		return nil, errors.New("it has neither record nor record_base64")
	case loneSurrogate(l.Text):
		return nil, errors.New(`its record has half of a surrogate pair (\ud800 to \udfff)`)
	}
	var s string
	if err := json.Unmarshal(l.Text, &s); err != nil {
		return nil, errors.New("its record is not a string")
	}
	return []byte(s), nil
}

// loneSurrogate reports whether the JSON value has a \u escape for half a
// character, which the JSON package would replace by U+FFFD without a word.
func loneSurrogate(value []byte) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		i++ // what is escaped
		high := escapedUnit(value[i-1:])
		if !utf16.IsSurrogate(high) {
			continue
		}
		if utf16.DecodeRune(high, escapedUnit(value[i+5:])) == utf8.RuneError {
			return true
		}
		i += 10 // the rest of both escapes
	}
	return false
}

// escapedUnit returns the UTF-16 unit of the \uXXXX with which p begins, or -1.
func escapedUnit(p []byte) rune {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(p[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// describe says what is wrong with a line that the JSON package refused, without
// a value of the line's.
func describe(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON: %w, at byte %d", err, syntax.Offset)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("its %s is of the wrong type", kind.Field)
	case errors.As(err, &kind):
		return errors.New("it is not a JSON object")
	}
	return errors.New("its record_base64 is not base64")
}
