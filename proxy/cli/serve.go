package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/logging"
)

// logGrace is how long the end waits for whoever reads the log.
const logGrace = time.Second

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy (the default)",
		Long:  "Run the proxy until SIGTERM or SIGINT. It takes no flags; these environment\nvariables configure it:\n\n" + variablesHelp(),
		Example: `  ILP_UPSTREAM=tcp://questdb:9009 ILP_AUTH_JWK_FILE=writer.jwk questdb-ilp-proxy serve
  QDB_CLIENT_CONF='tcp::addr=questdb:9009;username=writer;token=...;' questdb-ilp-proxy serve`,
		Args: cobra.NoArgs,
		RunE: p.runServe,
	}
}

// runServe reads the configuration, and runs the proxy only if all of it is right.
func (p *program) runServe(cmd *cobra.Command, _ []string) error {
	cfg, err := config.Load(p.environ)
	if err != nil {
		return p.configError(err)
	}
	out := logging.NewAsync(p.stderr)
	defer out.Close(logGrace)
	logger := newLogger(out, p.stderr, cfg, p.environ)
	for _, warning := range cfg.Warnings {
		logger.Warn("configuration: " + warning)
	}
	code, err := p.serve(cmd.Context(), cfg, logger)
	if err != nil {
		logger.Error("the proxy failed", "error", err)
		code = max(code, ExitFailure)
		var exit *ExitError
		if errors.As(err, &exit) {
			code = exit.Code // it tells the kind of failure
		}
	}
	if code != ExitOK {
		return &ExitError{Code: code}
	}
	return nil
}

// configError prints every problem on a line of its own.
func (p *program) configError(err error) error {
	var problems config.Errors
	if !errors.As(err, &problems) {
		return &ExitError{ExitUsage, err}
	}
	for _, problem := range problems {
		fmt.Fprintf(p.stderr, "%s: %s\n", name, problem)
	}
	return &ExitError{Code: ExitUsage}
}

// variablesHelp lists the variables for a terminal.
func variablesHelp() string {
	var b strings.Builder
	for i, v := range config.Variables() {
		if i > 0 {
			b.WriteString("\n") // a paragraph each, in the manual page too
		}
		b.WriteString("  " + v.Name)
		if v.Default != "" {
			b.WriteString(" (default " + v.Default + ")")
		}
		b.WriteString("\n" + indent(strings.ReplaceAll(v.Description, "`", ""), 6, 80))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// indent breaks text into lines of at most width, each behind margin spaces.
func indent(text string, margin, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
			column = margin
			b.WriteString(strings.Repeat(" ", margin))
		case column+1+len(word) > width:
			column = margin
			b.WriteString("\n" + strings.Repeat(" ", margin))
		default:
			column++
			b.WriteString(" ")
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}
