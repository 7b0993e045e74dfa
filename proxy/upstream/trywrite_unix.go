//go:build unix

package upstream

import (
	"os"
	"syscall"
)

// tryWrite is one non-blocking write(2), through a closure that is made once.
type tryWrite struct {
	f   func(fd uintptr) bool
	p   []byte
	n   int
	err error
}

func (t *tryWrite) init() { t.f = t.attempt }

func (t *tryWrite) attempt(fd uintptr) bool {
	for {
		t.n, t.err = syscall.Write(int(fd), t.p)
		if t.err != syscall.EINTR {
			return true // whatever it was: never wait
		}
	}
}

func (t *tryWrite) write(raw syscall.RawConn, p []byte) (int, error) {
	t.p = p
	err := raw.Write(t.f)
	n, werr := t.n, t.err
	t.p, t.n, t.err = nil, 0, nil
	switch {
	case err != nil:
		return 0, err
	case werr == syscall.EAGAIN:
		return 0, nil
	case werr != nil:
		return 0, os.NewSyscallError("write", werr)
	}
	return n, nil
}
