//go:build !linux

package upstream

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// The proxy runs on Linux; elsewhere it works with less evidence, for development.

func setSocketOptions(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4})
	}
}

type sockState struct{}

func (*sockState) tune(syscall.RawConn) {}

func (c *Conn) halfClose() (first bool, err error) { return halfCloseAny(c) }

func heardOut(syscall.RawConn, *atomic.Int64) bool { return true }

func unacked(syscall.RawConn) (int, error) { return 0, errors.ErrUnsupported }

func socketError(syscall.RawConn) error { return nil }

// openInKernel: nothing to ask.
func openInKernel(syscall.RawConn) bool { return true }

func nudge(syscall.RawConn, bool) {}

// answer is whether the peer's kernel has acknowledged everything, or anything
// since then; not known here.
func answer(syscall.RawConn, time.Time) (open, everything, since bool) { return true, true, true }
