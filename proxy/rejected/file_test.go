package rejected

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// files returns the file and what it was rotated to, oldest first.
func files(t *testing.T, path string) []string {
	t.Helper()
	ext := filepath.Ext(path)
	old, err := filepath.Glob(strings.TrimSuffix(path, ext) + "-*" + ext)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(old)
	return append(old, path)
}

func TestRotation(t *testing.T) {
	path := inFolder(t)
	s := open(t, Options{Path: path, MaxSize: 4000})
	var want []string
	for n := range 60 {
		var batch []Record
		for m := range 1 + n%3 {
			text := fmt.Sprintf("t v=%d,w=%d\n", n, m)
			batch, want = append(batch, record(text)), append(want, text)
		}
		put(t, s, batch...)
	}
	put(t, s, record("t large=\""+strings.Repeat("x", 10000)+"\"\n"))
	time.Sleep(3 * time.Millisecond) // two files cannot be rotated in the same millisecond
	put(t, s, record("t v=last\n"))

	var got []string
	all := files(t, path)
	for _, one := range all {
		info, err := os.Stat(one)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode is %v, %v", one, info.Mode(), err)
		}
		for _, r := range readFile(t, one) {
			if !strings.HasPrefix(string(r.Bytes), "t large") && string(r.Bytes) != "t v=last\n" {
				got = append(got, string(r.Bytes))
			}
		}
	}
	if len(all) < 3 || !slices.Equal(got, want) {
		t.Errorf("%d files have %q, want %q", len(all), got, want)
	}
	wantTexts(t, path, "t v=last\n")
}

// unrotatable is a roller that cannot rename its file, as one that is mounted by
// itself.
type unrotatable struct{ roller }

func (unrotatable) Rotate() error { return syscall.EBUSY }

func TestFileThatCannotBeRotatedGoesOn(t *testing.T) {
	path := inFolder(t)
	var log bytes.Buffer
	s := open(t, Options{Path: path, MaxSize: 10, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.file.roller = unrotatable{s.file.roller}
	put(t, s, record("t v=1\n"))
	put(t, s, record("t v=2\n"))
	put(t, s, record("t v=3\n"))
	wantTexts(t, path, "t v=1\n", "t v=2\n", "t v=3\n")
	if n := strings.Count(log.String(), "cannot rotate"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
}

// filling is a roller on a disk that is full after room bytes.
type filling struct {
	roller
	room int
}

func (f *filling) Write(p []byte) (int, error) {
	n, err := f.roller.Write(p[:min(len(p), f.room)])
	if f.room -= n; err == nil && n < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}

func TestHalfWrittenIsUndone(t *testing.T) {
	path := inFolder(t)
	reg := prometheus.NewRegistry()
	var log bytes.Buffer
	s := open(t, Options{Path: path, Metrics: NewMetrics(reg), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	put(t, s, record("t v=1\n"))
	for room := range 400 { // 0 bytes to more than two lines
		full := &filling{s.file.roller, room}
		s.file.roller = full
		err := s.Put(record("t v=2\n"), record("t v=3\n"))
		s.file.roller = full.roller
		if err == nil {
			wantTexts(t, path, "t v=1\n", "t v=2\n", "t v=3\n")
			if room < 200 {
				t.Errorf("it was written into %d bytes", room)
			}
			break
		}
		if !errors.Is(err, syscall.ENOSPC) || !errors.Is(s.Err(), syscall.ENOSPC) {
			t.Fatalf("got %v and %v", err, s.Err())
		}
		wantTexts(t, path, "t v=1\n")
		wantMetrics(t, reg, 1, 0)
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
	wantMetrics(t, reg, 3, 1)
	for _, text := range []string{"cannot write", "can be written again"} {
		if n := strings.Count(log.String(), text); n != 1 {
			t.Errorf("%q said %d times", text, n)
		}
	}
}

// TestDiskFull has a real file system that is too small.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("cannot mount a small file system here:", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(dir, "rejected.jsonl")
	s, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, record("t v=1\n"))
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 48<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	large := record("t v=\"" + strings.Repeat("x", 20000) + "\"\n")
	for range 3 {
		if err := s.Put(record("t v=2\n"), large); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
		wantTexts(t, path, "t v=1\n")
	}
	put(t, s, record("t v=3\n"))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("t v=2\n"), large)
	wantTexts(t, path, "t v=1\n", "t v=3\n", "t v=2\n", string(large.Bytes))
}

// TestDisturbed has what somebody may do to the file while the proxy runs.
func TestDisturbed(t *testing.T) {
	path := inFolder(t)
	s := open(t, Options{Path: path})
	put(t, s, record("t v=1\n"))

	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("t v=2\n"))
	wantTexts(t, path+".moved", "t v=1\n")
	wantTexts(t, path, "t v=2\n")

	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("t v=3\n"))
	wantTexts(t, path, "t v=3\n")

	dir := filepath.Dir(path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Put(record("t v=4\n")); err == nil || s.Err() == nil {
			t.Errorf("got %v and %v", err, s.Err())
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder was made")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("t v=4\n"))
	wantTexts(t, path, "t v=4\n")
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

// TestBehindAHalfLine has a file whose writer was killed.
func TestBehindAHalfLine(t *testing.T) {
	path := inFolder(t)
	if err := os.WriteFile(path, []byte(`{"reason":"refused","record":"t v=0\n"}`+"\n"+`{"reason":"ref`), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, Options{Path: path}), record("t v=1\n"))
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := NewReader(file)
	var line *LineError
	if rec, err := r.Next(); err != nil || string(rec.Bytes) != "t v=0\n" {
		t.Errorf("got %+v, %v", rec, err)
	}
	if _, err := r.Next(); !errors.As(err, &line) || line.Line != 2 {
		t.Errorf("got %v", err)
	}
	if rec, err := r.Next(); err != nil || string(rec.Bytes) != "t v=1\n" {
		t.Errorf("got %+v, %v", rec, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestLockedByAnother(t *testing.T) {
	path := inFolder(t)
	s := open(t, Options{Path: path})
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(record("t v=1\n")); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("t v=1\n"))
	wantTexts(t, path, "t v=1\n")
}
