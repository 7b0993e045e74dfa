package rejected

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestEveryByte has each byte alone, between others, and all of them at once.
func TestEveryByte(t *testing.T) {
	var records []Record
	all := make([]byte, 0, 256)
	for b := range 256 {
		all = append(all, byte(b))
		records = append(records, record(string([]byte{byte(b)})), record(string([]byte{'a', byte(b), byte(b), '\n'})))
	}
	records = append(records, record(string(all)), record(""), record("t s=\"é \U0001F600 <&> \u2028 \uFFFD \\ud800\"\n"),
		Record{Time: when, Remote: "[::1]:1", Reason: ReasonTooLong, Table: "table", Bytes: []byte("x"), Size: 1 << 40})
	path := inFolder(t)
	put(t, open(t, Options{Path: path}), records...)
	got := readFile(t, path)
	if len(got) != len(records) {
		t.Fatalf("%d records, want %d", len(got), len(records))
	}
	for i, want := range records {
		got[i].Table, want.Table = "", ""
		if !bytes.Equal(got[i].Bytes, want.Bytes) {
			t.Errorf("got %q, want %q", got[i].Bytes, want.Bytes)
		}
		if got[i].Bytes, want.Bytes = nil, nil; !reflect.DeepEqual(got[i], want) {
			t.Errorf("got %+v, want %+v", got[i], want)
		}
	}
}

func TestFormat(t *testing.T) {
	path := inFolder(t)
	berlin := time.FixedZone("", 3600)
	put(t, open(t, Options{Path: path}), record("trades price=<1>\n"),
		Record{Time: when.In(berlin), Remote: "[::1]:2", Reason: ReasonRefused, Bytes: []byte("t v==\x10\xff\n")})
	got, err := os.ReadFile(path)
	want := `{"time":"2026-01-02T03:04:05.678901234Z","writer":"10.0.0.7:51234","reason":"malformed","detail":"no fields","table":"trades","record":"trades price=<1>\n"}
{"time":"2026-01-02T03:04:05.678901234Z","writer":"[::1]:2","reason":"refused","table":"t","record_base64":"dCB2PT0Q/wo="}
`
	if err != nil || string(got) != want {
		t.Errorf("got\n%s, %v, want\n%s", got, err, want)
	}
}

func TestPutLeavesTheCallersRecords(t *testing.T) {
	records := []Record{{Bytes: []byte("t v=1\n")}}
	path := inFolder(t)
	put(t, open(t, Options{Path: path}), records...)
	if !records[0].Time.IsZero() || records[0].Table != "" {
		t.Errorf("got %+v", records[0])
	}
	if got := readFile(t, path)[0]; time.Since(got.Time) > time.Minute || got.Table != "t" {
		t.Errorf("the file has %+v", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"no folder": {filepath.Join(dir, "no", "file"), "no such file or directory"},
		"a folder":  {dir, "is a directory"},
		"a pipe":    {pipe, "is not a regular file"},
		"a device":  {"/dev/full", "is not a regular file"},
	} {
		s, err := Open(Options{Path: c.path})
		if err == nil || s != nil || !strings.HasPrefix(err.Error(), "ILP_REJECTED_FILE: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "no")); err == nil {
		t.Error("the folder was made")
	}
}

func TestWorldReadableFileIsToldOf(t *testing.T) {
	path := inFolder(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	open(t, Options{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "chmod 600") {
		t.Errorf("log is %s", &log)
	}
}

func TestToTheLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		s, err := Open(Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: NewMetrics(reg)})
		if err != nil {
			t.Fatal(err)
		}
		long := record("t v=" + strings.Repeat("1", 5000) + "\n")
		long.Detail = strings.Repeat("d", 5000)
		for range 1000 {
			put(t, s, long)
		}
		put(t, s, Record{Reason: ReasonRefused, Bytes: []byte("u v=\xff\n")})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if len(lines) != 3 || log.Len() > 3000 {
			t.Fatalf("log is %s", &log)
		}
		for i, want := range []string{`reason=malformed`, `record="\"u v=\\xff\\n\""`, "repeated=999"} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d is %s, want %s", i, lines[i], want)
			}
		}
		wantMetrics(t, reg, 0, 1)
	})
}

func TestFileIsToldOfInTheLogWithoutTheRecord(t *testing.T) {
	var log bytes.Buffer
	path := inFolder(t)
	put(t, open(t, Options{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))}), record("t secret=1\n"))
	if !strings.Contains(log.String(), "file="+path) || strings.Contains(log.String(), "secret") {
		t.Errorf("log is %s", &log)
	}
}

func TestAfterClose(t *testing.T) {
	s := open(t, Options{Path: inFolder(t)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(record("t v=1\n")); err != ErrClosed {
		t.Errorf("got %v", err)
	}
	if err := s.Put(); err != nil {
		t.Errorf("nothing to put: %v", err)
	}
}

// TestTogether has two proxies, an old one that drains and its successor, with
// several lanes each, on one file.
func TestTogether(t *testing.T) {
	const sinks, lanes, batches = 2, 4, 25
	path := inFolder(t)
	var wg sync.WaitGroup
	for i := range sinks {
		s := open(t, Options{Path: path})
		for lane := range lanes {
			wg.Go(func() {
				for n := range batches {
					name := fmt.Sprintf("t%d_%d", i, lane)
					if err := s.Put(record(fmt.Sprintf("%s v=%d\n", name, 2*n)), record(fmt.Sprintf("%s v=%d\n", name, 2*n+1))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	next := map[string]int{}
	for _, r := range readFile(t, path) {
		if want := fmt.Sprintf("%s v=%d\n", r.Table, next[r.Table]); string(r.Bytes) != want {
			t.Errorf("got %q, want %q", r.Bytes, want)
		}
		next[r.Table]++
	}
	if len(next) != sinks*lanes {
		t.Errorf("got %v", next)
	}
	for table, n := range next {
		if n != 2*batches {
			t.Errorf("%s: %d records", table, n)
		}
	}
}

func wantMetrics(t *testing.T, reg *prometheus.Registry, written, writable float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
	}
	want := map[string]float64{
		"questdb_ilp_proxy_rejected_records_written_total": written,
		"questdb_ilp_proxy_rejected_file_writable":         writable,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestLost has records that the file never took in the log, shortened and not each.
func TestLost(t *testing.T) {
	var log bytes.Buffer
	s := open(t, Options{Path: inFolder(t), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	long := record("t v=" + strings.Repeat("x", 1000) + "\n")
	s.Lost(record("bad one\n"), record("bad two\n"), long)
	s.Lost(Record{Remote: "a", Reason: "undelivered", Bytes: []byte("left\n")})
	s.limit.Flush()
	got := strings.Split(strings.TrimSpace(log.String()), "\n")
	for i, words := range [][]string{
		{"level=ERROR", "is lost", "ILP_REJECTED_FILE", "malformed", "10.0.0.7:51234", "no fields", "t v=xxx"},
		{"is lost", "undelivered", `"\"left\\n\""`},
		{"is lost", "malformed", "repeated=2"},
	} {
		for _, w := range words {
			if i >= len(got) || !strings.Contains(got[i], w) {
				t.Errorf("line %d: no %q in\n%s", i, w, log.String())
			}
		}
	}
	if len(got) != 3 || log.Len() > 2000 {
		t.Errorf("%d lines, %d bytes:\n%s", len(got), log.Len(), log.String())
	}
}
