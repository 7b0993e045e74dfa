package questdb

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// settings returns the server.conf of this server: what makes it listen on its
// ports and be light enough for several to share two cores, and over that
// whatever the options add or replace.
func (p *Process) settings() map[string]string {
	conf := map[string]string{
		"http.bind.to":          p.http.addr,
		"http.min.enabled":      "false",
		"pg.net.bind.to":        p.pg.addr,
		"line.tcp.net.bind.to":  p.bindILP(),
		"line.udp.enabled":      "false", // it would bind one port for all
		"telemetry.enabled":     "false",
		"metrics.enabled":       "false",
		"shared.worker.count":   "2",
		"line.tcp.auth.db.path": "conf/auth.txt", // below the root

		// Allocated per column: the default of 16 MiB fills a disk with tables.
		"cairo.writer.data.append.page.size":     "64K",
		"cairo.wal.writer.data.append.page.size": "64K",
	}
	if p.opts.NoAuth {
		delete(conf, "line.tcp.auth.db.path")
	}
	maps.Copy(conf, p.opts.Conf)
	return conf
}

func (p *Process) writeConf() error {
	var b strings.Builder
	conf := p.settings()
	for _, name := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&b, "%s=%s\n", name, conf[name])
	}
	return p.writeFile("server.conf", b.String())
}

func (p *Process) writeAuth(lines []string) error {
	return p.writeFile("auth.txt", strings.Join(lines, "\n")+"\n")
}

func (p *Process) writeFile(name, text string) error {
	dir := filepath.Join(p.root, "conf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing QuestDB's configuration: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing QuestDB's configuration: %w", err)
	}
	return nil
}
