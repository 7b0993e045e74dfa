package rejected

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The library starts a goroutine for old files with each of its loggers, and has
// nothing that ends it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

var when = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)

func record(text string) Record {
	return Record{Time: when, Remote: "10.0.0.7:51234", Reason: ReasonMalformed, Detail: "no fields", Bytes: []byte(text)}
}

func open(t *testing.T, o Options) *Sink {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func inFolder(t *testing.T) string { return filepath.Join(t.TempDir(), "rejected.jsonl") }

func put(t *testing.T, s *Sink, records ...Record) {
	t.Helper()
	if err := s.Put(records...); err != nil {
		t.Fatal(err)
	}
}

// readAll returns what the reader has, which must be without errors.
func readAll(t *testing.T, r io.Reader) []Record {
	t.Helper()
	var records []Record
	for reader := NewReader(r); ; {
		rec, err := reader.Next()
		if err == io.EOF {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rec)
	}
}

func readFile(t *testing.T, path string) []Record {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return readAll(t, bytes.NewReader(data))
}

// wantTexts compares the bytes of the file's records, in order.
func wantTexts(t *testing.T, path string, want ...string) {
	t.Helper()
	var got []string
	for _, r := range readFile(t, path) {
		got = append(got, string(r.Bytes))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the file has %q, want %q", got, want)
	}
}
