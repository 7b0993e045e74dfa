package rejected

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// roller is what file needs of [lumberjack.Logger].
type roller interface {
	io.WriteCloser
	Rotate() error
}

// file appends to a file, all or nothing, and rotates it by size.
//
// The library opens, writes and rotates, but it hides its file, and can neither
// sync it nor undo a write. A second handle on the same file does that. When to
// rotate is decided here, only between two appends, so that one is in one file.
//
// Whoever moves or removes the file, to repair records and send them again, need
// not tell the proxy.
type file struct {
	path   string
	max    int64 // bytes; more only if one append alone is more
	roller roller
	handle *os.File // nil: not open

	rotated     time.Time // when that was tried last
	rotateError error     // why it could not be; it goes on growing then
}

func newFile(path string, max int64) *file {
	return &file{path: path, max: max, roller: &lumberjack.Logger{Filename: path, MaxSize: math.MaxInt32}} // megabytes: never by itself
}

// append has write write about size bytes, whole lines, to the end of the file.
// They are on the disk when it returns nil. If it returns an error nothing of
// them is in the file, unless not even that could be undone.
func (f *file) append(size int64, write func(io.Writer) error) (err error) {
	end, err := f.ready(size)
	if err != nil {
		return err
	}
	defer f.unlock()
	if err = f.write(end, write); err == nil {
		return nil
	}
	// Behind a line that stays half-written the next append begins with a new one.
	if undo := f.handle.Truncate(end); undo != nil {
		err = errors.Join(err, undo)
	}
	return err
}

func (f *file) write(end int64, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(f.roller, 256<<10)
	if end > 0 {
		last := make([]byte, 1)
		if _, err := f.handle.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			_ = w.WriteByte('\n') // Flush returns the error
		}
	}
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.handle.Sync()
}

// ready returns the file's size after having opened, locked and, if another size
// bytes would be too many, rotated it.
func (f *file) ready(size int64) (end int64, err error) {
	// Somebody may move the file away between any two of these steps, but nobody
	// does so again and again.
	for range 10 {
		if err := f.open(); err != nil {
			return 0, err
		}
		if err := f.lock(); err != nil {
			return 0, err
		}
		if !f.current() {
			f.close()
			continue
		}
		info, err := f.handle.Stat()
		if err != nil {
			f.unlock()
			return 0, err
		}
		if info.Size() == 0 || info.Size()+size <= f.max || !f.rotate() {
			return info.Size(), nil
		}
	}
	return 0, fmt.Errorf("%s is moved away all the time", f.path)
}

// rotate gives the file another name, with the time in it, and reports whether
// that was done. If not, the file just goes on growing: it may be mounted by
// itself, so that it cannot get another name.
func (f *file) rotate() bool {
	// The library names files by the millisecond, and would replace one of the
	// same name.
	if time.Since(f.rotated) < 2*time.Millisecond {
		return false
	}
	f.rotated = time.Now()
	if f.rotateError = f.roller.Rotate(); f.rotateError != nil && f.current() {
		return false
	}
	f.close()
	syncDir(filepath.Dir(f.path))
	return true
}

// open opens or creates the file, unless it is open.
func (f *file) open() error {
	if f.handle != nil && f.current() {
		return nil
	}
	f.close()
	handle, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if handle, err = os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600); err == nil {
			syncDir(filepath.Dir(f.path))
		}
	}
	if err != nil {
		return err
	}
	f.handle = handle
	info, err := handle.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.path)
	}
	if err == nil {
		// The library opens it now, which exists, to append. (One that it creates
		// itself it opens otherwise, and then undoing a write would leave a hole.)
		_, err = f.roller.Write(nil)
	}
	if err != nil {
		f.close()
	}
	return err
}

// current reports whether the path still names the file that is open.
func (f *file) current() bool {
	info, err := os.Stat(f.path)
	if err != nil {
		return false
	}
	mine, err := f.handle.Stat()
	return err == nil && os.SameFile(info, mine)
}

// close closes the file; open opens it again. That nothing is left to write was
// seen to before.
func (f *file) close() {
	_ = f.roller.Close()
	if f.handle != nil {
		_ = f.handle.Close()
		f.handle = nil
	}
}

// lockWait is how long another process may have the file locked: as long as it
// takes to write what it has to.
const lockWait = time.Second

// lock keeps other processes, the proxy's predecessor that still drains, from
// writing meanwhile. Where a file system has no locks it does nothing.
func (f *file) lock() error {
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(f.handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil
		case time.Since(begin) > lockWait:
			return fmt.Errorf("another process has %s locked", f.path)
		}
	}
}

func (f *file) unlock() {
	if f.handle != nil {
		_ = syscall.Flock(int(f.handle.Fd()), syscall.LOCK_UN)
	}
}

// syncDir makes the name of a new file last, where the file system can.
func syncDir(path string) {
	if dir, err := os.Open(path); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
}
