//go:build !linux

package cli

import "net"

// acknowledged would report whether the other side's kernel has acknowledged all
// that was sent; not known here.
func acknowledged(*net.TCPConn) bool { return true }
