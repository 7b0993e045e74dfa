//go:build unix

package upstream

import (
	"os"
	"syscall"

	"questdb-ilp-proxy/proxy/socket"
)

// tryWrite is one non-blocking send(2) or write(2), through a closure that is made once.
type tryWrite struct {
	f   func(fd uintptr) bool
	p   []byte
	n   int
	err error
}

func (t *tryWrite) init() { t.f = t.attempt }

func (t *tryWrite) attempt(fd uintptr) bool {
	t.n, t.err = socket.Send(fd, t.p)
	return true // whatever it was: never wait
}

func (t *tryWrite) write(raw syscall.RawConn, p []byte) (int, error) {
	t.p = p
	err := raw.Write(t.f)
	n := t.n
	if err != nil || t.err != nil {
		n, err = t.failed(err)
	}
	t.p, t.n, t.err = nil, 0, nil
	return n, err
}

// failed is apart, so that the stack of every session that writes stays small.
//
//go:noinline
func (t *tryWrite) failed(err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case t.err == syscall.EAGAIN:
		return 0, nil
	}
	return 0, os.NewSyscallError("write", t.err)
}
