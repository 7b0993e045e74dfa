package ilp

import (
	"errors"
	"strings"
	"testing"
)

// vector is one stream of which is known, from the server's parser, where its records end and which of them it accepts.
type vector struct {
	name   string
	stream string
	// records are the pieces of the stream that end at boundaries and are not blank, with their line ends; those that the
	// server refuses begin with '!'. What is left of the stream are blank lines, or at its end an unfinished record.
	records []string
}

func ten(n int) string { return strings.Repeat("\n", n) }

var vectors = []vector{
	{"1 CRLF", "t f=1i\r\nt f=2i\n", []string{"t f=1i\r", "t f=2i\n"}},
	{"2 CR", "t f=1i\rt f=2i\n", []string{"t f=1i\r", "t f=2i\n"}},
	{"3 blank lines", "\n\nt f=1i\n\n", []string{"t f=1i\n"}},
	{"4 escaped LF in quotes", "t f=\"a\\\nb\"\n", []string{"t f=\"a\\\nb\"\n"}},
	{"5 LF in quotes", "t f=\"a\nb\"\n", []string{"!t f=\"a\n", "!b\"\n"}},
	{"6 CR in quotes", "t f=\"a\rb\"\n", []string{"t f=\"a\rb\"\n"}},
	{"7 escaped quote", "t f=\"a\\\"\n b\" 1\n", []string{"!t f=\"a\\\"\n", "! b\" 1\n"}},
	{"8 escaped backslash in quotes", `t f="a\\"` + "\n", []string{`t f="a\\"` + "\n"}},
	{"9 odd run of backslashes", `t f="a\\\` + "\n" + `x" 1` + "\n", []string{`t f="a\\\` + "\n" + `x" 1` + "\n"}},
	{"10 escaped LF in a tag", "t,s=a\\\nb f=1i\n", []string{"t,s=a\\\nb f=1i\n"}},
	{"11 escaped backslash in a tag", "t,s=a\\\\\nx f=1i\n", []string{"t,s=a\\\\\n", "x f=1i\n"}},
	{"12 three backslashes in a tag", "t,s=a\\\\\\\nb f=1i\n", []string{"t,s=a\\\\\\\nb f=1i\n"}},
	{"13 escaped LF in the table", "t\\\nb f=1i\n", []string{"t\\\nb f=1i\n"}},
	{"14 two backslashes in the table", `t\\b f=1i` + "\n", []string{`!t\\b f=1i` + "\n"}},
	{"15 three backslashes in the table", "t\\\\\\\nb f=1i\n", []string{"!t\\\\\\\n", "b f=1i\n"}},
	{"16 quote in a tag", "t,s=\"a f=1i\n", []string{"t,s=\"a f=1i\n"}},
	{"17 escaped CR", "t,s=a\\\r\nx f=1i\n", []string{"t,s=a\\\r\n", "x f=1i\n"}},
	{"18 escaped LF after an error", "t f=bad,g=\"x\\\ny f=1i\"\n", []string{"!t f=bad,g=\"x\\\n", "!y f=1i\"\n"}},
	{"19 record after an error", "t f=bad,g=\"\\\nx f=1i\n", []string{"!t f=bad,g=\"\\\n", "x f=1i\n"}},
	{"20 CR after an error", "t f=bad,g=\"x\ry f=1i\"\n", []string{"!t f=bad,g=\"x\r", "!y f=1i\"\n"}},
	{"21 comment", "# c\n", []string{"!# c\n"}},
	{"21 space", " \n", []string{"! \n"}},
	{"22 leading equals signs", "==t f=1i\n", []string{"==t f=1i\n"}},
	{"23 space at the end", "t f=1i \n", []string{"t f=1i \n"}},
	{"23 space after the timestamp", "t f=1i 123 \n", []string{"!t f=1i 123 \n"}},
	{"24 no field", "t,a=b\n", []string{"t,a=b\n"}},
	{"24 timestamp without field", "t,a=b 5\n", []string{"t,a=b 5\n"}},
	{"24 empty value", "t f=,g=1i\n", []string{"t f=,g=1i\n"}},
	{"24 comma at the end", "t f=1i,\n", []string{"t f=1i,\n"}},
	{"25 quote after the closing one", "t f=\"a\"\"b\"\n", []string{"!t f=\"a\"\"b\"\n"}},
	{"26 NUL and slash in quotes", "t f=\"\x00/\"\n", []string{"t f=\"\x00/\"\n"}},
	{"26 slash in the table", "t/x f=1i\n", []string{"!t/x f=1i\n"}},
	{"27 escaped opening quote", `t f=\"x"` + "\n", []string{`t f=\"x"` + "\n"}},
	{"30 end without LF", "t f=1i", nil},
	{"30 end after CR", "t f=1i\r", []string{"t f=1i\r"}},
	{"31 double of LFs", "t f==\x10" + ten(8) + "\n", []string{"t f==\x10" + ten(9)}},
	{
		"32 array", "t a==\x0E\x0A\x01\x02\x00\x00\x00" + ten(16) + ",b=1i\n",
		[]string{"t a==\x0E\x0A\x01\x02\x00\x00\x00" + ten(16) + ",b=1i\n"},
	},
	{
		"33 array with a zero dimension", "t a==\x0E\x0A\x02\x00\x00\x00\x00\x05\x00\x00\x00 1\n",
		[]string{"t a==\x0E\x0A\x02\x00\x00\x00\x00\x05\x00\x00\x00 1\n"},
	},
	{"34 null array 33", "t a==\x0E\x21\n", []string{"t a==\x0E\x21\n"}},
	{"34 null array 40", "t a==\x0E\x28\n", []string{"t a==\x0E\x28\n"}},
	{"34 null array 41", "t a==\x0E\x29\n", []string{"t a==\x0E\x29\n"}},
	{"35 decimal", "t d==\x17\x02\x02\x0A\x0A 1\n", []string{"t d==\x17\x02\x02\x0A\x0A 1\n"}},
	{"36 null decimal", "t d==\x17\x02\x00\n", []string{"t d==\x17\x02\x00\n"}},
	{"37 LF as the type", "t f==\x0A\n", []string{"!t f==\x0A"}},
	{
		"38 no separator after a double", "t f==\x10\x01\x02\x03\x04\x05\x06\x07\x0Ax f=1i\n",
		[]string{"!t f==\x10\x01\x02\x03\x04\x05\x06\x07\x0A", "x f=1i\n"},
	},
	{"39 equals sign in a tag", "t,s==a f=1i\n", []string{"!t,s==a f=1i\n"}},
	{"39 binary in quotes", "t f=\"==\x10\n", []string{"!t f=\"==\x10\n"}},
	{
		"40 too large an array", "t a==\x0E\x0A\x01\x00\x00\x00\x10\nx f=1i\n",
		[]string{"!t a==\x0E\x0A\x01\x00\x00\x00\x10\n", "x f=1i\n"},
	},
	{
		"41 large dimensions and a zero", "t a==\x0E\x0A\x03\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\n",
		[]string{"t a==\x0E\x0A\x03\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\n"},
	},
	// 42: 9.3.4 takes in all bytes of a decimal that is too long before it refuses it.
	{"42 long decimal, short of bytes", "t d==\x17\x02\x21\n", nil},
	{"42 long decimal", "t d==\x17\x02\x21" + ten(33) + "\nx f=1i\n", []string{"!t d==\x17\x02\x21" + ten(33), "x f=1i\n"}},
	{"42 long decimal of leading zeros", "t d==\x17\x02\x21\x00" + ten(32) + "\n", []string{"t d==\x17\x02\x21\x00" + ten(32) + "\n"}},
	{"43 underscore", "t f=1_000i\n", []string{"t f=1_000i\n"}},
	{"43 underscore at the end", "t f=1_i\n", []string{"!t f=1_i\n"}},
	{"43 underscore at the start", "t f=_1i\n", []string{"!t f=_1i\n"}},
	{"43 two underscores", "t f=1__0i\n", []string{"!t f=1__0i\n"}},

	{"blank of equals signs", "=\n==\r\nt f=1i\n", []string{"t f=1i\n"}},
	{"escaped timestamp", "t f=1i \\5\n", []string{"t f=1i \\5\n"}},
	{"no table", " f=1i\n", []string{" f=1i\n"}},
	{"empty tag's name", "t, f=1i\n", []string{"t, f=1i\n"}},
	{"tag without value", "t,5\n", []string{"!t,5\n"}},
	{"field without value after a field", "t,a=b f=1i,5\n", []string{"!t,a=b f=1i,5\n"}},
	{"escaped quote at the end of a string", `t f="a"\"` + "\n", []string{`t f="a"\"` + "\n"}},
	{
		"array with negative dimensions", "t a==\x0E\x0A\x02\xff\xff\xff\xff\xff\xff\xff\xff1234567\nx f=1i\n",
		[]string{"!t a==\x0E\x0A\x02\xff\xff\xff\xff\xff\xff\xff\xff1234567\n", "x f=1i\n"},
	},
	{"error within the longest value kept", "t f=" + strings.Repeat("1", 30) + "x,g=\"\\\n\n", []string{
		"!t f=" + strings.Repeat("1", 30) + "x,g=\"\\\n",
	}},
	{"long words", "t f=" + strings.Repeat("xyz", 30) + ",g=\"\\\n\n", []string{
		"!t f=" + strings.Repeat("xyz", 30) + ",g=\"\\\n",
	}},
	{"long256", "t f=0x" + strings.Repeat("ab", 32) + "i,g=\"\\\n\"\n", []string{
		"t f=0x" + strings.Repeat("ab", 32) + "i,g=\"\\\n\"\n",
	}},
	{"long decimal as text", "t f=" + strings.Repeat("1", 76) + "d,g=\"\\\n\"\n", []string{
		"t f=" + strings.Repeat("1", 76) + "d,g=\"\\\n\"\n",
	}},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			var want []int
			rest := v.stream
			for _, r := range v.records {
				record, refused := strings.CutPrefix(r, "!")
				i := strings.Index(rest, record)
				if i < 0 || !IsBlank([]byte(rest[:i])) {
					t.Fatalf("the vector is wrong: no %q in %q", record, rest)
				}
				rest = rest[i+len(record):]
				want = append(want, len(v.stream)-len(rest))

				err := Validate([]byte(record))
				if refused != (err != nil) {
					t.Errorf("Validate(%q): %v", record, err)
				}
				var syntax *SyntaxError
				if refused && (!errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(record) || syntax.Reason == "") {
					t.Errorf("Validate(%q): %#v", record, err)
				}
			}
			if !IsBlank([]byte(rest)) && Validate([]byte(rest)) == nil {
				t.Errorf("Validate(%q) accepts an unfinished record", rest)
			}
			checkSplits(t, []byte(v.stream), want)
			checkTiming(t, []byte(v.stream))
			// Once more far from the start, so that the fast path has had its say.
			before := strings.Repeat("cpu,host=a usage=1.5 1700000000000000000\n", 20)
			for i := range want {
				want[i] += len(before)
			}
			for i := 20; i > 0; i-- {
				want = append([]int{i * len(before) / 20}, want...)
			}
			checkSplits(t, []byte(before+v.stream), want)
		})
	}
}
