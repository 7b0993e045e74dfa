package rotation

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a running Watcher of one file.
type fixture struct {
	t       *testing.T
	file    string
	reads   chan string // what was read each time
	signals chan os.Signal
	metrics *Metrics
	mu      sync.Mutex
	log     bytes.Buffer
}

// Write takes the log.
func (f *fixture) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(p)
}

// watch watches by what the system tells alone.
func watch(t *testing.T, file string) *fixture {
	t.Helper()
	return watchEvery(t, file, time.Hour)
}

func watchEvery(t *testing.T, file string, every time.Duration) *fixture {
	t.Helper()
	f := &fixture{t: t, file: file, reads: make(chan string, 10), signals: make(chan os.Signal), metrics: NewMetrics(nil)}
	w := New(Options{Files: []string{file}, Reload: f.reload, LookEvery: every, Metrics: f.metrics, Logger: slog.New(slog.NewTextHandler(f, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx, f.signals)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return f
}

func (f *fixture) reload() ([]any, error) {
	data, err := os.ReadFile(f.file)
	if err == nil && strings.HasPrefix(string(data), "bad") {
		err = errors.New("no good")
	}
	f.reads <- string(data)
	return nil, err
}

// want waits until this was read.
func (f *fixture) want(text string) {
	f.t.Helper()
	for timeout := time.After(10 * time.Second); ; {
		select {
		case got := <-f.reads:
			if got == text {
				return
			}
		case <-timeout:
			f.t.Fatalf("%q was not read", text)
		}
	}
}

// read waits until something was read, whatever it was.
func (f *fixture) read() {
	f.t.Helper()
	select {
	case <-f.reads:
	case <-time.After(10 * time.Second):
		f.t.Fatal("nothing was read")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	write(t, file, "one")
	f := watch(t, file)
	write(t, file, "two!") // in place
	f.want("two!")
	for _, text := range []string{"three", "four"} { // as editors do
		write(t, file+".new", text)
		must(t, os.Rename(file+".new", file))
		f.want(text)
	}
	must(t, os.Remove(file))
	f.want("")
	write(t, file, "five")
	f.want("five")
}

// swap makes the folder version in dir, with a key in it, and has the link lead there
// from one moment to the next.
func swap(t *testing.T, dir, link, version, text string) {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
	write(t, filepath.Join(dir, version, "key"), text)
	must(t, os.Symlink(version, filepath.Join(dir, link+"_tmp")))
	must(t, os.Rename(filepath.Join(dir, link+"_tmp"), filepath.Join(dir, link)))
}

// TestKubernetes swaps the link ..data and removes the old folder, twice.
func TestKubernetes(t *testing.T) {
	dir := t.TempDir()
	publish := func(version, text string) {
		t.Helper()
		swap(t, dir, "..data", version, text)
	}
	publish("..1", "one")
	file := filepath.Join(dir, "key")
	must(t, os.Symlink("..data/key", file))
	f := watch(t, file)
	publish("..2", "two")
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	f.want("two")
	publish("..3", "six")
	must(t, os.RemoveAll(filepath.Join(dir, "..2")))
	f.want("six")
}

// TestLinked has a link to a file in another folder, which changes there.
func TestLinked(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write(t, filepath.Join(other, "secret"), "one")
	file := filepath.Join(dir, "key")
	must(t, os.Symlink(filepath.Join(other, "secret"), file))
	f := watch(t, file)
	write(t, filepath.Join(other, "secret"), "three")
	f.want("three")
}

func TestBroken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, "one")
	f := watch(t, file)
	write(t, file, "bad one")
	f.want("bad one")
	f.signals <- syscall.SIGHUP // though nothing has changed since
	f.want("bad one")
	f.signals <- syscall.SIGHUP
	f.want("bad one") // the one before is dealt with
	if failed := testutil.ToFloat64(f.metrics.Reloads.WithLabelValues("failed")); failed < 2 || testutil.ToFloat64(f.metrics.Stale) != 1 {
		t.Errorf("%v failures, stale %v", failed, testutil.ToFloat64(f.metrics.Stale))
	}
	f.mu.Lock()
	text := f.log.String()
	f.mu.Unlock()
	if !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "no good") {
		t.Errorf("not said loudly: %s", text)
	}
	write(t, file, "good again")
	f.want("good again")
	f.signals <- syscall.SIGHUP
	f.want("good again")
	if ok := testutil.ToFloat64(f.metrics.Reloads.WithLabelValues("ok")); ok < 1 || testutil.ToFloat64(f.metrics.Stale) != 0 {
		t.Errorf("%v good, stale %v", ok, testutil.ToFloat64(f.metrics.Stale))
	}
}

// TestModeMended has a file that could not be read, and whose mode alone is mended: what
// is in it, and when it was written, stays what it was.
func TestModeMended(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, "one")
	f := watch(t, file)
	write(t, file+".new", "bad while nobody may read it")
	must(t, os.Chmod(file+".new", 0))
	must(t, os.Rename(file+".new", file))
	f.read()
	must(t, os.Chmod(file, 0o400))
	f.read()
}

// TestFolderSwapped has the folder itself be a link that is swapped, and then a folder
// that is removed and made again: nothing that happens there shows in what is watched.
func TestFolderSwapped(t *testing.T) {
	dir := t.TempDir()
	release := func(version, text string) {
		t.Helper()
		swap(t, dir, "current", version, text)
	}
	release("1", "one")
	f := watchEvery(t, filepath.Join(dir, "current", "key"), quiet)
	release("2", "two")
	f.want("two")
	must(t, os.RemoveAll(filepath.Join(dir, "2")))
	f.want("")
	must(t, os.Remove(filepath.Join(dir, "current")))
	release("3", "three")
	f.want("three")
}

// TestNoise has another file in the folder change: nothing is read.
func TestNoise(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	write(t, file, "one")
	f := watch(t, file)
	tick := time.NewTicker(quiet / 10) // for as long as a change would take to be seen
	defer tick.Stop()
	for range 20 {
		write(t, filepath.Join(dir, "other"), "x")
		<-tick.C
	}
	write(t, file, "last")
	if got := <-f.reads; got != "last" {
		t.Errorf("read %q though nothing had changed", got)
	}
}

// TestNoFiles is a configuration that has no files: a signal is answered.
func TestNoFiles(t *testing.T) {
	var log bytes.Buffer
	w := New(Options{Reload: func() ([]any, error) { t.Error("read"); return nil, nil }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	signals := make(chan os.Signal)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx, signals) }()
	signals <- syscall.SIGHUP
	cancel()
	<-ended
	if !strings.Contains(log.String(), "nothing to read again") {
		t.Errorf("said %q", log.String())
	}
}
