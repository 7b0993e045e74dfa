package config

import (
	"strings"
	"testing"
)

func TestSegmentBytes(t *testing.T) {
	for environ, want := range map[string]Size{
		"":                 16 * MiB, // of 64MiB
		"ILP_BUFFER=32MiB": 8 * MiB,
		"ILP_BUFFER=1GiB":  64 * MiB,
		"ILP_BUFFER=1GiB ILP_CONFIRM_BYTES=512MB": 256 * MiB,
		"ILP_CONFIRM_BYTES=64KiB":                 64 * KiB,
	} {
		config, err := Load(with(strings.Fields(environ)...))
		if err != nil {
			t.Errorf("%s: %v", environ, err)
		} else if got := config.SegmentBytes(); got != want {
			t.Errorf("%s: got %s, want %s", environ, got, want)
		}
	}
}

// TestDeliveryWarnings has what works, and is probably not what was meant.
func TestDeliveryWarnings(t *testing.T) {
	for environ, want := range map[string]string{
		"ILP_POOL_MAX=3":                            "",
		"ILP_POOL_MAX=2":                            "ILP_POOL_MAX: with 2 connections",
		"ILP_SETTLE=100ms":                          "ILP_SETTLE: rows can be lost within 100ms",
		"ILP_SETTLE=30s":                            "ILP_DRAIN_TIMEOUT: 20s is not longer than ILP_SETTLE",
		"ILP_DRAIN_TIMEOUT=0":                       "ILP_DRAIN_TIMEOUT: 0s is not longer",
		"ILP_POOL_MAX=2 ILP_DELIVERY=at-most-once":  "",
		"ILP_SETTLE=1ms ILP_DELIVERY=at-most-once":  "",
		"ILP_PATH_CHECK=off ILP_REJECTED_FILE=x":    "",
		"ILP_ON_REJECTED=disconnect ILP_POOL_MAX=4": "",
	} {
		config, err := Load(with(strings.Fields(environ)...))
		switch {
		case err != nil:
			t.Errorf("%s: %v", environ, err)
		case want == "" && len(config.Warnings) != 0, want != "" && len(config.Warnings) != 1:
			t.Errorf("%s: warnings are %q", environ, config.Warnings)
		case want != "" && !strings.HasPrefix(config.Warnings[0], want):
			t.Errorf("%s: got %s, want %s", environ, config.Warnings[0], want)
		}
	}
}

func TestSwitchPrints(t *testing.T) {
	for _, want := range []string{"on", "off"} {
		var s Switch
		if err := s.UnmarshalText([]byte(want)); err != nil || s.String() != want {
			t.Errorf("%s: got %s, %v", want, s, err)
		}
	}
}

func TestWriterAddr(t *testing.T) {
	for listen, want := range map[string]string{
		"":                         "127.0.0.1:9009",
		" ":                        "127.0.0.1:9009",
		"localhost:1":              "127.0.0.1:1",
		"tcp://10.0.0.1:2,[::1]:3": "10.0.0.1:2",
		"name:4":                   "name:4",
		"unix:///x,:5":             "127.0.0.1:5",
		":5":                       "127.0.0.1:5",
		"0.0.0.0:6":                "127.0.0.1:6",
		"[::]:7":                   "[::1]:7",
	} {
		got, err := WriterAddr([]string{"ILP_LISTEN=" + listen, "ILP_LISTENS=x", "ILP_BUFFER=no"})
		if err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", listen, got, err, want)
		}
	}
	for listen, want := range map[string]string{
		"localhost":   `ILP_LISTEN: "localhost" is not host:port; should be like tcp://localhost:9009`,
		"localhost:0": "ILP_LISTEN: the port of 127.0.0.1:0 is not known before the proxy runs; should be an address with a port",
		"unix:///x":   "ILP_LISTEN: no TCP address is in it",
	} {
		if got, err := WriterAddr([]string{"ILP_LISTEN=" + listen}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %s, %v", listen, got, err)
		}
	}
}
