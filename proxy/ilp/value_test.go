package ilp

import (
	"strings"
	"testing"
)

// values are fields' values with the verdict of 9.3.4's parser on each.
var values = []struct {
	text string
	ok   bool
}{
	{"1i", true},
	{"0i", true},
	{"-1i", true},
	{"+1i", false},
	{"i", false},
	{"-i", false},
	{"1li", true},
	{"1Li", true},
	{"Li", false},
	{"1lli", false},
	{"9223372036854775807i", true},
	{"9223372036854775808i", false},
	{"-9223372036854775808i", true},
	{"-9223372036854775809i", false},
	{"18446744073709551617i", false},
	{"92233720368547758080i", false},
	{"1_000i", true},
	{"1_i", false},
	{"_1i", false},
	{"1__0i", false},
	{"1_2_3i", true},
	{"1.5i", false},
	{"1e3i", false},
	{"0xi", false},
	{"0x1i", true},
	{"0xabci", true},
	{"0Xabci", false},
	{"0xgi", true},
	{"1xi", false},
	{"1n", true},
	{"n", false},
	{"1m", true},
	{"m", false},
	{"1t", true},
	{"-5n", true},
	{"1.5n", false},
	{"t", true},
	{"T", true},
	{"f", true},
	{"F", true},
	{"E", true},
	{"e", false},
	{"true", true},
	{"TRUE", true},
	{"tRuE", true},
	{"false", true},
	{"False", true},
	{"tru", false},
	{"falsee", false},
	{"yes", false},
	{"1", true},
	{"-1", true},
	{"+1", true},
	{"1.", true},
	{".5", true},
	{".", false},
	{"-", false},
	{"+", false},
	{"1.5", true},
	{"-1.5", true},
	{"1..5", false},
	{"1.5.5", false},
	{"1e5", true},
	{"1E5", true},
	{"1e+5", true},
	{"1e-5", true},
	{"1e", false},
	{"1e+", false},
	{"1e5.5", false},
	{"1.5f", false},
	{"1.5F", false},
	{"1.5D", true},
	{"1.5d", true},
	{"1D", true},
	{"0", true},
	{"-0", true},
	{"0.0", true},
	{"00012", true},
	{"NaN", true},
	{"nan", false},
	{"-NaN", true},
	{"+NaN", true},
	{"NaNx", false},
	{"Infinity", true},
	{"-Infinity", true},
	{"infinity", false},
	{"Inf", false},
	{"Infinit", false},
	{"1e308", true},
	{"1.7976931348623157e308", true},
	{"1.7976931348623159e308", false},
	{"1e309", false},
	{"-1e309", false},
	{"1e400", false},
	{"1e-323", true},
	{"4.9e-324", true},
	{"2e-324", false},
	{"1e-400", false},
	{"0e400", true},
	{"0e-400", true},
	{"123456789012345678901234567890", true},
	{"0x1p3", true},
	{"0x1.8p3", true},
	{"0x1P-3", true},
	{"0x", false},
	{"0x1", false},
	{"0xp3", false},
	{"0x1.8.8p3", false},
	{"0x1p", false},
	{"1d", true},
	{"-1d", true},
	{"1.d", true},
	{".5d", true},
	{".d", false},
	{"d", false},
	{"0d", true},
	{"00d", true},
	{"0.d", true},
	{"1e5d", true},
	{"1e75d", true},
	{"1e-75d", true},
	{"1.5fd", true},
	{"1.5md", true},
	{"1.5fmd", true},
	{"1.5mfd", false},
	{"NaNd", true},
	{"NaN?d", true},
	{"-Infinityd", true},
	{"Infinityxyzd", true},
	{"1e1_0d", true},
	{"1e_1d", false},
	{"1e+1d", true},
	{"1xd", false},
	{"\\\"x\"", true},
	{"\\\"", false},
	{"x\"", false},
	{"\"\"", true},
	{"\"x\"", true},
	{"\"x\"y", false},
	{"\"x\"1i", false},
	{"\"x\"\\\"", true},
	{"bad", false},
	{"1_000", false},
	{"1,5", false},
	{"é", false},
	{"\x7f", false},
	{"1\x7f0i", true},
	{"12345678901234567890i", false},
	{"\\1", true},
	{"\\1\\i", true},
	{"1\\,5", false},
	{"1\\ ", true},
	{"\\ 1", true},
	{"\x091", true},
	{"1\x09", true},
	{"1\x01", true},
	{"1.5f\\ ", true},
	{"1\\ d", false},
	{"\\ 1d", true},
	{"\\ 1i", false},
	{"1.5\x00", false},
}

// Found by comparing with the server's parser on random records.
func TestDecimalWhoseExponentWraps(t *testing.T) {
	for text, want := range map[string]bool{"0e2147483647md": true, "1e2147483647md": false, "0e2147483648md": false, "0e76md": false} {
		if err := Validate([]byte("t f=" + text + "\n")); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestValues(t *testing.T) {
	for _, v := range values {
		t.Run(v.text, func(t *testing.T) {
			record := []byte("t f=" + v.text + "\n")
			if err := Validate(record); (err == nil) != v.ok {
				t.Errorf("Validate(%q): %v", record, err)
			}
			// For the scanner, a value that does not parse shows by an escaped LF behind it that ends the record.
			stream := []byte("t f=" + v.text + ",g=\"\\\n\"\n")
			want := len(stream)
			if !v.ok {
				want -= 2
			}
			if len(v.text) > valueKeep {
				return // judged by its bytes
			}
			for i := range stream {
				if got := boundaries(t, stream, i, len(stream)-i); got[0] != want {
					t.Fatalf("split at %d: the record ends at %d, want %d", i, got[0], want)
				}
			}
		})
	}
}

// What is malformed for servers since 9.2 was a double before.
func TestValuesOfOlderServers(t *testing.T) {
	for _, text := range []string{"1e100d", "0x1p3d", strings.Repeat("1", 77) + "d"} {
		if err := Validate([]byte("t f=" + text + "\n")); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLongValuesAreNeverTakenForErrors(t *testing.T) {
	pad := strings.Repeat("\t", valueKeep)
	for _, text := range []string{
		pad + "1", "1" + pad, pad + "NaN", pad + "-Infinity", pad + "0x1.8P-3D" + pad, strings.Repeat("0", 100) + "i", strings.Repeat("0_", 5) + strings.Repeat("0", 40) + "1Li",
		"NaN" + strings.Repeat("?", 50) + "d", strings.Repeat(`\ `, 50) + "1d", strings.Repeat("\\ ", 50) + "NaN?d", strings.Repeat("0", 50) + "1e-5fmd",
		"0x" + strings.Repeat("?", 60) + "i", `\"` + strings.Repeat("?", 60) + `"`,
	} {
		stream := []byte("t f=" + text + ",g=\"\\\n\"\n")
		if err := Validate(stream); err != nil {
			t.Errorf("Validate(%q): %v", stream, err)
		}
		checkSplits(t, stream, []int{len(stream)})
	}
}
