package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/auth"
)

func (p *program) keygenCommand() *cobra.Command {
	var kid, out string
	cmd := &cobra.Command{
		Use:   "keygen --kid ID [--out FILE]",
		Short: "Make a key pair for QuestDB's ILP authentication",
		Long: `Make a key pair for QuestDB's ILP authentication: a P-256 JWK with kty, crv, kid,
d, x, y and alg, as "jose jwk gen" does. It holds the private key: keep it safe.

With --out it goes to a new file that only you can read; a file that exists
already is never written over. Else it goes to standard output.`,
		Example: `  questdb-ilp-proxy keygen --kid writer --out writer.jwk`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("out") && out == "" {
				return &ExitError{ExitUsage, errors.New("--out is empty, should be the name of a new file")}
			}
			return failure(p.keygen(kid, out))
		},
	}
	cmd.Flags().StringVar(&kid, "kid", "", "key `ID`, the user's name for QuestDB (required)")
	cmd.Flags().StringVar(&out, "out", "", "new `FILE` to write to, mode 0600")
	if err := cmd.MarkFlagRequired("kid"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (p *program) keygen(kid, out string) error {
	key, err := auth.Generate(kid)
	if errors.Is(err, auth.ErrKeyID) {
		return &ExitError{ExitUsage, fmt.Errorf("--kid: %w", err)}
	}
	if err != nil {
		return err
	}
	jwk, err := key.MarshalJWK()
	if err != nil {
		return err
	}
	jwk = append(jwk, '\n')
	if out == "" {
		if _, err := p.stdout.Write(jwk); err != nil {
			return fmt.Errorf("write the key: %w", err)
		}
		return nil
	}
	return newFile(out, func(file io.Writer) error {
		_, err := file.Write(jwk)
		return err
	})
}

// newFile makes a file that does not exist yet and that only its owner can
// read. If write or anything else fails, nothing of it is left.
func newFile(path string, write func(io.Writer) error) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already, and a key is never written over; choose another name, or remove it first", path)
	}
	if err != nil {
		return fmt.Errorf("create the key file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write the key file: %w", err), os.Remove(path))
		}
	}()
	return errors.Join(write(file), file.Sync(), file.Close())
}
