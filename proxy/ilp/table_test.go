package ilp

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	for record, want := range map[string]string{
		"t v=1i\n": "t", "\n\r\nt,a=b v=1i\n": "t", `my\ table v=1i` + "\n": "my table", "Zürich v=1i\n": "Zürich",
		"caf\xe9 v=1i\n": "caf", "caf\xe9:x v=1i\n": "caf", "\xe9 v=1i\n": "", "a\xc3 v=1i\n": "a", "ov\xc0\xafz v=1i\n": "ov",
		"su\xed\xa0\x80z v=1i\n": "su", "a\ufffdb v=1i\n": "a\ufffdb",
	} {
		if got, ok := Table([]byte(record)); got != want || !ok {
			t.Errorf("%q is for %q, %v; want %q", record, got, ok, want)
		}
	}
	if got, ok := Table([]byte("t=1\n")); ok {
		t.Errorf("a record without a table is for %q", got)
	}
}

// TestTableFault: what stands for a fault has it, and no other.
func TestTableFault(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, want := range map[string]string{
		"": "", ".t": "..", "..": "..", "a..b": "..", "t.": "..", " t": " ", "t ": " ", "a/b": "/", "a,b": ",", "a:b": ":", "cpu:2": ":",
		"a\x01b": "\x01", "a\x7fb": "\x7f", "a~b:": "~", "\ufefft": "\ufeff", "a'b": "'", long: long, strings.Repeat("€", 100): long,
	} {
		fault, illegal := TableFault(name)
		if same, still := TableFault(fault); fault != want || !illegal || !still || same != fault {
			t.Errorf("%.20q: %.20q, %v; want %.20q, which has the same fault: %.20q, %v", name, fault, illegal, want, same, still)
		}
	}
	for _, name := range []string{"t", "my table", "file.csv", "Zürich", "a\x10", long[:255]} {
		if fault, illegal := TableFault(name); illegal {
			t.Errorf("%q is not allowed: %q", name, fault)
		}
	}
}
