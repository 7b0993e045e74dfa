package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// WriterAddr returns, as host:port, where a writer on this machine connects to a
// proxy with these environment variables, each as NAME=value: the first TCP address
// of ILP_LISTEN, or its default. It looks at no other variable, so neither a key
// nor an upstream has to be set. If anything is wrong the error is [Errors].
func WriterAddr(environ []string) (string, error) {
	const name = "ILP_LISTEN"
	var problems Errors
	text := ""
	for _, v := range Variables() {
		if v.Name == name {
			text = v.Default
		}
	}
	for _, entry := range environ {
		if key, value, _ := strings.Cut(entry, "="); key == name && strings.TrimSpace(value) != "" {
			text = strings.TrimSpace(value)
		}
	}
	var listens Listens
	if err := listens.UnmarshalText([]byte(text)); err != nil {
		problems.addValue(name, err)
		return "", problems.err()
	}
	i := slices.IndexFunc(listens, func(l Listen) bool { return l.Network == NetTCP })
	if i < 0 {
		problems.add(name, "no TCP address is in it", "one with a tcp:// address as well")
		return "", problems.err()
	}
	addr, ok := listens[i].writerAddr()
	if !ok {
		problems.add(name, "the port of "+listens[i].Addr+" is not known before the proxy runs", "an address with a port")
	}
	return addr, problems.err()
}

// writerAddr returns what a writer connects to on this machine; ok is false if
// only the kernel knows the port.
func (l Listen) writerAddr() (addr string, ok bool) {
	host, port, err := net.SplitHostPort(l.Addr)
	if err != nil || l.anyPort() {
		return "", false
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), true
}
