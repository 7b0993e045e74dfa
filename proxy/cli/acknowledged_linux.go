package cli

import (
	"net"

	"golang.org/x/sys/unix"
)

// acknowledged reports whether the other side's kernel has acknowledged all that
// was sent, our end of the connection included. A process that closes a connection
// before it has read all leaves something unacknowledged, or resets it.
func acknowledged(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		failed, soErr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		ok = err == nil && n == 0 && soErr == nil && failed == 0
	})
	return ok && err == nil
}
