package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/upstream"
)

// Options say what to check.
type Options struct {
	Config *config.Config
	// HTTP is QuestDB's HTTP server, nil for not asking it.
	HTTP *Endpoint
	// Timeout bounds the whole; connecting, TLS and the handshake get a quarter of it
	// each, at most.
	Timeout time.Duration
	// Source gives the path check the pool's connections.
	Source func(*upstream.Pool) delivery.Source
}

// Run finds out what there is to find out.
func Run(ctx context.Context, o Options) Report {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("--timeout (%v) is over", o.Timeout))
	defer cancel()
	findings := configuration(o.Config)
	var servers, tables []Finding
	var wg sync.WaitGroup
	wg.Go(func() { servers = examine(ctx, o) })
	if o.HTTP != nil {
		wg.Go(func() { tables = o.HTTP.ask(ctx, o.Config) })
	}
	wg.Wait()
	return NewReport(append(append(findings, servers...), tables...)...)
}

// configuration says what is to be said of a configuration that is right.
func configuration(c *config.Config) []Finding {
	const about = "configuration"
	findings := []Finding{{Kind: OK, About: about, Text: fmt.Sprintf("without errors; the key id is %q", c.Key.ID())}}
	for _, warning := range c.Warnings {
		findings = append(findings, Finding{Kind: Note, About: about, Text: warning})
	}
	if c.RejectedFile != "" {
		folder := filepath.Dir(c.RejectedFile)
		info, err := os.Stat(folder)
		if err == nil && !info.IsDir() {
			err = unix.ENOTDIR
		}
		if err == nil {
			err = unix.Access(folder, unix.W_OK|unix.X_OK)
		}
		if err != nil {
			findings = append(findings, Finding{Configuration, about,
				fmt.Sprintf("ILP_REJECTED_FILE: this user cannot write in its folder: %v", rootCause(err)), "make the folder, or let the proxy's user write in it; or choose another file"})
		}
	}
	return findings
}
