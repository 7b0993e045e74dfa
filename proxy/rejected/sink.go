package rejected

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/logging"
)

const (
	// defaultMaxSize is where the file is rotated, in bytes. The README says so.
	defaultMaxSize = 100 << 20
	// logEvery is how often the same reason is logged.
	logEvery = 10 * time.Second
	// excerptBytes is how much of a record the log shows.
	excerptBytes = 120
)

// Options says where a Sink puts records.
type Options struct {
	// Path is the file, whose folder must exist. Empty: only the log gets them.
	Path string
	// MaxSize is where the file is rotated, in bytes; 0 is 100 MiB. One Put is
	// never split, so one that is larger makes a larger file.
	MaxSize int64
	Logger  *slog.Logger // nil: none
	Metrics *Metrics     // nil: none that are seen
}

// Sink takes the records that are not delivered. Its methods may be called
// concurrently.
type Sink struct {
	path  string
	log   *slog.Logger
	limit *logging.Limiter
	m     *Metrics

	mu     sync.Mutex // held while the disk is waited for
	file   *file      // nil: no file, or closed
	closed bool

	failed atomic.Pointer[error] // why the last Put failed; nil: it did not
}

// ErrClosed is what Put returns after Close.
var ErrClosed = errors.New("the file of rejected records is closed")

// Open returns a Sink. If a file is asked for and cannot be written, the error
// says why, and names ILP_REJECTED_FILE: the configuration is wrong then.
func Open(o Options) (*Sink, error) {
	s := &Sink{path: o.Path, log: o.Logger, limit: logging.NewLimiter(o.Logger, logEvery), m: o.Metrics}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.m == nil {
		s.m = NewMetrics(prometheus.NewRegistry())
	}
	if o.Path == "" {
		return s, nil
	}
	if o.MaxSize <= 0 {
		o.MaxSize = defaultMaxSize
	}
	s.file = newFile(o.Path, o.MaxSize)
	if err := s.file.open(); err != nil {
		return nil, fmt.Errorf("ILP_REJECTED_FILE: %w; should be the path of a file that can be written, in a folder that exists", err)
	}
	if info, err := os.Stat(o.Path); err == nil && info.Mode().Perm()&0o007 != 0 {
		s.log.Warn("everyone on this machine may read or write the rejected records; chmod 600 the file", "file", o.Path)
	}
	return s, nil
}

// Put keeps the records, in order. When it returns nil they are on the disk; on
// an error none of them is in the file: keep them, and try again later. (Where
// not even a write that failed can be undone, trying again may put some twice.)
// That the file cannot be written, and that it can again, is logged here; so
// callers need not log the error. Without a file it only logs, and returns nil.
func (s *Sink) Put(records ...Record) error {
	if len(records) == 0 {
		return nil
	}
	records = slices.Clone(records) // the caller's stay as they are
	for i := range records {
		complete(&records[i])
	}
	if s.path != "" {
		if err := s.put(records); err != nil {
			return err
		}
	}
	s.sayAll(records)
	return nil
}

// Lost says that these records are nowhere but in the log: Put did not take them,
// and they cannot be kept any longer.
func (s *Sink) Lost(records ...Record) {
	for i := range records {
		complete(&records[i])
	}
	for first, n := range runs(records) {
		latest := &records[first+n-1]
		s.limit.LogN(context.Background(), slog.LevelError, "lost "+latest.Reason, int64(n),
			"a record is lost: the proxy had to end before ILP_REJECTED_FILE could be written",
			append(s.attrs(latest), slog.String("record", excerpt(latest.Bytes)))...)
	}
}

// complete fills in what the caller may leave out.
func complete(r *Record) {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Time = r.Time.UTC()
	if r.Table == "" {
		r.Table, _ = ilp.Table(r.Bytes)
	}
}

func (s *Sink) put(records []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	var size int64
	for i := range records {
		size += int64(len(records[i].Bytes)) + 200 // about
	}
	before := s.file.rotateError
	err := s.file.append(size, func(w io.Writer) error {
		var b []byte
		for i := range records {
			b = appendLine(b[:0], &records[i])
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if after := s.file.rotateError; after != nil && before == nil {
		s.log.Warn("cannot rotate the file of rejected records; it goes on growing", "file", s.path, "error", after)
	}
	if err != nil {
		return s.fail(err)
	}
	s.m.written.Add(float64(len(records)))
	s.m.writable.Set(1)
	if s.failed.Swap(nil) != nil {
		s.log.Info("the file of rejected records can be written again", "file", s.path)
	}
	return nil
}

// fail notes that the file cannot be written, and says so the first time.
func (s *Sink) fail(err error) error {
	err = fmt.Errorf("write rejected records: %w", err)
	s.m.writable.Set(0)
	if s.failed.Swap(&err) == nil {
		s.log.Error("cannot write the file of rejected records; they are kept in memory, and tried again. Check its folder and its disk", "file", s.path, "error", err)
	}
	return err
}

// runs yields where records begin that have the same reason, and how many they are.
func runs(records []Record) iter.Seq2[int, int] {
	return func(yield func(first, n int) bool) {
		for first := 0; first < len(records); {
			n := 1
			for first+n < len(records) && records[first+n].Reason == records[first].Reason {
				n++
			}
			if !yield(first, n) {
				return
			}
			first += n
		}
	}
}

// sayAll logs rejected records.
func (s *Sink) sayAll(records []Record) {
	for first, n := range runs(records) {
		s.say(&records[first], 1)
		s.say(&records[first+n-1], n-1)
	}
}

// say logs n rejected records, of which r is the last: where it is, or the beginning of it.
func (s *Sink) say(r *Record, n int) {
	if n == 0 {
		return
	}
	attrs := s.attrs(r)
	if s.path != "" {
		attrs = append(attrs, slog.String("file", s.path))
	} else {
		attrs = append(attrs, slog.String("record", excerpt(r.Bytes)))
	}
	s.limit.LogN(context.Background(), slog.LevelWarn, r.Reason, int64(n), "a record is not delivered", attrs...)
}

// attrs is what the log says of r, without its bytes.
func (s *Sink) attrs(r *Record) []slog.Attr {
	attrs := []slog.Attr{slog.String("remote", r.Remote), slog.String("reason", r.Reason)}
	if r.Detail != "" {
		attrs = append(attrs, slog.String("detail", clip(r.Detail)))
	}
	if r.Table != "" {
		attrs = append(attrs, slog.String("table", clip(r.Table)))
	}
	return attrs
}

// clip returns a copy of the beginning of s: the limiter remembers it for a while.
func clip(s string) string { return strings.Clone(s[:min(len(s), excerptBytes)]) }

// excerpt returns the beginning of a record for the log.
func excerpt(record []byte) string {
	if len(record) > excerptBytes {
		return fmt.Sprintf("%q...", record[:excerptBytes])
	}
	return fmt.Sprintf("%q", record)
}

// Err returns why the last Put failed, or nil. It does not wait for the disk.
func (s *Sink) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Close closes the file, and logs what was held back. Everything that was put is
// on the disk before.
func (s *Sink) Close() error {
	s.limit.Flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil && !s.closed {
		s.file.close()
	}
	s.closed = true
	return nil
}
