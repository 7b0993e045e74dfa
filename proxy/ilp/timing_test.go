package ilp

import (
	"bytes"
	"strings"
	"testing"
)

var timings = map[Timing]string{Unknown: "unknown", Blank: "blank", Timed: "timed", Untimed: "untimed", UntimedSpace: "untimed, with a space"}

func TestFirst(t *testing.T) {
	double := "\x10\n\r\"\\ 12\n"
	for _, c := range []struct {
		record string
		want   Timing
	}{
		{"\n", Blank},
		{"\r\n\n\r", Blank},
		{"==\n", Blank},
		{"==\r", Blank},

		{"t f=1i 1700000000000000000\n", Timed},
		{"==t f=1i 5\n", Timed},
		{"t f=1i 5\r", Timed},
		{"t f=1i 1700000000000n\n", Timed},
		{"t f=1i 1700000000000t\n", Timed},
		{"t f=1i 1700000000000m\n", Timed},
		{"t f=1i 1_700_000\n", Timed},
		{"t f=1i -9223372036854775808\n", Timed},
		{"t f=1i 0\n", Timed},
		{"t f=1i \\5\n", Timed},
		{"t,a=b 5\n", Timed},
		{"t,a=b  5\n", Timed},
		{"t,a=b, 5\n", Timed},
		{"t f= 5\n", Timed},
		{"t f=1i, 5\n", Timed},
		{"t f=\"a\\\nb\" 5\n", Timed},
		{"t f==" + double + " 5\n", Timed},

		{"t f=1i\n", Untimed},
		{"t f=1i\r", Untimed},
		{"==t f=1i\n", Untimed},
		{" f=1i\n", Untimed},
		{"t, f=1i\n", Untimed},
		{"t f=\n", Untimed},
		{"t f=1i,\n", Untimed},
		{"t f=t\n", Untimed},
		{"t f=1700000000t\n", Untimed}, // a timestamp as a value
		{"t f=\"a 5\"\n", Untimed},
		{"t f=\"a\\\nb\"\n", Untimed},
		{"t f=\"a\r5\"\n", Untimed},
		{"t f=\"a\"\\\"\n", Untimed},
		{"t f=\\\"x 5\n", Unknown},
		{"t f=\\\"x\\ 5\"\n", Untimed},
		{"t,a=b\n", Untimed},
		{"t,a=\n", Untimed},
		{"t,a=b,\n", Untimed},
		{"t,a=b\\ 5\n", Untimed},
		{"t,a=b\\ \n", Untimed},
		{"t f==" + double + "\n", Untimed},
		{"t f==" + double + "\r", Untimed},
		{"t a==\x0E\x29\n", Untimed},
		{"t a==\x0E\x0A\x01\x01\x00\x00\x00\n\n\n\n\n\n\n\n\n", Untimed},
		{"t d==\x17\x02\x02\n\n\n", Untimed},

		{"t f=1i \n", UntimedSpace},
		{"t f=1i \r", UntimedSpace},
		{"t f=\"a\" \n", UntimedSpace},
		{"t f=1i, \n", UntimedSpace},
		{"t f= \n", UntimedSpace},
		{"t,a=b \n", UntimedSpace},
		{"t,a=b  \n", UntimedSpace},
		{"t f==" + double + " \n", UntimedSpace},

		{"# c\n", Unknown},
		{" \n", Unknown},
		{"t\n", Unknown},
		{"t \n", Unknown},
		{"t  \n", Unknown},
		{"t  5\n", Unknown},
		{"t f=bad\n", Unknown},
		{"t f=1_i\n", Unknown},
		{"t f=1i 5 \n", Unknown},
		{"t f=1i 5 6\n", Unknown},
		{"t f=1i 5x\n", Unknown},
		{"t f=1i n\n", Unknown},
		{"t f=1i 1e9\n", Unknown},
		{"t f=1i 99999999999999999999999\n", Unknown},
		{"t,a=b c\n", Unknown},
		{"t f=\"a\n", Unknown},
		{"t f=\"a\"b\n", Unknown},
		{"t f=,g=\"a\"\n", Untimed},
		{"t f=\\x\"y\"\n", Unknown}, // how it is read depends on how TCP split it
		{"t f==\n", Unknown},
		{"t f==\x10\x01\x02\x03\x04\x05\x06\x07\n", Unknown}, // the LF is the value's last byte, and no separator follows
	} {
		// What follows must not matter.
		for _, rest := range []string{"", "x y=1i\n", "\n", "5\n", "\r\n"} {
			p := []byte(c.record + rest)
			if c.want == Blank && IsBlank([]byte(rest[:min(len(rest), 1)])) && rest != "" {
				continue // more of the same
			}
			if strings.HasSuffix(c.record, "\x07\n") && rest != "" && isEnd(rest[0]) {
				continue // a separator
			}
			size, got := First(p)
			if got != c.want || size != min(len(c.record), len(p)) {
				t.Errorf("First(%q) = %d, %s; want %d, %s", p, size, timings[got], len(c.record), timings[c.want])
			}
		}
	}
}

// checkTiming asserts that First delimits stream, which may end within a record, as the scanner does, knows what Validate
// accepts, and that a record without a timestamp is one with a timestamp when it has got it.
func checkTiming(t *testing.T, stream []byte) {
	t.Helper()
	const stamp = "1700000000123456789"
	var want []int
	var s Scanner
	for pos := 0; pos < len(stream); {
		n, _ := s.Next(stream[pos:])
		pos += n
		want = append(want, pos)
	}
	for pos := 0; pos < len(stream); {
		size, timing := First(stream[pos:])
		p := stream[pos : pos+size]
		pos += size
		for len(want) > 0 && want[0] < pos && timing == Blank {
			want = want[1:]
		}
		if len(want) == 0 || want[0] != pos {
			t.Fatalf("%q: First ends a record at %d, the scanner at %v", stream, pos, want)
		}
		want = want[1:]
		if (timing == Blank) != IsBlank(p) || timing != Unknown && Validate(p) != nil {
			t.Fatalf("First: %q is %s; Validate: %v", p, timings[timing], Validate(p))
		}
		add := stamp
		switch timing {
		case Untimed:
			add = " " + stamp
		case UntimedSpace:
		default:
			continue
		}
		stamped := append(append(append([]byte(nil), p[:size-1]...), add...), p[size-1])
		if n, now := First(append(stamped, "x"...)); n != len(stamped) || now != Timed || Validate(stamped) != nil {
			t.Fatalf("%q becomes %q: %d, %s, %v", p, stamped, n, timings[now], Validate(stamped))
		}
		if r := plain(stamped); r.Records != 1 || r.End != len(stamped) {
			t.Fatalf("%q becomes %q: the scanner finds %d records up to %d", p, stamped, r.Records, r.End)
		}
	}
}

func FuzzFirst(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
		f.Add(bytes.ReplaceAll(s, []byte(" 1700000000123456789\n"), []byte("\n")))
	}
	for _, v := range values {
		f.Add([]byte("t f=" + v.text + "\n"))
	}
	f.Fuzz(checkTiming)
}

func TestFirstDoesNotAllocate(t *testing.T) {
	streams := benchmarkStreams()
	streams["Garbage"] = []byte(strings.Repeat("x y z\nt f=\"a\nb\"\n# comment\n", 100))
	streams["EscapedNames"] = []byte(strings.Repeat("a\\ b,c\\,d=e\\ f g\\=h=\"i\"\\\",j=\\\"k\\ l\" 5\n", 100))
	for name, stream := range streams {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(10, func() { eachFirst(stream) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func eachFirst(p []byte) (records int) {
	for len(p) > 0 {
		n, t := First(p)
		if t != Blank {
			records++
		}
		p = p[n:]
	}
	return records
}

func BenchmarkFirst(b *testing.B) {
	streams := benchmarkStreams()
	streams["Untimed"] = bytes.ReplaceAll(streams["Text"], []byte(" 1700000000000000000\n"), []byte("\n"))
	streams["Garbage"] = bytes.Repeat([]byte("x y z\n"), chunk/6)
	for name, stream := range streams {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			records := 0
			for b.Loop() {
				records += eachFirst(stream)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
		})
	}
}
