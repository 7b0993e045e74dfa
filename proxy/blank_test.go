package proxy

import (
	"bytes"
	"strings"
	"testing"

	"questdb-ilp-proxy/proxy/delivery"
)

func TestManyBlanks(t *testing.T) {
	const longest = blankStep + blankSeen
	if 2*longest >= delivery.MaxBlank {
		t.Errorf("%d bytes of blank lines may stand before a record, and delivery counts on less than %d", 2*longest, delivery.MaxBlank)
	}
	row := "weather,city=Oslo temperature=3.5,note=\"===\" 1700000000000000000\r\n"
	rows := strings.Repeat(row, 50)
	if manyBlanks([]byte(rows)) {
		t.Error("rows are taken for blank lines")
	}
	for at := range blankStep + 1 {
		for _, blank := range []string{"\n", "\r\n", "=\n"} {
			p := rows[:len(row)*20] + strings.Repeat(blank, longest/len(blank)) + strings.Repeat(row, 20)
			if !manyBlanks([]byte(p)[at:]) {
				t.Fatalf("%d bytes of %q are missed, %d before them", longest, blank, len(row)*20-at)
			}
		}
	}
	p := []byte("\n\r\n" + row + "\n\n=\n" + "t v=\"a\\\n\n\n\"\n\nt v=1i\n\n")
	if got, want := string(withoutBlanks(bytes.Clone(p))), strings.TrimSuffix(row, "\n")+"t v=\"a\\\n\n\"\nt v=1i\n"; got != want {
		t.Errorf("%q without blank lines is %q, want %q", p, got, want)
	}
}

func BenchmarkManyBlanks(b *testing.B) {
	p := bytes.Repeat([]byte("weather,city=Oslo temperature=3.5,humidity=81i 1700000000000000000\n"), 128<<10/67)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if manyBlanks(p) {
			b.Fatal("rows are taken for blank lines")
		}
	}
}
