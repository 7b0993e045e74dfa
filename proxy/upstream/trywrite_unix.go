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

// mostUntold is the size in bytes up to which a write is made without telling Go's
// scheduler: a block's, and more. A record may be many MiB long; while that is copied,
// other goroutines must get the processor.
const mostUntold = 256 << 10

func (t *tryWrite) init() { t.f = t.attempt }

func (t *tryWrite) attempt(fd uintptr) bool {
	for {
		if len(t.p) <= mostUntold {
			t.n, t.err = socket.Send(fd, t.p)
		} else {
			t.n, t.err = syscall.Write(int(fd), t.p)
		}
		if t.err != syscall.EINTR {
			return true // whatever it was: never wait
		}
	}
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
