package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"

	"questdb-ilp-proxy/config"
)

func TestLogFormat(t *testing.T) {
	for title, c := range map[string]struct {
		format   config.LogFormat
		terminal bool
		environ  []string
		json     bool
		colour   bool
	}{
		"auto on a terminal":      {config.LogAuto, true, nil, false, true},
		"auto elsewhere":          {config.LogAuto, false, nil, true, false},
		"text on a terminal":      {config.LogText, true, nil, false, true},
		"text elsewhere":          {config.LogText, false, nil, false, false},
		"JSON on a terminal":      {config.LogJSON, true, nil, true, false},
		"NO_COLOR":                {config.LogAuto, true, []string{"NO_COLOR=1"}, false, false},
		"NO_COLOR that is empty":  {config.LogAuto, true, []string{"NO_COLOR="}, false, true},
		"terminal without colour": {config.LogAuto, true, []string{"TERM=dumb"}, false, false},
	} {
		t.Run(title, func(t *testing.T) {
			var out bytes.Buffer
			cfg := &config.Config{LogFormat: c.format, LogLevel: config.LogLevel(slog.LevelWarn)}
			log := slog.New(newHandler(&out, cfg, c.terminal, c.environ))
			log.Info("not to be seen")
			log.Warn("hello", "a", 1)
			if json.Valid(out.Bytes()) != c.json || strings.Contains(out.String(), "\x1b[") != c.colour {
				t.Errorf("got %q", out.String())
			}
			if !strings.Contains(out.String(), "hello") || strings.Contains(out.String(), "seen") {
				t.Errorf("got %q", out.String())
			}
		})
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	newLogger(file, file, &config.Config{LogFormat: config.LogAuto}, nil).Info("hello")
	if data, err := os.ReadFile(file.Name()); err != nil || !json.Valid(data) {
		t.Errorf("got %q, %v", data, err)
	}
}
