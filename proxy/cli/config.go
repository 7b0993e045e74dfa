package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/config"
)

func (p *program) configCommand() *cobra.Command {
	var example, asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show what the configuration comes to, and where each value comes from",
		Long: `Show the value of each variable that serve would use in this environment, and where
it comes from: its default, the environment, a file, or QDB_CLIENT_CONF. Keys, tokens and
passwords are shown as [redacted]. The files are read; nothing is connected to, see
"check" for that. What works but should be known is said on standard error.

The exit code is 2 if anything is wrong with it, with all that is wrong at once.

With --example it prints a file of all variables instead, commented, with their
defaults.`,
		Example: `  questdb-ilp-proxy config
  questdb-ilp-proxy config --json | jq -r '.settings[] | select(.source != "default")'
  questdb-ilp-proxy config --example > proxy.env`,
		// cobra.NoArgs would show them, and they may be what should be in a variable.
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("config takes no arguments: it reads the environment")
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			if example {
				_, err := io.WriteString(p.stdout, config.Example())
				return failure(err)
			}
			return failure(p.showConfig(asJSON))
		},
	}
	cmd.Flags().BoolVar(&example, "example", false, "print a commented file of all variables with their defaults")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("example", "json")
	return cmd
}

// showConfig prints the effective configuration.
func (p *program) showConfig(asJSON bool) error {
	cfg, settings, err := config.Effective(p.environ)
	if err != nil {
		return p.configError(err)
	}
	if asJSON {
		return p.printJSON(struct {
			Settings []config.Setting `json:"settings"`
			AuthLine string           `json:"auth_line"` // for QuestDB's auth.txt
			Warnings []string         `json:"warnings"`
		}{settings, cfg.Key.AuthLine(), append([]string{}, cfg.Warnings...)})
	}
	for _, warning := range cfg.Warnings {
		fmt.Fprintf(p.stderr, "%s: %s\n", name, warning)
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "VARIABLE\tVALUE\tSOURCE\n")
	for _, s := range settings {
		value := s.Value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, printable(value), printable(s.Source))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "\nQuestDB's auth.txt needs this line:\n%s\n", cfg.Key.AuthLine())
	return err
}

// printJSON prints v for programs, and for people who look at that.
func (p *program) printJSON(v any) error {
	encoder := json.NewEncoder(p.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// printable quotes a text that would do something to a terminal, or to the table.
func printable(text string) string {
	if quoted := fmt.Sprintf("%q", text); len(quoted) != len(text)+2 {
		return quoted
	}
	return text
}
