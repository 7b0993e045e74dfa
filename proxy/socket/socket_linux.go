//go:build linux && (amd64 || arm64)

package socket

import (
	"syscall"
	"unsafe"
)

// Recv reads into p, which is not empty, what there is, as recv(2) does. Unlike read(2) it does not go through the file system's
// part of the kernel, which a row that comes alone finds in no cache. The error is a [syscall.Errno]: EAGAIN if there is nothing.
func Recv(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	raceWritten(p[:n])
	return int(n), nil
}

// Send writes of p, which is not empty, what the socket takes, as send(2) does. The error is a [syscall.Errno]: EAGAIN if it
// takes nothing.
func Send(fd uintptr, p []byte) (int, error) {
	raceRead(p)
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
