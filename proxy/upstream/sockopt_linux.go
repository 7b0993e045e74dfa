package upstream

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is how long what we sent may stay unacknowledged before the kernel
// gives the connection up (TCP_USER_TIMEOUT). Without it a dead network is
// noticed after a quarter of an hour.
//
// A server that stops reading is backpressure and no failure, however long it
// takes; its kernel goes on acknowledging. But since Linux 5.11 this timeout ends
// those connections as well, so [sockState.tune] suspends it while the server's
// window is closed and its kernel answers our probes.
const userTimeout = 60 * time.Second

// keepAlive notices a dead peer on a connection on which nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4}

// setSocketOptions prepares a connection that was just made. Options that the
// system refuses are no reason to do without the connection.
func setSocketOptions(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetNoDelay(true) // blocks are gathered before they are written
	_ = tcp.SetKeepAliveConfig(keepAlive)
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = setUserTimeout(raw, userTimeout)
	}
}

func setUserTimeout(raw syscall.RawConn, d time.Duration) error {
	return control(raw, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// sockState is what the pool's upkeep knows about a socket.
type sockState struct{ suspended bool }

// tune suspends the user timeout while the server's kernel answers but takes
// nothing, and sets it again afterwards. Called more often than userTimeout.
func (s *sockState) tune(raw syscall.RawConn) {
	if raw == nil {
		return
	}
	info, err := tcpInfo(raw)
	if err != nil {
		return // ended, or will be seen to
	}
	closedWindow := info.Snd_wnd == 0 || (info.Unacked == 0 && info.Notsent_bytes > 0)
	answered := info.Probes < 2 // one may just be under way
	suspend := closedWindow && answered
	if suspend == s.suspended {
		return
	}
	d := userTimeout
	if suspend {
		d = 0
	}
	if setUserTimeout(raw, d) == nil {
		s.suspended = suspend
	}
}

// halfClose sends our FIN, and reports whether the server's had not come before: an
// answer can only come afterwards.
//
// Noting the order of events in our own goroutines would not do: the one that reads
// may learn of a FIN long after it came. So the kernel is asked just before, where
// the connection must be established, and just after. By then the server may have
// answered already; but LAST_ACK and CLOSING say that its FIN was none.
func (c *Conn) halfClose() (first bool, err error) {
	if c.raw == nil {
		return halfCloseAny(c)
	}
	err = control(c.raw, func(fd int) error {
		before, berr := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
			return os.NewSyscallError("shutdown", err)
		}
		after, aerr := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		first = berr == nil && aerr == nil && before.State == unix.BPF_TCP_ESTABLISHED &&
			after.State != unix.BPF_TCP_LAST_ACK && after.State != unix.BPF_TCP_CLOSING
		return nil
	})
	return first, err
}

// heardOut reports whether everything that the server has sent was handled by TLS.
func heardOut(raw syscall.RawConn, handled *atomic.Int64) bool {
	info, err := tcpInfo(raw)
	return err == nil && info.State == unix.BPF_TCP_ESTABLISHED && int64(info.Bytes_received) == handled.Load()
}

// openInKernel reports whether no FIN and no reset has come from the server, even
// if our reader has not noticed yet.
func openInKernel(raw syscall.RawConn) bool {
	info, err := tcpInfo(raw)
	return err == nil && openState(info.State)
}

func openState(state uint8) bool {
	switch state {
	case unix.BPF_TCP_ESTABLISHED, unix.BPF_TCP_FIN_WAIT1, unix.BPF_TCP_FIN_WAIT2:
		return true
	}
	return false
}

// nudge has the kernel ask the server's for a sign of life without a byte sent, by
// a keep-alive probe as soon as nothing was acknowledged for a second; on false,
// as usual again. (Setting the option starts its timer with what is left.)
func nudge(raw syscall.RawConn, on bool) {
	idle := keepAlive.Idle
	if on {
		idle = time.Second
	}
	_ = control(raw, func(fd int) error { // a connection that refuses just shows no sign of life
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(idle/time.Second))
	})
}

// answer tells whether the connection is open as far as the kernel knows, whether
// the server's kernel has acknowledged everything, and whether it acknowledged
// anything later than since.
func answer(raw syscall.RawConn, since time.Time) (open, everything, later bool) {
	n, err := unacked(raw)
	if err != nil {
		return false, false, false
	}
	// In this order: a reset may have emptied the queue.
	info, err := tcpInfo(raw)
	if err != nil || !openState(info.State) {
		return false, false, false
	}
	last := time.Now().Add(-time.Duration(info.Last_ack_recv) * time.Millisecond)
	return true, n == 0, last.After(since.Add(clockTick))
}

func tcpInfo(raw syscall.RawConn) (info *unix.TCPInfo, err error) {
	err = control(raw, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info, err
}

func unacked(raw syscall.RawConn) (n int, err error) {
	err = control(raw, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n, err
}

// socketError takes the socket's pending error.
func socketError(raw syscall.RawConn) error {
	return control(raw, func(fd int) error {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && n != 0 {
			err = os.NewSyscallError("read", syscall.Errno(n))
		}
		return err
	})
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
