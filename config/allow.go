package config

import (
	"net/netip"
	"slices"
	"strings"
)

// Allow is who may connect. The zero value is this machine alone.
type Allow struct {
	Any      bool
	Prefixes []netip.Prefix
}

// IsZero reports whether nothing was said about who may connect.
func (a Allow) IsZero() bool { return !a.Any && len(a.Prefixes) == 0 }

// Contains reports whether a writer with this address may connect.
func (a Allow) Contains(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if a.IsZero() {
		return addr.IsLoopback()
	}
	return a.Any || slices.ContainsFunc(a.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// String returns it in the form in which it is configured.
func (a Allow) String() string {
	if a.Any {
		return "any"
	}
	items := make([]string, len(a.Prefixes))
	for i, p := range a.Prefixes {
		items[i] = p.String()
	}
	return strings.Join(items, ",")
}

// UnmarshalText reads a comma-separated list of CIDRs and addresses, or any.
func (a *Allow) UnmarshalText(text []byte) error {
	if string(text) == "any" {
		*a = Allow{Any: true}
		return nil
	}
	items, err := splitList(string(text))
	if err != nil {
		return err
	}
	var allow Allow
	for _, item := range items {
		prefix, err := parsePrefix(item)
		if err != nil {
			return err
		}
		if slices.Contains(allow.Prefixes, prefix) {
			return invalid("%s is there twice", prefix).should("each once")
		}
		allow.Prefixes = append(allow.Prefixes, prefix)
	}
	*a = allow
	return nil
}

func parsePrefix(item string) (netip.Prefix, error) {
	if item == "any" {
		return netip.Prefix{}, invalid(`"any" stands beside addresses`).should("any alone, or addresses alone")
	}
	if addr, err := netip.ParseAddr(item); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(item)
	if err != nil {
		return netip.Prefix{}, invalid("%s is not a CIDR or address", shorten(item))
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, invalid("%s is an IPv4 address within IPv6", shorten(item)).should("written as IPv4, like 10.0.0.0/8")
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, invalid("%s has bits set behind its length", shorten(item)).should("%s, or %s for the one address", prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}
