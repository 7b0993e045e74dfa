package proxy

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelDrops returns how many datagrams the kernel dropped for want of room in
// the socket's queue. Unlike SO_RXQ_OVFL, which says so with the next datagram,
// SO_MEMINFO answers at any time, and for this socket alone, unlike /proc.
func kernelDrops(fd uintptr) (drops uint32, ok bool) {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	return info[unix.SK_MEMINFO_DROPS], errno == 0 && size == uint32(unsafe.Sizeof(info))
}
