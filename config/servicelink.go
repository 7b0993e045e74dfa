package config

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Kubernetes puts variables for every service of the namespace into a pod, and
// Docker's links did the same. Those of a service named ilp, or ilp- and
// something, begin like ours.
var (
	serviceHost = regexp.MustCompile(`^ILP(_[A-Z0-9]+)*_SERVICE_HOST$`)
	servicePort = regexp.MustCompile(`^ILP(_[A-Z0-9]+)*_SERVICE_PORT(_[A-Z0-9]+)*$`)
	linkURL     = regexp.MustCompile(`^ILP(_[A-Z0-9]+)*_PORT(_[0-9]+_(TCP|UDP|SCTP))?$`)
	linkPart    = regexp.MustCompile(`^ILP(_[A-Z0-9]+)*_PORT_[0-9]+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)$`)
	linkValue   = regexp.MustCompile(`^(tcp|udp|sctp)://\S+:[0-9]+$`)
)

// isServiceLink reports whether Kubernetes or Docker made the variable. The
// value is looked at too: ILP_UPSTREAM_PORT=9009 is someone's mistake, and
// ILP_UPSTREAM_PORT=tcp://10.0.0.1:9009 is from a service named ilp-upstream.
func isServiceLink(name, value string) bool {
	// A service named ilp-service makes ILP_SERVICE_PORT too: each form counts.
	switch {
	case serviceHost.MatchString(name) && isIP(value),
		servicePort.MatchString(name) && isPort(value),
		linkURL.MatchString(name) && linkValue.MatchString(value),
		name == "ILP_NAME" && strings.HasPrefix(value, "/"): // Docker
		return true
	case !linkPart.MatchString(name):
		return false
	}
	switch name[strings.LastIndexByte(name, '_')+1:] {
	case "ADDR":
		return isIP(value)
	case "PORT":
		return isPort(value)
	default:
		return value == "tcp" || value == "udp" || value == "sctp"
	}
}

func isIP(value string) bool {
	_, err := netip.ParseAddr(value)
	return err == nil
}

func isPort(value string) bool {
	_, err := strconv.ParseUint(value, 10, 16)
	return err == nil
}
