// Package rotation has credentials read again when their files change, or when the
// process is told to.
//
// It watches folders, not files: an editor, a deployment, and Kubernetes, which
// swaps the symbolic link ..data beside them, put new files in the place of the old.
// And every few seconds it looks at the files: what happens to a folder above them, or on
// a file system of another machine, nobody tells.
package rotation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must have happened in the folders before files are read:
	// a certificate and its key come one after the other.
	quiet = 200 * time.Millisecond
	// atMost is for how long that is waited for.
	atMost = 2 * time.Second
	// lookEvery is how often the files are looked at though nothing was told of them.
	lookEvery = 5 * time.Second
)

// Options say what to watch and what to do. Files and Reload are required.
type Options struct {
	// Files are the paths to watch; they need not be there.
	Files []string
	// Reload reads them and uses what is in them, or nothing of it if anything is wrong,
	// and returns what to tell about it.
	Reload func() (attrs []any, err error)
	// LookEvery is how often the files are looked at where the system tells of no change;
	// 0: 5 s.
	LookEvery time.Duration

	Logger  *slog.Logger // nil: no log
	Metrics *Metrics     // nil: none
}

// Watcher watches files.
type Watcher struct {
	opts  Options
	log   *slog.Logger
	files []string
	fs    *fsnotify.Watcher // nil: there is none
	dirs  map[string]bool   // watched
	seen  string            // what the files were when they were read last
}

// New makes a Watcher. It opens nothing, but Run sees what changed from here on.
func New(o Options) *Watcher {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	o.LookEvery = cmp.Or(o.LookEvery, lookEvery)
	w := &Watcher{opts: o, log: o.Logger, dirs: map[string]bool{}}
	for _, file := range o.Files {
		if abs, err := filepath.Abs(file); err == nil {
			file = abs
		}
		w.files = append(w.files, file)
	}
	w.seen = w.look()
	return w
}

// Run has the files read again when they change and when a signal comes, until ctx
// ends.
func (w *Watcher) Run(ctx context.Context, signals <-chan os.Signal) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.open() {
		defer w.fs.Close()
		events, errs = w.fs.Events, w.fs.Errors
	}
	settled := time.NewTimer(0)
	<-settled.C
	defer settled.Stop()
	var latest time.Time // when the files are read, whatever still happens
	wait := func() {
		if latest.IsZero() {
			latest = time.Now().Add(atMost)
		}
		settled.Reset(min(quiet, time.Until(latest)))
	}
	wait() // for what changed before Run
	look := time.NewTicker(w.opts.LookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			w.reload("SIGHUP")
		case <-events:
			wait()
		case err := <-errs:
			// Events may be missing.
			w.log.Debug("watching the files of key and certificates", "error", err)
			wait()
		case <-look.C:
			if latest.IsZero() && w.look() != w.seen {
				wait()
			}
		case <-settled.C:
			latest = time.Time{}
			w.follow()
			if w.look() != w.seen {
				w.reload("a file changed")
			}
		}
	}
}

// open begins to watch, if there is anything and the system can.
func (w *Watcher) open() bool {
	if len(w.files) == 0 {
		return false
	}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("cannot watch the files of key and certificates; they are looked at now and then instead", "every", w.opts.LookEvery, "error", err)
		return false
	}
	w.fs = fs
	w.follow()
	return true
}

// reload reads the files and says what came of it.
func (w *Watcher) reload(why string) {
	if len(w.files) == 0 {
		w.log.Info("nothing to read again: key and certificates are not in files", "why", why)
		return
	}
	w.seen = w.look()
	attrs, err := w.opts.Reload()
	attrs = append([]any{"why", why}, attrs...)
	if err != nil {
		w.opts.Metrics.failed()
		w.log.Error("the files of key and certificates are no good; going on with what they were before", append(attrs, "error", oneLine(err))...)
		return
	}
	w.opts.Metrics.succeeded()
	w.log.Info("key and certificates read again; new connections to QuestDB use them", attrs...)
}

// oneLine is the error without line ends.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// look describes what the files are: another one, another content, other rights.
func (w *Watcher) look() string {
	var b strings.Builder
	for _, file := range w.files {
		info, err := os.Stat(file)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			continue
		}
		// Who may read it counts as well: what could not be read may be mended by that alone.
		fmt.Fprintf(&b, "%d %d %v", info.Size(), info.ModTime().UnixNano(), info.Mode())
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, " %d %d %d:%d", sys.Dev, sys.Ino, sys.Uid, sys.Gid)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// follow watches the folders in which the files are now, by name and, where a name
// is a symbolic link, in truth.
func (w *Watcher) follow() {
	if w.fs == nil {
		return
	}
	want := map[string]bool{}
	for _, file := range w.files {
		want[filepath.Dir(file)] = true
		if real, err := filepath.EvalSymlinks(file); err == nil {
			want[filepath.Dir(real)] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(w.dirs)) {
		if !want[dir] {
			_ = w.fs.Remove(dir) // gone by itself, mostly
			delete(w.dirs, dir)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(want)) {
		// Again, if it was watched: another folder may have that name now.
		err := w.fs.Add(dir)
		if err != nil && !w.dirs[dir] {
			level := slog.LevelWarn
			if errors.Is(err, os.ErrNotExist) {
				level = slog.LevelDebug // said by whoever reads the file
			}
			w.log.Log(context.Background(), level, "cannot watch a folder of key or certificates; its files are looked at now and then instead", "folder", dir, "every", w.opts.LookEvery, "error", err)
		}
		w.dirs[dir] = err == nil
	}
}
