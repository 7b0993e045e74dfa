package ilp

import (
	"strings"
	"testing"
)

const chunk = 128 << 10

// benchmarkStreams are whole records of about a chunk.
func benchmarkStreams() map[string][]byte {
	fill := func(records ...string) []byte {
		var b []byte
		for i := 0; len(b) < chunk; i++ {
			b = append(b, records[i%len(records)]...)
		}
		return b
	}
	text := "cpu,cpu=cpu-total,host=server-01 usage_user=12.5,usage_system=3.25,usage_idle=84.25,count=17i 1700000000000000000\n"
	escaped := "cpu,cpu=cpu\\ total,host=server-01 usage_user=12.5,usage_system=3.25,usage_idle=84.25,count=17i 1700000000000000000\n"
	few := append(slicesOf(text, 99), escaped)
	double := "\x10\x0a\x0d\x22\x5c\x00\x00\xf0\x3f"
	trade := "trades,symbol=ETH-USD,side=sell price==" + double + ",amount==" + double + " 1646762637609765000\n"
	wide := "cpu,host=server-01 " + strings.Repeat("usage=="+double+",", 20) + "n=1i 1700000000000000000\n"
	array := "book,symbol=ETH-USD bids==\x0e\x0a\x02\x02\x00\x00\x00\x32\x00\x00\x00" + strings.Repeat("\x0a\x0d\x22\x5c\x00\x00\xf0\x3f", 100) +
		" 1646762637609765000\n"
	return map[string][]byte{
		"Text":        fill(text),
		"CRLF":        fill(strings.ReplaceAll(text, "\n", "\r\n")),
		"FewEscapes":  fill(few...),
		"AllEscaped":  fill(escaped),
		"Quoted":      fill("log,host=a msg=\"" + strings.Repeat("some words, \\\"quoted\\\" and not; ", 5) + "\" 1700000000000000000\n"),
		"Doubles":     fill(trade),
		"WideDoubles": fill(wide),
		"Arrays":      fill(array),
	}
}

func slicesOf(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func BenchmarkScan(b *testing.B) {
	for name, stream := range benchmarkStreams() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			var s Scanner
			for b.Loop() {
				s.Scan(stream)
			}
		})
	}
}

// BenchmarkScanSmall is a chunk of one record, as of ten thousand slow writers.
func BenchmarkScanSmall(b *testing.B) {
	line := []byte("cpu,host=server-01 usage_user=12.5,usage_system=3.25 1700000000000000000\n")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	var s Scanner
	for b.Loop() {
		s.Scan(line)
	}
}

func BenchmarkMachine(b *testing.B) {
	stream := benchmarkStreams()["Text"]
	b.SetBytes(int64(len(stream)))
	var s Scanner
	for b.Loop() {
		s.run(stream, 0, len(stream)+1)
	}
}

func BenchmarkWords(b *testing.B) {
	stream := benchmarkStreams()["Text"]
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		scanTextWords(stream)
	}
}

func BenchmarkValidate(b *testing.B) {
	line := []byte("cpu,host=server-01 usage_user=12.5,usage_system=3.25 1700000000000000000\n")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(line); err != nil {
			b.Fatal(err)
		}
	}
}
