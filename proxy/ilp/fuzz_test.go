package ilp

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "seed of TestRandomStreams; 0 takes the time")

// pieces are what streams are made of here: all that has a meaning somewhere.
var pieces = []string{
	"t", "cpu", "a", ",", ",", "=", "=", " ", " ", "\n", "\n", "\r", "\r\n", `\`, `\\`, "\\\n", "\\\"", `"`, `""`, "\x00", "/", "bad", "1i", "1.5", "1n",
	"1_0i", "0xabi", "1d", "true", "9223372036854775808i", "1e400", "12345678901234567890123456789012345678901234567890", "é", "\xff",
	"t f=1i\n", "t,a=b f=", " f=", ",g=", "cpu,host=server-01 usage=12.5,idle=84.25 1700000000000000000\n", " 123\n", "\n\n\n", "\r\n\r\n",
	"==\x06\n", "==\x10\x00\n\r\"\\\n\n\n", "==\x10", "==\x0f12345678", "==\x02\n\n\n\n", "==\x0dn\n\n\n\n\n\n\n\n", "==\x0e", "==\x0e\x29",
	"g==\x10\n\r,=\\ \n\n,", "g==\x10\n\r,=\\ \n\n,", "a_longer_name==\x10\n\n\n\n\n\n\n\n ", "t f==\x1012345678,",
	"==\x0e\x0a\x01\x02\x00\x00\x00\n\n\n\n\n\n\n\n\\\"\n\n\n\n\n\n", "==\x0e\x0a\x02\x00\x00\x00\x00\x05\x00\x00\x00", "==\x0e\x0a\x01\x00\x00\x00\x10",
	"==\x0e\x0a\x02\xff\xff\xff\xff\xff\xff\xff\xff12345678", "==\x17\x02\x02\n\n", "==\x17\x02\x00", "==\x17\x02\x21\x00", "==\x0a",
}

// seeds gives every fuzz target the vectors and the streams of real clients.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	var all [][]byte
	for _, v := range vectors {
		all = append(all, []byte(v.stream))
	}
	files, err := filepath.Glob("testdata/*.ilp")
	if err != nil || len(files) == 0 {
		f.Fatalf("streams of clients: %v, %v", files, err)
	}
	for _, name := range files {
		stream, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, stream[:min(len(stream), 1500)])
	}
	return all
}

// randomChunks cuts n bytes into chunks, small ones for the most part.
func randomChunks(r *rand.Rand, n int) []int {
	var chunks []int
	for n > 0 {
		limit := 10
		if r.IntN(4) == 0 {
			limit = 300
		}
		size := min(n, r.IntN(limit))
		chunks = append(chunks, size)
		n -= size
	}
	return chunks
}

// checkChunks asserts that stream looks the same in these chunks as in one.
func checkChunks(t *testing.T, stream []byte, chunks []int) {
	t.Helper()
	whole := boundaries(t, stream, len(stream))
	if got := boundaries(t, stream, chunks...); !slices.Equal(got, whole) {
		t.Fatalf("%q in chunks of %v: boundaries %v, in one chunk %v", stream, chunks, got, whole)
	}
	want := plain(stream)
	got := scan(stream, chunks...)
	if got.End != want.End || got.Records != want.Records || visible(&got.State) != visible(&want.State) {
		t.Fatalf("%q in chunks of %v: end %d, %d records, state %v; want %d, %d, %v", stream, chunks,
			got.End, got.Records, visible(&got.State), want.End, want.Records, visible(&want.State))
	}
}

// checkRows asserts that scanRows and the state machine agree on as much of stream as scanRows looks through, which it returns.
func checkRows(t *testing.T, stream []byte) int {
	t.Helper()
	done, records := scanRows(stream)
	want := plain(stream[:done])
	if records != want.Records || done != want.End || want.State.state != atStart {
		t.Fatalf("%q, rows up to %d: %d records; want %d, end %d, state %v", stream, done, records, want.Records, want.End, visible(&want.State))
	}
	return done
}

// checkFast asserts that all fast paths and the state machine agree on stream.
func checkFast(t *testing.T, stream []byte) {
	t.Helper()
	checkChunks(t, stream, []int{len(stream)})
	checkRows(t, stream)
	for name, fast := range map[string]func([]byte) (int, int, int){"words": scanTextWords, "this machine's": scanText} {
		done, records, last := fast(stream)
		// The state machine may see one boundary more, if done is between CR and LF.
		want := plain(stream[:last])
		if records != want.Records || last != want.End || want.State.state != atStart {
			t.Fatalf("%q, %s fast path up to %d: %d records, end %d; want %d, %d", stream, name, done, records, last, want.Records, want.End)
		}
		if rest := plain(stream[last:done]); rest.Records > 1 {
			t.Fatalf("%q, %s fast path up to %d: misses %d records behind %d", stream, name, done, rest.Records, last)
		}
	}
}

// checkValid asserts that a record that Validate accepts is one for the scanner too.
func checkValid(t *testing.T, record []byte) {
	t.Helper()
	_, _ = Table(record)
	if Validate(record) != nil || IsBlank(record) {
		return
	}
	if v := (validator{b: bytes.TrimLeft(record, "\r\n=")}); v.record() != nil || v.unclear {
		return // accepted because it is not clear what it is
	}
	r := plain(record)
	if r.Records != 1 || r.End != len(bytes.TrimRight(record, "=")) {
		t.Fatalf("valid record %q: the scanner finds %d records up to %d", record, r.Records, r.End)
	}
	if _, ok := Table(record); !ok {
		t.Fatalf("valid record %q: no table", record)
	}
}

func FuzzSplit(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s, uint64(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		checkChunks(t, stream, randomChunks(r, len(stream)))
		checkChunks(t, stream, single(len(stream)))
	})
}

func FuzzFast(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, uint8(3), uint8(0))
		f.Add(s, uint8(1), uint8(100))
	}
	text := bytes.Repeat([]byte("cpu,a=b f=1\n"), 100)
	f.Fuzz(func(t *testing.T, stream []byte, times, before uint8) {
		if len(stream) > 4096 {
			return
		}
		long := slices.Concat(text[:int(before)*4], bytes.Repeat(stream, int(times%8)), text[:200])
		checkFast(t, long)
		checkFast(t, stream)
	})
}

func FuzzValidate(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	for _, v := range values {
		f.Add([]byte("t f=" + v.text + "\n"))
	}
	f.Fuzz(checkValid)
}

// TestRandomStreams is a short run of what the fuzz targets do, on streams made of pieces that mean something.
func TestRandomStreams(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (go test -run TestRandomStreams -args -seed %d)", seed, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		var stream []byte
		common := r.IntN(20) // so many of 20 pieces are whole records, of plain text or with binary values
		binary := r.IntN(2) == 0
		for range r.IntN(60) {
			switch x := r.IntN(20); {
			case x < common && binary:
				stream = append(stream, "cpu,host=a usage==\x10\n,= \\\r\"/,n=1i,b==\x06\x01 1700000000\n"...)
			case x < common:
				stream = append(stream, "cpu,host=a usage=1.5 1700000000\n"...)
			default:
				stream = append(stream, pieces[r.IntN(len(pieces))]...)
			}
		}
		checkFast(t, stream)
		checkChunks(t, stream, randomChunks(r, len(stream)))
		checkTiming(t, stream)

		start := 0
		for _, end := range boundaries(t, stream, len(stream)) {
			checkValid(t, stream[start:end])
			start = end
		}
	}
}
