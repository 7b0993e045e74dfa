//go:build !linux || (!amd64 && !arm64)

package socket

import (
	"syscall"
	"unsafe"
)

func recv(fd uintptr, p []byte) (int, error) { return raw(syscall.SYS_READ, fd, p) }

func send(fd uintptr, p []byte) (int, error) { return raw(syscall.SYS_WRITE, fd, p) }

func raw(trap, fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
