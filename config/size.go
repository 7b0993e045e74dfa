package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. In text it is a whole number and a unit: none or B
// is bytes; KiB, MiB, GiB, TiB count by 1024, and so do the short forms K, M,
// G, T and Ki, Mi, Gi, Ti; kB, MB, GB, TB count by 1000. Case does not matter.
type Size int64

// Units that sizes are written in.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// ParseSize reads a size such as 64MiB.
func ParseSize(text string) (Size, error) {
	digits := len(text)
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			digits = i
			break
		}
	}
	if digits == 0 {
		return 0, invalid("%s is not a size", shorten(text))
	}
	unit, ok := sizeUnit(text[digits:])
	if !ok {
		return 0, invalid("%s is not a size: unknown unit %s", shorten(text), shorten(text[digits:]))
	}
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit) {
		return 0, invalid("%s is too large", shorten(text))
	}
	return Size(n) * unit, nil
}

func sizeUnit(text string) (Size, bool) {
	text = strings.ToLower(text)
	if text == "" || text == "b" {
		return 1, true
	}
	power := strings.IndexByte("kmgt", text[0]) + 1
	if power == 0 {
		return 0, false
	}
	base := Size(1024)
	switch text[1:] {
	case "", "i", "ib":
	case "b":
		base = 1000
	default:
		return 0, false
	}
	unit := Size(1)
	for range power {
		unit *= base
	}
	return unit, true
}

// UnmarshalText implements [encoding.TextUnmarshaler] by [ParseSize].
func (s *Size) UnmarshalText(text []byte) error {
	size, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = size
	return nil
}

// String returns the size in the largest unit that leaves a whole number.
func (s Size) String() string {
	for _, unit := range []struct {
		size Size
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s >= unit.size && s%unit.size == 0 {
			return fmt.Sprintf("%d%s", s/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%dB", int64(s))
}

// MarshalText implements [encoding.TextMarshaler] by [Size.String].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
