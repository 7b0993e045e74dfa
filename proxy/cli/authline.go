package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/auth"
)

// maxJWK bounds what is read of a JWK, in bytes.
const maxJWK = 64 << 10

func (p *program) authlineCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "authline FILE",
		Short: "Print the line for QuestDB's auth.txt of a JWK",
		Long: `Print the line for QuestDB's auth.txt of a JWK: key id, ec-p-256-sha256, x and y.
It is made of the public half only, so a JWK without d will do. FILE may be -
for standard input. Files that jose made work as well.

QuestDB reads auth.txt when it starts; line.tcp.auth.db.path in its server.conf
has to name that file.`,
		Example: `  questdb-ilp-proxy authline writer.jwk >> conf/auth.txt
  questdb-ilp-proxy authline - < writer.jwk`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return failure(p.authline(args[0])) },
	}
}

func (p *program) authline(path string) error {
	input := p.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read the JWK: %w", err)
		}
		defer file.Close()
		input = file
	}
	data, err := io.ReadAll(io.LimitReader(input, maxJWK+1))
	if err != nil {
		return fmt.Errorf("read the JWK: %w", err)
	}
	if len(data) > maxJWK {
		return fmt.Errorf("%s: larger than %d bytes, that is no JWK", path, maxJWK)
	}
	key, err := auth.ParsePublicJWK(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := fmt.Fprintln(p.stdout, key.AuthLine()); err != nil {
		return fmt.Errorf("write the line: %w", err)
	}
	return nil
}
