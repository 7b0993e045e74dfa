package cli

import (
	"context"
	"errors"
	"log/slog"

	"questdb-ilp-proxy/config"
)

// serve runs the proxy until it is told to end, and returns the exit code.
func serve(_ context.Context, _ *config.Config, _ *slog.Logger) (exitCode int, err error) {
	return ExitFailure, errors.New("not built yet")
}
