package admin

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// names says for which names requests are answered.
//
// A page from anywhere can let its own name resolve to an address that only the browser's machine, or its network, reaches (DNS
// rebinding), and would read the answers as its own. The browser still sends that name as the Host. It has a dot in it, as all
// names have that somebody can own, and is no IP address. So where nobody said which names are the proxy's, those that have no dot
// may be, like a container's or a machine's in its own network.
type names struct {
	loopback bool     // only names of this machine, and own
	plain    bool     // names without a dot as well
	own      []string // in lower case
}

func newNames(opts Options, loopback bool) *names {
	n := &names{loopback: loopback, plain: !loopback && len(opts.Hosts) == 0, own: slices.Clone(opts.Hosts)}
	if host, _, err := net.SplitHostPort(opts.Addr); err == nil && host != "" {
		n.own = append(n.own, strings.ToLower(host))
	}
	if host, err := os.Hostname(); err == nil && !loopback {
		n.own = append(n.own, strings.ToLower(host))
	}
	return n
}

const wrongName = "this address does not answer to that name, which might be that of a page in a browser (DNS rebinding): " +
	"use its IP address or localhost, or put the name, as a Kubernetes service's, into ILP_ADMIN_HOSTS\n"

// only refuses requests for other names. Who sends no Host (HTTP/1.0 from a script) is no browser.
func (n *names) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "" && !n.has(r.Host) {
			writeText(w, http.StatusMisdirectedRequest, wrongName)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// has reports whether a Host header is one of the names.
func (n *names) has(host string) bool {
	if isLoopbackName(host) {
		return true
	}
	name := hostName(host)
	if _, err := netip.ParseAddr(name); err == nil && !n.loopback {
		return true
	}
	return n.plain && isPlain(name) || slices.Contains(n.own, strings.ToLower(name))
}

// isPlain reports whether name is a name without a dot.
func isPlain(name string) bool {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	return name != "" && !strings.ContainsFunc(name, other)
}

// hostName returns a Host header without its port and without the brackets of an IPv6 address; "" if it is none.
func hostName(host string) string {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return ""
		}
		return name
	}
	inner, bracket := strings.CutPrefix(host, "[")
	if !bracket {
		return host
	}
	name, whole := strings.CutSuffix(inner, "]")
	if !whole {
		return ""
	}
	return name
}

// isLoopbackName reports whether a Host header names this machine itself: localhost or a loopback address, with any port (a
// forwarded port has another number).
func isLoopbackName(host string) bool {
	name := hostName(host)
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}
