package config

import "testing"

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "65536": 65536, "1B": 1, "64MiB": 64 << 20, "64mib": 64 << 20, "64Mi": 64 << 20, "64M": 64 << 20, "64m": 64 << 20,
		"1K": 1024, "1k": 1024, "1kB": 1000, "1KiB": 1024, "64MB": 64_000_000, "2G": 2 << 30, "1TiB": 1 << 40, "1TB": 1e12,
		"9223372036854775807": 1<<63 - 1, "8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5MiB", "1 MiB", "1MiBs", "1x", "1KK", "9223372036854775808", "8388608TiB", "99999999999999999999", "1kib1", "１"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%s: got %d", text, got)
		}
	}
}

func TestSizeString(t *testing.T) {
	for size, want := range map[Size]string{0: "0B", 1000: "1000B", 1024: "1KiB", 1536: "1536B", 1536 * KiB: "1536KiB", 64 * MiB: "64MiB", 4 * TiB: "4TiB"} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", int64(size), got, want)
		}
	}
}
