package rejected

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// outcome is the text of each record or error, in order.
func outcome(r *Reader) []string {
	var all []string
	for {
		rec, err := r.Next()
		var line *LineError
		switch {
		case err == nil:
			all = append(all, string(rec.Bytes))
		case errors.As(err, &line):
			all = append(all, "! "+err.Error())
		case err == io.EOF:
			return all
		default:
			return append(all, "!! "+err.Error())
		}
	}
}

func TestReader(t *testing.T) {
	const a, b = `{"record":"a v=1\n"}`, `{"record":"b v=1\n"}`
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":             {"", nil},
		"blank lines":         {"\n \r\n\t\n" + a + "\r\n\n" + b + "\n\n", []string{"a v=1\n", "b v=1\n"}},
		"no line end":         {a + "\n" + b, []string{"a v=1\n", "b v=1\n"}},
		"cut off":             {a + "\n" + b[:9], []string{"a v=1\n", "! line 2: the last line is cut off: it is not JSON: unexpected end"}},
		"BOM":                 {"\uFEFF" + a + "\n", []string{"a v=1\n"}},
		"between":             {a + "\nfoo\n" + b + "\n", []string{"a v=1\n", "! line 2: it is not JSON", "b v=1\n"}},
		"two on a line":       {a + b + "\n", []string{"! line 1: it is not JSON"}},
		"base64":              {`{"record_base64":"/wo="}`, []string{"\xff\n"}},
		"bad base64":          {`{"record_base64":"?"}` + "\n", []string{"! line 1: its record_base64 is not base64"}},
		"both":                {`{"record":"","record_base64":""}` + "\n", []string{"! line 1: it has both"}},
		"neither":             {`{"d":"x"}` + "\n", []string{"! line 1: it has neither"}},
		"nulls":               {`{"record":null,"record_base64":null,"time":null}` + "\n", []string{"! line 1: it has neither"}},
		"a number":            {`{"record":1}` + "\n", []string{"! line 1: its record is not a string"}},
		"an array":            {`[]` + "\n", []string{"! line 1: it is not a JSON object"}},
		"wrong writer":        {`{"writer":1}` + "\n", []string{"! line 1: its writer is of the wrong type"}},
		"wrong time":          {`{"time":"now","record":""}` + "\n", []string{"! line 1: its time is not RFC 3339"}},
		"negative size":       {`{"size":-1,"record":""}` + "\n", []string{"! line 1: its size is negative"}},
		"more members":        {`{"note":[1],"record":"x"}` + "\n", []string{"x"}},
		"Latin-1":             {"{\"record\":\"\xe9\"}\n", []string{"! line 1: it is not UTF-8"}},
		"surrogates":          {`{"record":"\ud83d\ude00 \\ud800 \uFFFD \u00e9"}`, []string{"\U0001F600 \\ud800 \uFFFD é"}},
		"half a pair":         {`{"record":"\uD83D x"}` + "\n", []string{"! line 1: its record has half of a surrogate pair"}},
		"the other half":      {`{"record":"\uDE00"}` + "\n", []string{"! line 1: its record has half of a surrogate pair"}},
		"half a pair and one": {`{"record":"\ud83d\ud83d\ude00"}` + "\n", []string{"! line 1: its record has half of a surrogate pair"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text))} {
				got := outcome(NewReader(r))
				if len(got) != len(c.want) {
					t.Fatalf("got %q, want %q", got, c.want)
				}
				for i, want := range c.want {
					if got[i] != want && !(strings.HasPrefix(want, "!") && strings.HasPrefix(got[i], want)) {
						t.Errorf("got %q, want %q", got[i], want)
					}
				}
			}
		})
	}
}

func TestReaderNeverShowsWhatItRead(t *testing.T) {
	const secret = "5UjEMuA0Pj5pjK8a"
	for _, text := range []string{`{"d":"` + secret + `"}`, secret, `{"time":"` + secret + `"}`, `{"record_base64":"` + secret + `?"}`, `{"size":"` + secret + `"}`, `"` + secret + `"`} {
		if got := outcome(NewReader(strings.NewReader(text + "\n"))); len(got) != 1 || strings.Contains(got[0], secret) {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

func TestReaderIsBounded(t *testing.T) {
	long := `{"record":"` + strings.Repeat("x", 200<<10) + `"}` + "\n"
	short := `{"record":"a"}` + "\n"
	r := NewReader(strings.NewReader(short + long + short + long[:len(long)-1]))
	r.max = 100 << 10
	got := outcome(r)
	want := []string{"a", "! line 2: the line is too long, more than 102400 bytes", "a", "! line 4: the line is too long, more than 102400 bytes"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %.100q", got)
	}
	if r = NewReader(strings.NewReader(long + short)); fmt.Sprint(outcome(r)) != fmt.Sprint([]string{strings.Repeat("x", 200<<10), "a"}) || r.Line() != 3 {
		t.Errorf("a long line came out wrong, at line %d", r.Line())
	}
}

func TestReaderFails(t *testing.T) {
	r := NewReader(io.MultiReader(strings.NewReader(`{"record":"a"}`+"\n"+`{"rec`), iotest.ErrReader(errors.New("broken disk"))))
	if got := outcome(r); len(got) != 2 || got[1] != "!! broken disk" {
		t.Errorf("got %q", got)
	}
}

// FuzzReader looks for panics, endless reading, and records that do not come
// back from a line of their own.
func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-02T03:04:05.678901234Z","writer":"[::1]:2","reason":"refused","table":"t","record_base64":"dCB2PT0Q/wo="}` + "\n"))
	f.Add([]byte(`{"record":"\ud83d\ude00 \u00e9\\u\"\n"}` + "\n\n" + `{"record":"\ud83d`))
	f.Add([]byte(`{"kty":"EC","crv":"P-256","kid":"a","x":"_","y":"_","d":"_"}`))
	f.Add([]byte("\uFEFF{}\r\n[]\n\x00\xff\n{\"size\":-1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for range bytes.Count(data, []byte("\n")) + 2 {
			rec, err := r.Next()
			var line *LineError
			switch {
			case err == io.EOF:
				return
			case errors.As(err, &line):
				if line.Line != r.Line() || !utf8.ValidString(err.Error()) {
					t.Fatalf("line %d: %q", r.Line(), err)
				}
				continue
			case err != nil:
				t.Fatal(err)
			}
			back, err := NewReader(bytes.NewReader(appendLine(nil, &rec))).Next()
			if err != nil || !bytes.Equal(back.Bytes, rec.Bytes) || back.Size != rec.Size {
				t.Fatalf("%q came back as %q, %v", rec.Bytes, back.Bytes, err)
			}
		}
		t.Fatal("there is no end")
	})
}
