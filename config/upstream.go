package config

import (
	"net"
	"slices"
	"strings"
)

// DefaultPort is QuestDB's ILP port, used where an upstream address has none.
const DefaultPort = "9009"

// Addrs is a list of upstream addresses as host:port, in order of preference.
type Addrs []string

// UnmarshalText reads a comma-separated list.
func (a *Addrs) UnmarshalText(text []byte) error {
	items, err := splitList(string(text))
	if err != nil {
		return err
	}
	var addrs Addrs
	for _, item := range items {
		if hasTLSScheme(item) != hasTLSScheme(items[0]) {
			return invalid("%s has TLS (tcps://) for some addresses and not for others", shorten(string(text))).should("tcps:// before each address, or before none")
		}
		if item, err = cutScheme(strings.TrimPrefix(item, tlsScheme)); err != nil {
			return err
		}
		if err := addrs.add(item); err != nil {
			return err
		}
	}
	*a = addrs
	return nil
}

const tlsScheme = "tcps://"

// hasTLSScheme reports whether an address, or the first of several, is one over TLS.
func hasTLSScheme(text string) bool { return strings.HasPrefix(text, tlsScheme) }

// add appends one address, which may lack a port.
func (a *Addrs) add(item string) error {
	host, port, err := splitHostPort(item, DefaultPort, 1)
	if err != nil {
		return err
	}
	if host == "" {
		return invalid("%s has no host", shorten(item))
	}
	addr := net.JoinHostPort(host, port)
	if slices.Contains(*a, addr) {
		return invalid("%s is there twice", addr).should("each address once")
	}
	*a = append(*a, addr)
	return nil
}
