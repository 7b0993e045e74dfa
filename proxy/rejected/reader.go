package rejected

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLine is the longest line that a Reader reads, in bytes.
const maxLine = 1 << 30

// Errors of single lines, wrapped in a [*LineError].
var (
	// ErrCutOff says that the last line is not whole and has no end: whoever
	// wrote it died meanwhile, or is writing it now.
	ErrCutOff = errors.New("the last line is cut off")
	// ErrLineTooLong says that a line is longer than is read.
	ErrLineTooLong = errors.New("the line is too long")
)

// LineError says why one line could not be read.
type LineError struct {
	Line int // counted from 1
	Err  error
}

// Error implements error.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns Err.
func (e *LineError) Unwrap() error { return e.Err }

// Reader reads the records of a file, in order.
type Reader struct {
	r    *bufio.Reader
	line int
	max  int
	buf  []byte // a line that is longer than r's buffer
}

// NewReader returns a Reader of r, which it reads ahead of what it returns.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), max: maxLine}
}

// Line returns the number of the line that Next has read, counted from 1.
func (r *Reader) Line() int { return r.line }

// Next returns the next record; blank lines are skipped. The record's memory is
// its own. The error is [io.EOF] at the end, a [*LineError] if the line cannot be
// read (Next goes on behind it), and else the reader's own, after which there is
// nothing more.
func (r *Reader) Next() (Record, error) {
	for {
		text, err := r.readLine()
		ended := err == nil
		if err != nil && err != io.EOF {
			return Record{}, err
		}
		if r.line == 1 {
			text = bytes.TrimPrefix(text, []byte("\uFEFF")) // some editors put it there
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			if ended {
				continue
			}
			return Record{}, io.EOF
		}
		rec, err := parseLine(text)
		switch {
		case err == nil:
			return rec, nil
		case !ended:
			return Record{}, &LineError{r.line, fmt.Errorf("%w: %w", ErrCutOff, err)}
		}
		return Record{}, &LineError{r.line, err}
	}
}

// readLine returns the next line. The error is nil if it had an end, io.EOF if it
// had none, which may be an empty line, and a LineError if it is too long.
func (r *Reader) readLine() ([]byte, error) {
	r.line++
	r.buf = r.buf[:0]
	for tooLong := false; ; {
		part, err := r.r.ReadSlice('\n')
		if len(r.buf)+len(part) > r.max {
			tooLong = true
			r.buf = nil
		}
		if err == nil && len(r.buf) == 0 && !tooLong {
			return part, nil // the common case: no copy
		}
		if !tooLong {
			r.buf = append(r.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case tooLong && (err == nil || err == io.EOF):
			return nil, &LineError{r.line, fmt.Errorf("%w, more than %d bytes", ErrLineTooLong, r.max)}
		default:
			return r.buf, err
		}
	}
}
