//go:build !linux || (!amd64 && !arm64)

package socket

import (
	"syscall"
	"unsafe"
)

// Recv reads into p, which is not empty, what there is. The error is a [syscall.Errno]: EAGAIN if there is nothing.
func Recv(fd uintptr, p []byte) (int, error) {
	n, err := raw(syscall.SYS_READ, fd, p)
	raceWritten(p[:n])
	return n, err
}

// Send writes of p, which is not empty, what the socket takes. The error is a [syscall.Errno]: EAGAIN if it takes nothing.
func Send(fd uintptr, p []byte) (int, error) {
	raceRead(p)
	return raw(syscall.SYS_WRITE, fd, p)
}

func raw(trap, fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
