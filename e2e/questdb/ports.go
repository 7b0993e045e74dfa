package questdb

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// reservation keeps a port of the kernel's choice for one server, from
// before its first start until after its last, so that no start loses a race
// and a restart finds its port free. It is a socket that is bound and never
// listens: the kernel gives the port to nobody else and refuses connections to
// it, yet lets a server that sets SO_REUSEADDR (QuestDB does) listen there.
type reservation struct {
	file *os.File
	port int
	addr string
}

// ReservePorts keeps n free TCP ports on 127.0.0.1 from everyone but servers
// that set SO_REUSEADDR, as Go's do, until release is called: for a program that
// must be told its port and should find it free at each of its starts.
func ReservePorts(n int) (ports []int, release func(), err error) {
	var reserved []*reservation
	release = func() {
		for _, r := range reserved {
			r.close()
		}
	}
	for range n {
		r, err := reservePort(false)
		if err != nil {
			release()
			return nil, nil, err
		}
		reserved = append(reserved, r)
		ports = append(ports, r.port)
	}
	return ports, release, nil
}

// reservePort reserves a port on 127.0.0.1, or on all addresses of the machine: a
// port that is free on one may be somebody's on another.
func reservePort(everywhere bool) (*reservation, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserving a port: %w", os.NewSyscallError("socket", err))
	}
	file := os.NewFile(uintptr(fd), "reserved port")
	fail := func(call string, err error) (*reservation, error) {
		file.Close()
		return nil, fmt.Errorf("reserving a port: %w", os.NewSyscallError(call, err))
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fail("setsockopt", err)
	}
	var bindTo unix.SockaddrInet4
	if !everywhere {
		bindTo.Addr = [4]byte{127, 0, 0, 1}
	}
	if err := unix.Bind(fd, &bindTo); err != nil {
		return fail("bind", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fail("getsockname", err)
	}
	port := sa.(*unix.SockaddrInet4).Port
	return &reservation{file: file, port: port, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, nil
}

func (r *reservation) close() { r.file.Close() }
