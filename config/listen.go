package config

import (
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
)

// Listen is one address to listen on.
type Listen struct {
	Network string // NetTCP, NetUDP, NetUnix or NetSystemd
	// Addr is host:port, where port 0 lets the kernel choose; or the path of a
	// Unix socket; or the name of the sockets that systemd passes, empty for all.
	Addr string
	// Optional is true for the ::1 that localhost stands for: see [Listen.MayBeAbsent].
	Optional bool
}

// The networks of a Listen.
const (
	NetTCP     = "tcp"
	NetUDP     = "udp"
	NetUnix    = "unix"
	NetSystemd = "systemd" // sockets that systemd opened: the address is theirs
)

// String returns it in the form in which it is configured.
func (l Listen) String() string { return l.Network + "://" + l.Addr }

// MayBeAbsent reports whether err, from listening on l, only says that this
// machine has no such address, where that is no fault: ::1 of localhost.
func (l Listen) MayBeAbsent(err error) bool {
	return l.Optional && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT))
}

// Loopback reports whether only this machine can reach the address. What systemd
// passes is not known here: who may connect is looked at when someone does.
func (l Listen) Loopback() bool {
	if l.Network != NetTCP && l.Network != NetUDP {
		return true
	}
	host, _, err := net.SplitHostPort(l.Addr)
	return err == nil && isLoopback(host)
}

// takes reports whether a connection to addr, made on this machine, would end
// up here.
func (l Listen) takes(addr string) bool {
	if l.Network != NetTCP {
		return false
	}
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
	return (l.Network == NetTCP || l.Network == NetUDP) && err == nil && port == "0"
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
		if err := listens.addItem(item); err != nil {
			return err
		}
	}
	if len(listens.systemd()) > 1 && slices.Contains(listens, Listen{Network: NetSystemd}) {
		return invalid("systemd:// is all sockets that systemd passes, and another systemd:// stands beside it").should("one of them")
	}
	*l = listens
	return nil
}

// systemd returns those that systemd opens.
func (l Listens) systemd() []Listen {
	var some []Listen
	for _, listen := range l {
		if listen.Network == NetSystemd {
			some = append(some, listen)
		}
	}
	return some
}

// addItem appends what one element of the list is.
func (l *Listens) addItem(item string) error {
	if path, ok := strings.CutPrefix(item, "unix://"); ok {
		switch {
		case !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/"):
			return invalid("%s: not the absolute path of a socket", shorten(item)).should("like unix:///run/questdb-ilp-proxy/ilp.sock")
		case len(path) > maxUnixPath:
			return invalid("%s: its path has %d bytes, and the kernel takes %d", shorten(item), len(path), maxUnixPath)
		}
		return l.addOne(Listen{Network: NetUnix, Addr: path})
	}
	if name, ok := strings.CutPrefix(item, "systemd://"); ok {
		if strings.ContainsAny(name, "/: ") {
			return invalid("%s: not the name of a socket", shorten(item)).should("systemd:// for all, or systemd://NAME as FileDescriptorName= says")
		}
		return l.addOne(Listen{Network: NetSystemd, Addr: name})
	}
	if rest, ok := strings.CutPrefix(item, "udp://"); ok {
		return l.add(NetUDP, rest)
	}
	item, err := cutScheme(item)
	if err != nil {
		return err
	}
	return l.add(NetTCP, item)
}

// maxUnixPath is the longest path of a Unix socket on Linux.
const maxUnixPath = 107

// add appends one host:port, or the two that localhost is.
func (l *Listens) add(network, item string) error {
	host, port, err := splitHostPort(item, "", 0)
	if err != nil {
		return err
	}
	if host == "localhost" {
		if err := l.addOne(Listen{network, net.JoinHostPort("127.0.0.1", port), false}); err != nil {
			return err
		}
		return l.addOne(Listen{network, net.JoinHostPort("::1", port), true})
	}
	return l.addOne(Listen{network, net.JoinHostPort(host, port), false})
}

func (l *Listens) addOne(listen Listen) error {
	same := func(other Listen) bool { return other.Network == listen.Network && other.Addr == listen.Addr }
	shown := listen.Addr
	if listen.Network != NetTCP {
		shown = listen.String()
	}
	if !listen.anyPort() && slices.ContainsFunc(*l, same) {
		return invalid("%s is there twice", shown).should("each address once (localhost is 127.0.0.1 and ::1)")
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
