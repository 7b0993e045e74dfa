package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// splitList cuts a comma-separated list of addresses; an empty element is a
// mistake. Text with a = is not quoted in the error: a client configuration
// string in the wrong variable has the key in it.
func splitList(text string) ([]string, error) {
	if strings.Contains(text, "=") {
		return nil, invalid("it looks like a client configuration string, not like an address").should("in QDB_CLIENT_CONF, if it is one")
	}
	items := strings.Split(text, ",")
	for i, item := range items {
		if items[i] = strings.TrimSpace(item); items[i] == "" {
			return nil, invalid("%s has an empty element", shorten(text))
		}
	}
	return items, nil
}

// cutScheme cuts tcp:// off, and names what else stands there.
func cutScheme(text string) (rest string, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return text, nil
	}
	switch scheme {
	case "tcp":
		return rest, nil
	case "tcps":
		return "", invalid("%s: writers connect without TLS", shorten(text)).should("tcp://%s", rest)
	case "udp", "unix", "systemd":
		return "", invalid("%s: QuestDB is reached over TCP, not by %s://", shorten(text), scheme).should("like tcp://questdb:9009")
	}
	return "", invalid("%s: unknown scheme %s", shorten(text), shorten(scheme))
}

// splitHostPort cuts host:port apart. The port is defaultPort if there is none
// and defaultPort is not empty; it is a number, at least minPort.
func splitHostPort(text, defaultPort string, minPort uint64) (host, port string, err error) {
	host, port, splitErr := net.SplitHostPort(text)
	if splitErr != nil && defaultPort != "" {
		host, port, splitErr = net.SplitHostPort(text + ":" + defaultPort)
	}
	if splitErr != nil {
		if strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "[") {
			return "", "", invalid("%s: an IPv6 address needs brackets", shorten(text)).should("like [::1]:9009")
		}
		return "", "", invalid("%s is not host:port", shorten(text))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < minPort {
		return "", "", invalid("%s: %s is not a port", shorten(text), shorten(port)).should("a port from %d to 65535", minPort)
	}
	if err := checkHost(host); err != nil {
		return "", "", invalid("%s: %s", shorten(text), err)
	}
	return host, port, nil
}

// checkHost refuses what is neither an address nor a name: a path, a user, a
// space. It does not look the name up.
func checkHost(host string) error {
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return invalid("%s is not an IPv6 address", shorten(host))
		}
		return nil
	}
	for i := range len(host) {
		switch c := host[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return invalid("%s is not a host name or address", shorten(host))
		}
	}
	return nil
}

// isLoopback reports whether host is certainly an address of this machine that
// others cannot reach. A name other than localhost is not looked up.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
