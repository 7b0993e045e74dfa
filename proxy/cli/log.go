package cli

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"questdb-ilp-proxy/config"
)

// newLogger returns the logger that the configuration asks for, writing to out what
// is to appear on w.
func newLogger(out, w io.Writer, cfg *config.Config, environ []string) *slog.Logger {
	file, isFile := w.(*os.File)
	return slog.New(newHandler(out, cfg, isFile && term.IsTerminal(int(file.Fd())), environ))
}

// newHandler decides on text or JSON: auto is text on a terminal. Text has
// colours on a terminal that has them, unless NO_COLOR is set (no-color.org).
func newHandler(w io.Writer, cfg *config.Config, terminal bool, environ []string) slog.Handler {
	format := cfg.LogFormat
	if format == config.LogAuto {
		format = config.LogJSON
		if terminal {
			format = config.LogText
		}
	}
	if format == config.LogJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: readableDuration})
	}
	return tint.NewTextHandler(w, &tint.Options{
		Level:      cfg.LogLevel,
		TimeFormat: "2006-01-02 15:04:05.000",
		NoColor:    !terminal || noColor(environ),
	})
}

func noColor(environ []string) bool {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return true
		}
	}
	return false
}

// readableDuration writes durations as people do, 1.5s, and not in nanoseconds.
func readableDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
