package ilp

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"unsafe"
)

// boundaries scans stream in the given chunks and returns where its records ended, blank lines not counted.
func boundaries(t *testing.T, stream []byte, chunks ...int) []int {
	t.Helper()
	var s Scanner
	var ends []int
	pos, lineStart := 0, 0
	for _, size := range chunks {
		chunk := stream[pos : pos+size]
		for len(chunk) > 0 {
			n, ok := s.Next(chunk)
			pos += n
			chunk = chunk[n:]
			if !ok {
				break
			}
			if !IsBlank(stream[lineStart:pos]) {
				ends = append(ends, pos)
			}
			lineStart = pos
		}
	}
	if s.MidRecord() != (lineStart < len(stream)) {
		t.Errorf("MidRecord() = %v with %d bytes behind the last boundary", s.MidRecord(), len(stream)-lineStart)
	}
	return ends
}

// result is what a stream looks like through Scan.
type result struct {
	End, Records int
	State        Scanner
}

// scan gives stream to a Scanner in the given chunks.
func scan(stream []byte, chunks ...int) result {
	var r result
	pos := 0
	for _, size := range chunks {
		end, records := r.State.Scan(stream[pos : pos+size])
		if end > 0 || records > 0 {
			r.End = pos + end
		}
		r.Records += records
		pos += size
	}
	return r
}

// plain is scan by the state machine alone.
func plain(stream []byte) result {
	var r result
	_, last, records := r.State.run(stream, 0, len(stream)+1)
	r.End, r.Records = max(last, 0), records
	return r
}

// visible is what of a scanner's state matters: other fields may hold what was of use in an earlier state.
func visible(s *Scanner) [2]any {
	return [2]any{s.state, s.escape}
}

func single(n int) []int { return slices.Repeat([]int{1}, n) }

// checkSplits asserts that stream has the same boundaries however it is split.
func checkSplits(t *testing.T, stream []byte, want []int) {
	t.Helper()
	if got := boundaries(t, stream, single(len(stream))...); !slices.Equal(got, want) {
		t.Errorf("byte by byte: boundaries %v, want %v", got, want)
	}
	whole := plain(stream)
	if whole.Records != len(want) {
		t.Errorf("state machine: %d records, want %d", whole.Records, len(want))
	}
	check := func(r result, chunks ...int) {
		t.Helper()
		if r.End != whole.End || r.Records != whole.Records || visible(&r.State) != visible(&whole.State) {
			t.Fatalf("in chunks of %v: end %d, %d records, state %v; want %d, %d, %v",
				chunks, r.End, r.Records, visible(&r.State), whole.End, whole.Records, visible(&whole.State))
		}
	}
	check(scan(stream, len(stream)), len(stream))
	check(scan(stream, single(len(stream))...), 1)
	for i := range stream {
		if got := boundaries(t, stream, i, len(stream)-i); !slices.Equal(got, want) {
			t.Fatalf("split at %d: boundaries %v, want %v", i, got, want)
		}
		check(scan(stream, i, len(stream)-i), i, len(stream)-i)
	}
}

var timestamp = regexp.MustCompile(` [0-9]{16,19}[ntm]?\n$`)

func TestStreamsOfClients(t *testing.T) {
	data, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]struct {
		Size, Rows int
		Ends       []int
	}
	if err := json.Unmarshal(data, &expected); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.ilp")
	if err != nil || len(files) != len(expected) {
		t.Fatalf("%d streams, %v; expected.json tells of %d", len(files), err, len(expected))
	}
	for name, want := range expected {
		t.Run(name, func(t *testing.T) {
			stream, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			if len(stream) != want.Size || len(want.Ends) != want.Rows {
				t.Fatalf("%d bytes, %d ends; expected.json says %d and %d", len(stream), len(want.Ends), want.Size, want.Rows)
			}
			if len(stream) > 2000 && (testing.Short()) {
				// Its records are alike.
				stream, want.Ends = stream[:want.Ends[4]], want.Ends[:5]
			}
			checkSplits(t, stream, want.Ends)
			checkTiming(t, stream)
			start := 0
			for _, end := range want.Ends {
				if err := Validate(stream[start:end]); err != nil {
					t.Errorf("record %q: %v", stream[start:end], err)
				}
				// Clients send integers, with a unit or without, or nothing.
				wantTiming := Untimed
				if timestamp.Match(stream[start:end]) {
					wantTiming = Timed
				}
				if size, timing := First(stream[start:]); size != end-start || timing != wantTiming {
					t.Errorf("record %q of %d bytes: First says %d, %s", stream[start:end], end-start, size, timings[timing])
				}
				start = end
			}
		})
	}
}

func TestBoundaryBetweenChunks(t *testing.T) {
	// The separator is wrong, so the error is at the payload's last byte, and that is an LF.
	var s Scanner
	if end, records := s.Scan([]byte("t f==\x10\x00\x00\x00\x00\x00\x00\x00\n")); end != 0 || records != 0 {
		t.Fatalf("end %d, %d records before the error can be known", end, records)
	}
	if end, records := s.Scan([]byte("x f=1i")); end != 0 || records != 1 {
		t.Errorf("end %d, %d records, want 0, 1", end, records)
	}
	if end, records := s.Scan([]byte("\n")); end != 1 || records != 1 {
		t.Errorf("end %d, %d records, want 1, 1", end, records)
	}
}

// TestDoubles has what may follow a binary double looked at in one chunk, where many of them are gone over at once, and byte by byte.
func TestDoubles(t *testing.T) {
	const payload = "\n\r,=\\ \n\n"
	double := "==\x10" + payload
	for _, next := range []string{
		"g" + double + ",h" + double + ",", "g" + double + " ", "g" + double + "\n", "g" + double + "x", "g" + double + ",h=1i,",
		double + ",", "g=1\x10" + payload + ",", "g=\x10" + payload + ",", "g==\x0f" + payload + ",", "g==\x06\n,", "g==\x1012345678\n\n,",
		"a-b" + double + ",", "a.b" + double + ",", "a\\=b" + double + ",", "a b" + double + ",", "\"" + double + ",", "\x00" + double + ",",
		"a\\=\x10" + payload + ",", "a =\x10" + payload + ",", "a,=\x10" + payload + ",",
		"of_eight" + double + ",", "of_nine_9" + double + ",", "longer_than_two_words" + double + ",", "longer_than_two_words=1,", "0123456" + double + " ",
	} {
		for _, end := range []string{"", "\n", "h" + double + ",\n", "1700000000000000000\nt v=1i\n", "k" + double + "\nt v=1i\n"} {
			stream := []byte("t f" + double + "," + next + end)
			for n := range len(stream) + 1 {
				checkChunks(t, stream[:n], single(n))
			}
		}
	}
}

func TestMidRecord(t *testing.T) {
	for stream, want := range map[string]bool{
		"": false, "\n": false, "t": true, "t f=1i\n": false, "t f=1i\nt": true, "=": true, "=\n": false, `\`: true, "t f==\x10": true,
	} {
		var s Scanner
		s.Scan([]byte(stream))
		if got := s.MidRecord(); got != want {
			t.Errorf("after %q: MidRecord() = %v", stream, got)
		}
		if s.Reset(); s.MidRecord() {
			t.Errorf("after %q and Reset: MidRecord()", stream)
		}
	}
}

func TestScannerIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Scanner{}); size > 64 {
		t.Errorf("a Scanner takes %d bytes", size)
	}
}

func TestNoAllocations(t *testing.T) {
	for name, stream := range benchmarkStreams() {
		t.Run(name, func(t *testing.T) {
			var s Scanner
			if n := testing.AllocsPerRun(10, func() { s.Scan(stream) }); n != 0 {
				t.Errorf("Scan: %v allocations", n)
			}
			s.Reset()
			if n := testing.AllocsPerRun(10, func() { s.Next(stream) }); n != 0 {
				t.Errorf("Next: %v allocations", n)
			}
		})
	}
}
