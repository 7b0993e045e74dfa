package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/check"
	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/upstream"
)

func (p *program) checkCommand() *cobra.Command {
	c := checkCommand{p: p}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether the proxy would deliver, and what is in the way",
		Long: `Say whether the proxy would deliver with the configuration of this environment, and
if not, what to do. It connects to each address of QuestDB, and to every IP address
of a name, and authenticates. Then it finds out whether refused records show on
the way there: by padding alone, which must end well, and by a malformed record,
of which QuestDB's log gets a line. It writes no row. It uses up to four of
QuestDB's connections, for a few seconds, and can run beside the proxy.

With --http it asks QuestDB by HTTP as well: which tables bypass WAL, which are
suspended, and whether they and QuestDB's settings have what the promise needs that
no record is lost. User and password in the URL are sent and never shown; but
whoever may list processes on this machine can see them.

The exit code is 0 if all is well, else that of the first failure:

` + failuresHelp(),
		Example: `  questdb-ilp-proxy check
  questdb-ilp-proxy check --http http://admin:quest@questdb:9000
  questdb-ilp-proxy check --json | jq -r '.findings[] | select(.do) | .do'`,
		// cobra.NoArgs would show it, and it may be a URL with a password.
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("check takes no arguments; the URL of QuestDB's HTTP server goes with --http")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return failure(c.run(cmd.Context())) },
	}
	cmd.Flags().StringVar(&c.http, "http", "", "`URL` of QuestDB's HTTP server, like http://questdb:9000")
	cmd.Flags().DurationVar(&c.timeout, "timeout", 40*time.Second, "longest `DURATION` for all of it;\nconnecting, TLS and the challenge have a quarter each")
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// failuresHelp lists the exit codes for a terminal.
func failuresHelp() string {
	var b strings.Builder
	for _, f := range check.Failures() {
		text := strings.TrimLeft(indent(fmt.Sprintf("%s (%s)", f.Meaning, f.Kind), 6, 80), " ")
		fmt.Fprintf(&b, "  %2d  %s", f.Code, text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// checkCommand is one run of the command.
type checkCommand struct {
	p       *program
	http    string
	timeout time.Duration
	json    bool
}

func (c *checkCommand) run(ctx context.Context) error {
	o := check.Options{Timeout: c.timeout, Source: func(p *upstream.Pool) delivery.Source { return source{p} }}
	if c.timeout <= 0 {
		return &ExitError{ExitUsage, fmt.Errorf("--timeout: %s is not positive; should be like 40s", c.timeout)}
	}
	if c.http != "" {
		endpoint, err := check.ParseEndpoint(c.http)
		if err != nil {
			return &ExitError{ExitUsage, fmt.Errorf("--http: %w", err)}
		}
		o.HTTP = endpoint
	}
	cfg, err := config.Load(c.p.environ)
	if err != nil {
		return c.wrong(err)
	}
	o.Config = cfg
	return c.print(check.Run(ctx, o))
}

// wrong tells of a wrong configuration: as serve does, or in JSON.
func (c *checkCommand) wrong(err error) error {
	var problems config.Errors
	if !c.json || !errors.As(err, &problems) {
		return c.p.configError(err)
	}
	var findings []check.Finding
	for _, problem := range problems {
		findings = append(findings, check.Finding{Kind: check.Configuration, About: problem.Var, Text: problem.Problem, Do: problem.Hint})
	}
	return c.print(check.NewReport(findings...))
}

func (c *checkCommand) print(report check.Report) error {
	var err error
	if c.json {
		err = c.p.printJSON(report)
	} else {
		err = report.Write(c.p.stdout)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if report.ExitCode != ExitOK {
		return &ExitError{Code: report.ExitCode}
	}
	return nil
}
