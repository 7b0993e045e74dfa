package config

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// LogFormat is how log lines look.
type LogFormat string

// The log formats.
const (
	LogAuto LogFormat = "auto" // coloured text on a terminal, else JSON
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *LogFormat) UnmarshalText(text []byte) error {
	switch format := LogFormat(strings.ToLower(string(text))); format {
	case LogAuto, LogText, LogJSON:
		*f = format
		return nil
	}
	return invalid("%s is not a log format", shorten(string(text)))
}

// LogLevel is the lowest level that is logged; it is a [slog.Leveler].
type LogLevel slog.Level

// Level implements [slog.Leveler].
func (l LogLevel) Level() slog.Level { return slog.Level(l) }

// String returns the level's name, as slog does.
func (l LogLevel) String() string { return l.Level().String() }

// UnmarshalText reads one of the four names. slog itself would take "info+3" too.
func (l *LogLevel) UnmarshalText(text []byte) error {
	switch strings.ToLower(string(text)) {
	case "debug":
		*l = LogLevel(slog.LevelDebug)
	case "info":
		*l = LogLevel(slog.LevelInfo)
	case "warn":
		*l = LogLevel(slog.LevelWarn)
	case "error":
		*l = LogLevel(slog.LevelError)
	default:
		return invalid("%s is not a log level", shorten(string(text)))
	}
	return nil
}

// FileMode is the permission bits of a file. In text it is octal.
type FileMode uint32

// UnmarshalText reads three octal digits, or four that begin with 0.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 16)
	if err != nil || n > 0o777 || len(text) < 3 {
		return invalid("%s is not a file mode", shorten(string(text)))
	}
	*m = FileMode(n)
	return nil
}

// String returns it in octal.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// parseDuration reads a duration with its unit.
func parseDuration(text string) (any, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if strings.Trim(text, "0123456789.") == "" {
		return nil, invalid("%s has no unit", shorten(text)).should("with a unit, like %ss", text)
	}
	return nil, invalid("%s is not a duration", shorten(text))
}

// parseInt reads a whole decimal number.
func parseInt(text string) (any, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, invalid("%s is not a whole number", shorten(text))
	}
	return n, nil
}
