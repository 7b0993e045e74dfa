package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set when linking: -ldflags "-X questdb-ilp-proxy/proxy/cli.version=v1.2.3 -X ...commit=abcdef".
var version, commit string

// build is what the binary knows about itself.
type build struct{ Version, Commit, Go string }

// buildInfo returns what was set when linking, else what Go noted.
func buildInfo() build {
	b := build{version, commit, runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	if b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if b.Commit == "" && setting.Key == "vcs.revision" {
			b.Commit = setting.Value
		}
	}
	for _, text := range []*string{&b.Version, &b.Commit} {
		if *text == "" {
			*text = "unknown"
		}
	}
	return b
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  questdb-ilp-proxy version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			_, err := fmt.Fprintf(p.stdout, "%s %s (commit %s, %s, %s/%s)\n", name, b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH)
			return failure(err)
		},
	}
}
