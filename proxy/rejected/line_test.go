package rejected

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unicode/utf8"
)

// TestLinesAreJSON has each line be what the JSON package makes of the same record.
func TestLinesAreJSON(t *testing.T) {
	texts := []string{"", "t v=1i\n", "a\r\n\t\"\\", "x\x00y", "\x7f", "é\u2028", "\xff", "<&>", "\b\f", "a b"}
	rng := rand.New(rand.NewPCG(1, 2))
	text := func() (s string) {
		for range rng.IntN(3) {
			s += texts[rng.IntN(len(texts))]
		}
		return s
	}
	for range 2000 {
		r := Record{Time: when.Add(time.Duration(rng.Int64N(1e15))), Remote: text(), Reason: text(), Detail: text(), Table: text(), Size: rng.Int64N(2), Bytes: []byte(text())}
		l := line{Time: r.Time.Format(time.RFC3339Nano), Writer: r.Remote, Reason: r.Reason, Detail: r.Detail, Table: r.Table, Size: r.Size}
		if utf8.Valid(r.Bytes) {
			l.Text = quote(string(r.Bytes))
		} else {
			l.Base64 = &r.Bytes
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(&l); err != nil {
			t.Fatal(err)
		}
		if got := appendLine(nil, &r); !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("got %s want %s", got, want.Bytes())
		}
	}
}

// BenchmarkPut is what a writer costs that sends nothing but rubbish.
func BenchmarkPut(b *testing.B) {
	for name, path := range map[string]string{"log": "", "file": b.TempDir() + "/rejected"} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(Options{Path: path})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			records := make([]Record, 2000)
			for i := range records {
				records[i] = record(fmt.Sprintf("rubbish,number=%d that=is no=record\n", i))
			}
			for b.Loop() {
				if err := s.Put(records...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
		})
	}
}
