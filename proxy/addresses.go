package proxy

import (
	"net/netip"
	"sync"
)

// addresses counts the connections of each address, where there is a limit to them.
type addresses struct {
	limit int // 0: none

	mu    sync.Mutex
	conns map[netip.Addr]int // none is 0
}

// take counts one more connection of addr, and reports whether it may have it. The
// zero Addr, of a Unix socket, may have any number.
func (a *addresses) take(addr netip.Addr) bool {
	if a.limit == 0 || !addr.IsValid() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns[addr] >= a.limit {
		return false
	}
	if a.conns == nil {
		a.conns = make(map[netip.Addr]int)
	}
	a.conns[addr]++
	return true
}

// leave takes back what take counted.
func (a *addresses) leave(addr netip.Addr) {
	if a.limit == 0 || !addr.IsValid() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns[addr]--; a.conns[addr] == 0 {
		delete(a.conns, addr)
	}
}
