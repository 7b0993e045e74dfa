package socket

import "syscall"

// mostUntold is the size in bytes up to which a write is made without telling the
// scheduler: the largest block's. A record may be many MiB long; while that is copied,
// other goroutines must get the processor.
const mostUntold = 512 << 10

// Recv reads into p, which is not empty, what there is; 0 and no error is the end. The error is a [syscall.Errno]: EAGAIN if there is
// nothing, never EINTR.
func Recv(fd uintptr, p []byte) (int, error) {
	for {
		n, err := recv(fd, p)
		if err != syscall.EINTR {
			raceWritten(p[:n])
			return n, err
		}
	}
}

// Send writes of p, which is not empty, what the socket takes. The error is a [syscall.Errno]: EAGAIN if it takes nothing, never
// EINTR.
func Send(fd uintptr, p []byte) (n int, err error) {
	raceRead(p)
	for {
		if len(p) <= mostUntold {
			n, err = send(fd, p)
		} else if n, err = syscall.Write(int(fd), p); err != nil {
			n = 0 // not -1
		}
		if err != syscall.EINTR {
			return n, err
		}
	}
}
