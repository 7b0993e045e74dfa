package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/config"
)

// name is what the program is called in its messages.
const name = "questdb-ilp-proxy"

// Main runs the command that args (args[0] is the program) ask for, and returns
// the exit code. Everything that it needs of the process is an argument.
func Main(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{environ, stdin, stdout, stderr, serve}
	return p.main(ctx, args)
}

// program is what the commands share.
type program struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	serve          func(context.Context, *config.Config, *slog.Logger) (exitCode int, err error)
}

func (p *program) main(ctx context.Context, args []string) int {
	root := p.rootCommand()
	root.SetArgs(args[min(1, len(args)):])
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var exit *ExitError
	if !errors.As(err, &exit) {
		// Our commands wrap their errors: this one is cobra's, about the
		// command line itself, and quotes what may have been meant for a variable.
		text := err.Error()
		if auth.MayHoldKey(text) {
			text = "wrong arguments; they are not shown, because a key may be among them"
		}
		fmt.Fprintf(p.stderr, "%s: %s\nSee %s --help.\n", name, text, name)
		return ExitUsage
	}
	if exit.Err != nil {
		fmt.Fprintf(p.stderr, "%s: %s\n", name, auth.HideKeys(exit.Err.Error()))
	}
	return exit.Code
}

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   name,
		Short: "Lets writers without authentication write to a QuestDB that demands it",
		Long: `Lets writers that know nothing of authentication write InfluxDB line protocol
over TCP to a QuestDB that demands it.

Without a command it serves. It is configured by environment variables; see
"questdb-ilp-proxy serve --help".`,
		Example: `  questdb-ilp-proxy keygen --kid writer --out writer.jwk
  questdb-ilp-proxy authline writer.jwk >> conf/auth.txt
  ILP_UPSTREAM=tcp://questdb:9009 ILP_AUTH_JWK_FILE=writer.jwk questdb-ilp-proxy`,
		RunE:          p.runServe,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(p.serveCommand(), p.keygenCommand(), p.authlineCommand(), p.checkCommand(), p.configCommand(), p.replayCommand(), p.versionCommand())
	root.AddCommand(p.probeCommands()...)
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Example = "  source <(" + name + " completion bash)\n  " + name + " completion fish > ~/.config/fish/completions/" + name + ".fish"
	}
	return root
}
