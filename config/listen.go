package config

import (
	"errors"
	"net"
	"slices"
	"syscall"
)

// Listen is one address to listen on.
type Listen struct {
	Network string // "tcp"
	Addr    string // host:port; port 0 lets the kernel choose
	// Optional is true for the ::1 that localhost stands for: see [Listen.MayBeAbsent].
	Optional bool
}

// MayBeAbsent reports whether err, from listening on l, only says that this
// machine has no such address, where that is no fault: ::1 of localhost.
func (l Listen) MayBeAbsent(err error) bool {
	return l.Optional && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT))
}

// Loopback reports whether only this machine can reach the address.
func (l Listen) Loopback() bool {
	host, _, err := net.SplitHostPort(l.Addr)
	return err == nil && isLoopback(host)
}

// takes reports whether a connection to addr, made on this machine, would end
// up here.
func (l Listen) takes(addr string) bool {
	host, port, err := net.SplitHostPort(l.Addr)
	otherHost, otherPort, otherErr := net.SplitHostPort(addr)
	if err != nil || otherErr != nil || port != otherPort || port == "0" {
		return false
	}
	everywhere := host == "" || host == "0.0.0.0" || host == "::"
	return host == otherHost ||
		everywhere && (isLoopback(otherHost) || otherHost == "") ||
		otherHost == "localhost" && (host == "127.0.0.1" || host == "::1")
}

// anyPort reports whether the kernel chooses the port.
func (l Listen) anyPort() bool {
	_, port, err := net.SplitHostPort(l.Addr)
	return err == nil && port == "0"
}

// Listens is a list of addresses to listen on.
type Listens []Listen

// UnmarshalText reads a comma-separated list.
func (l *Listens) UnmarshalText(text []byte) error {
	items, err := splitList(string(text))
	if err != nil {
		return err
	}
	var listens Listens
	for _, item := range items {
		if item, err = cutScheme(item); err != nil {
			return err
		}
		if err := listens.add(item); err != nil {
			return err
		}
	}
	*l = listens
	return nil
}

// add appends one host:port, or the two that localhost is.
func (l *Listens) add(item string) error {
	host, port, err := splitHostPort(item, "", 0)
	if err != nil {
		return err
	}
	if host == "localhost" {
		if err := l.addOne(Listen{"tcp", net.JoinHostPort("127.0.0.1", port), false}); err != nil {
			return err
		}
		return l.addOne(Listen{"tcp", net.JoinHostPort("::1", port), true})
	}
	return l.addOne(Listen{"tcp", net.JoinHostPort(host, port), false})
}

func (l *Listens) addOne(listen Listen) error {
	same := func(other Listen) bool { return other.Network == listen.Network && other.Addr == listen.Addr }
	if !listen.anyPort() && slices.ContainsFunc(*l, same) {
		return invalid("%s is there twice", listen.Addr).should("each address once (localhost is 127.0.0.1 and ::1)")
	}
	*l = append(*l, listen)
	return nil
}

// AdminAddr is the host:port of the admin server, empty for none.
type AdminAddr string

// UnmarshalText reads host:port, or off.
func (a *AdminAddr) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*a = ""
		return nil
	}
	host, port, err := splitHostPort(string(text), "", 0)
	if err != nil {
		return err
	}
	*a = AdminAddr(net.JoinHostPort(host, port))
	return nil
}
