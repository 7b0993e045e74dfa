package cli

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/sandbox"
)

// sandbox gives up what the proxy does not need any more when it listens, and says
// what that is. Only ILP_SANDBOX=require makes an error of what it could not.
func (p *instance) sandbox() error {
	if p.cfg.Sandbox == config.SandboxOff {
		p.log.Info("not sandboxed: ILP_SANDBOX is off")
		return nil
	}
	r := sandbox.Restrict(needed(p.cfg))
	p.sandboxed.Set(r)
	if r.Missing != nil && p.cfg.Sandbox == config.SandboxRequire {
		return &ExitError{ExitUsage, fmt.Errorf("ILP_SANDBOX: it is %s, and not all of it can be had: %w", config.SandboxRequire, r.Missing)}
	}
	attrs := []any{"no_new_privileges", r.NewPrivileges, "files", r.Files, "ports", r.Ports}
	for _, left := range []struct {
		name  string
		paths []string
	}{{"readable", r.Readable}, {"writable", r.Writable}} {
		if r.Files && len(left.paths) > 0 {
			attrs = append(attrs, left.name, left.paths)
		}
	}
	if r.Ports {
		attrs = append(attrs, "connects_to", r.ConnectsTo)
	}
	if r.Missing != nil {
		p.log.Info("sandboxed only in part", append(attrs, "missing", r.Missing.Error())...)
		return nil
	}
	p.log.Info("sandboxed", attrs...)
	return nil
}

// needed is what the running proxy still needs.
func needed(cfg *config.Config) sandbox.Options {
	o := sandbox.Options{
		Read: cfg.Files(),
		// Such is the socket's name then: it has no file.
		AbstractSockets: strings.HasPrefix(os.Getenv("NOTIFY_SOCKET"), "@"),
	}
	if cfg.RejectedFile != "" {
		o.Append = []string{cfg.RejectedFile}
	}
	for _, at := range cfg.Listen {
		if at.Network == config.NetUnix {
			o.Remove = append(o.Remove, at.Addr)
		}
	}
	for _, addr := range cfg.Upstream {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			continue // the configuration has no such
		}
		if _, err := netip.ParseAddr(host); err != nil {
			o.Names = true
		}
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && !slices.Contains(o.Connect, uint16(n)) {
			o.Connect = append(o.Connect, uint16(n))
		}
	}
	return o
}
