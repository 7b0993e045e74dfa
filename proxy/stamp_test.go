package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/ilp"
)

// records cuts whole records, and blank lines, as the scanner delimits them. What
// the last of them lacks does not matter.
func records(p []byte) (all [][]byte) {
	for record := range eachRecord(p) {
		all = append(all, record)
	}
	return all
}

// checkStamped asserts that got is the whole records in sent with stamps, and
// returns those: every record is there, as it was but for its stamp; it has one if
// it had no timestamp and is not malformed, and is well-formed exactly if it was.
func checkStamped(t testing.TB, sent, got []byte) (stamps []int64) {
	t.Helper()
	before, after := records(sent), records(got)
	if len(before) != len(after) {
		t.Fatalf("%d records sent and %d arrived:\n%.500q\n%.500q", len(before), len(after), sent, got)
	}
	for i, was := range before {
		is := after[i]
		_, timing := ilp.First(was)
		if a, b := fmt.Sprint(ilp.Validate(was)), fmt.Sprint(ilp.Validate(is)); a != b {
			t.Fatalf("%q: %s; with a stamp %q: %s", was, a, is, b)
		}
		if timing != ilp.Untimed && timing != ilp.UntimedSpace {
			if !bytes.Equal(was, is) {
				t.Fatalf("%q was changed to %q", was, is)
			}
			continue
		}
		end := len(was) - 1
		stamp, ok := bytes.CutPrefix(is, was[:end])
		if timing == ilp.Untimed && ok {
			stamp, ok = bytes.CutPrefix(stamp, []byte(" "))
		}
		stamp, whole := bytes.CutSuffix(stamp, was[end:])
		at, err := strconv.ParseInt(string(stamp), 10, 64)
		if !ok || !whole || err != nil || len(stamp) != len(strconv.FormatInt(at, 10)) {
			t.Fatalf("%q became %q", was, is)
		}
		if _, now := ilp.First(is); now != ilp.Timed {
			t.Fatalf("%q became %q, which has no timestamp", was, is)
		}
		stamps = append(stamps, at)
	}
	checkIncrease(t, stamps)
	return stamps
}

// checkIncrease asserts that no two stamps are the same in microseconds, and none
// is before the one before it.
func checkIncrease(t testing.TB, stamps []int64) {
	t.Helper()
	for i := 1; i < len(stamps); i++ {
		if stamps[i]/1000 <= stamps[i-1]/1000 {
			t.Fatalf("stamp %d is %d and the one before it %d", i, stamps[i], stamps[i-1])
		}
	}
}

// jumpy is a clock that jumps back as often as ahead.
func jumpy() func() int64 {
	var n atomic.Int64
	return func() int64 {
		const base, second = 1700000000_000000000, 1_000_000_000
		return base + n.Add(1)%7*second
	}
}

// rowsOf makes n records of which some have timestamps, of all kinds.
func rowsOf(rng *rand.Rand, n, longest int) []byte {
	var b []byte
	for i := range n {
		b = append(b, "t,w=a\\ b v="...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, 'i')
		if rng.IntN(3) == 0 {
			size := rng.IntN(100)
			if rng.IntN(30) == 0 {
				size = rng.IntN(longest)
			}
			b = append(b, `,s="`+strings.Repeat("x\\\n ", size/4)+`"`...)
		}
		if rng.IntN(5) == 0 {
			b = append(b, ",d==\x10\n\r\"\\ 5\n\n"...)
		}
		b = append(b, []string{"\n", "\n", "\r\n", " \n", ",\n", "\n\n", " 1700000000000000000\n", " 1700000000000m\n"}[rng.IntN(8)]...)
	}
	return b
}

// newStamping runs a server that gives stamps, if they are asked for, before a QuestDB
// that takes everything.
func newStamping(t *testing.T, o Options, do delivery.Options) (*Server, *picky) {
	t.Helper()
	db := new(picky)
	do.Source, do.Gather, do.NoPathCheck, do.AtMostOnce = db, o.Stamp, true, true
	do.MaxRecord = o.MaxRecord
	do.Metrics = delivery.NewMetrics(prometheus.NewRegistry())
	o.Dispatcher = delivery.New(do)
	o.Metrics = NewMetrics(prometheus.NewRegistry())
	srv := NewServer(o)
	t.Cleanup(func() {
		srv.Close()
		o.Dispatcher.Close()
	})
	return srv, db
}

// writer connects to the server.
func writer(t *testing.T, srv *Server) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// rows are records without the blank lines between them: one that arrives alone is
// the same as padding.
func rows(p []byte) (rows []byte) {
	for _, r := range records(p) {
		if !ilp.IsBlank(r) {
			rows = append(rows, r...)
		}
	}
	return rows
}

// stamped waits until the records in sent have arrived, and returns their stamps.
func (p *picky) stamped(t testing.TB, sent []byte) (stamps []int64) {
	t.Helper()
	sent = rows(sent)
	size := len(sent)
	for _, r := range records(sent) {
		switch _, timing := ilp.First(r); timing {
		case ilp.Untimed:
			size += stampSize
		case ilp.UntimedSpace:
			size += stampSize - 1
		}
	}
	var got []byte
	await(t, "the rows", func() bool {
		if len(p.received()) < size {
			return false
		}
		got = rows([]byte(p.received()))
		return len(got) >= size
	})
	return checkStamped(t, sent, got)
}

// TestStamps has rows arrive with stamps, and as they were without them, however the
// stream is cut, also with a memory of very small blocks.
func TestStamps(t *testing.T) {
	for _, c := range []struct {
		name   string
		stamp  bool
		memory int64
	}{{"on", true, 0}, {"small", true, 256 << 10}, {"off", false, 0}} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(c.memory), 3))
			srv, db := newStamping(t, Options{MaxRecord: 64 << 10, Stamp: c.stamp, now: jumpy()}, delivery.Options{Memory: c.memory})
			sent := rowsOf(rng, 6_000, 60<<10)
			conn := writer(t, srv)
			for rest := sent; len(rest) > 0; {
				k := min(len(rest), 1+rng.IntN([]int{3, 300, 100 << 10}[rng.IntN(3)]))
				send(t, conn, string(rest[:k]))
				rest = rest[k:]
			}
			_ = conn.CloseWrite()
			awaitEnd(t, conn)
			if !c.stamp {
				want := rows(sent)
				await(t, "the rows", func() bool { return len(rows([]byte(db.received()))) >= len(want) })
				if !bytes.Equal(rows([]byte(db.received())), want) {
					t.Error("the rows were changed")
				}
				if n := testutil.ToFloat64(srv.m.stamped); n != 0 {
					t.Errorf("%v records stamped", n)
				}
				return
			}
			stamps := db.stamped(t, sent)
			if n := testutil.ToFloat64(srv.m.stamped); len(stamps) < 3_000 || float64(len(stamps)) != n {
				t.Errorf("%d stamps, %v counted", len(stamps), n)
			}
		})
	}
}

// TestStampOfLongRecords has records with memory of their own, up to the longest;
// one that is too long for a stamp goes without.
func TestStampOfLongRecords(t *testing.T) {
	const limit = 256 << 10
	srv, db := newStamping(t, Options{MaxRecord: limit, Stamp: true}, delivery.Options{Memory: 1 << 20})
	if size := srv.o.Dispatcher.BlockSize(); size > limit/2 {
		t.Fatalf("blocks of %d bytes", size)
	}
	row := func(size int) string { return "t s=\"" + strings.Repeat("y", size-len("t s=\"\"\n")) + "\"\n" }
	var sent []byte
	c := writer(t, srv)
	for _, size := range []int{limit / 2, limit - stampSize, 10, limit - stampSize - 1, 10} {
		r := row(size)
		sent = append(sent, r...)
		send(t, c, r[:size/2])
		await(t, "half a row to be read", func() bool { return srv.m.bytes.Load() == int64(len(sent)-size+size/2) })
		send(t, c, r[size/2:])
	}
	if n := len(db.stamped(t, sent)); n != 5 {
		t.Errorf("%d stamps", n)
	}
	long := row(limit - stampSize + 1)
	before := len(db.received())
	send(t, c, long)
	await(t, "the long row", func() bool { return len(db.received()) >= before+len(long) })
	if db.received()[before:] != long {
		t.Error("a row was stamped that is too long then, or changed")
	}
	if n := testutil.ToFloat64(srv.m.stamped); n != 5 {
		t.Errorf("%v records counted as stamped, want 5", n)
	}
}

// TestStampOfDatagrams has records of datagrams stamped, the last one without an LF
// too, and small ones by the thousand in one.
func TestStampOfDatagrams(t *testing.T) {
	srv, db := newStamping(t, Options{Stamp: true, now: jumpy()}, delivery.Options{Memory: 256 << 10})
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeUDP(l, false) }()
	defer func() {
		srv.Close()
		<-served
	}()
	c, err := net.Dial("udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var sent []byte
	for _, datagram := range []string{
		"t v=1i", "t v=2i\nt v=3i 1700000000000000000", "t v=4i ", "t v=5i\r\n", strings.Repeat("a b=\n", 13_000), "t v=6i",
	} {
		send(t, c, datagram)
		if sent = append(sent, datagram...); !strings.HasSuffix(datagram, "\n") {
			sent = append(sent, '\n')
		}
	}
	if n := len(db.stamped(t, sent)); n != 13_005 {
		t.Errorf("%d stamps", n)
	}
}

// TestStampsNeedNoClock has stamps follow each other, and be after 1970, where the
// clock is wrong and stands still.
func TestStampsNeedNoClock(t *testing.T) {
	for name, now := range map[string]int64{"1970": 0, "before 1970": -5_000_000_000, "now": 1_700_000_000_000_000_000} {
		s := &stamper{now: func() int64 { return now }, most: 1 << 20}
		var stamps []int64
		for range 3 {
			sent := []byte("t v=1i\nt v=2i\n")
			p := make([]byte, 200)
			n, _ := s.stamp(p, 200-copy(p[200-len(sent):], sent), 200)
			stamps = append(stamps, checkStamped(t, sent, p[:n])...)
		}
		if checkIncrease(t, stamps); len(stamps) != 6 || stamps[0] <= 0 {
			t.Errorf("%s: %d", name, stamps)
		}
	}
}

// readStamped gives stream to a stamper as a session does that reads into memory of
// some size, in chunks of any, and returns what goes upstream.
func readStamped(t testing.TB, stream []byte, size int, chunk func() int) (whole, stamped []byte) {
	s := &stamper{now: jumpy(), most: size}
	var scan ilp.Scanner
	var fragment []byte
	for len(stream) > 0 {
		p := make([]byte, size)
		kept := fragment
		if len(kept) > size/2 {
			kept = nil
		}
		from, to := stampWindow(size, len(kept))
		n := copy(p[from:to], stream[:min(len(stream), max(chunk(), 1))])
		if n == 0 {
			t.Fatalf("no room in %d bytes behind %d", size, len(kept))
		}
		stream = stream[n:]
		end, more := scan.Scan(p[from : from+n])
		if end == 0 && more == 0 {
			fragment = append(fragment, p[from:from+n]...)
			continue
		}
		if len(kept) == len(fragment) {
			begin := from - copy(p[from-len(kept):], kept)
			whole = append(whole, p[begin:from+end]...)
			rest := slices.Clone(p[from+end : from+n])
			length, _ := s.stamp(p, begin, from+end)
			stamped = append(stamped, p[:length]...)
			fragment = rest
			continue
		}
		// A large one: its end is looked for first.
		first := len(records(append(slices.Clone(fragment), p[from:from+end]...))[0]) - len(fragment)
		record := append(slices.Clone(fragment), p[from:from+first]...)
		whole = append(whole, record...)
		record, _ = s.stampOne(record)
		stamped = append(stamped, record...)
		whole = append(whole, p[from+first:from+end]...)
		fragment = slices.Clone(p[from+end : from+n])
		length, _ := s.stamp(p, from+first, from+end)
		stamped = append(stamped, p[:length]...)
	}
	return whole, stamped
}

func FuzzStamp(f *testing.F) {
	files, err := filepath.Glob("ilp/testdata/*.ilp")
	if err != nil || len(files) == 0 {
		f.Fatalf("streams of clients: %v, %v", files, err)
	}
	for i, name := range files {
		stream, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		stream = stream[:min(len(stream), 1500)]
		f.Add(stream, uint64(i))
		f.Add(bytes.ReplaceAll(stream, []byte(" 1700000000123456789\n"), []byte("\n")), uint64(i))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 20 {
		f.Add(rowsOf(rng, 30, 300), uint64(i))
		f.Add(bytes.Repeat([]byte(" f=\n"), 300), uint64(i))
		f.Add(bytes.Repeat([]byte("t\n t f==\x10\n\n\n\n\n\n\n\n\n=\n# c\r\nt f=\"\n\"\n"), 10), uint64(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		most := 1 + rng.IntN(400)
		whole, stamped := readStamped(t, stream, 256+rng.IntN(1024), func() int { return rng.IntN(most) })
		var scan ilp.Scanner
		if end, _ := scan.Scan(stream); !bytes.HasPrefix(stream, whole) || end > len(whole) {
			t.Fatalf("%q of %q", whole, stream)
		}
		checkStamped(t, whole, stamped)
	})
}

func TestStampDoesNotAllocate(t *testing.T) {
	p, from := untimedBlock()
	sent := slices.Clone(p)
	s := &stamper{now: jumpy(), most: 1 << 20}
	if n := testing.AllocsPerRun(20, func() {
		copy(p, sent)
		if _, n := s.stamp(p, from, len(p)); n < 100 {
			t.Errorf("%d records stamped", n)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// untimedBlock is a block as it is read full of rows without timestamps.
func untimedBlock() (p []byte, from int) {
	const row = "weather,city=Oslo,station=blindern temperature=3.5,humidity=81i\n"
	p = make([]byte, 128<<10)
	from, _ = stampWindow(len(p), 0)
	text := strings.Repeat(row, (len(p)-from)/len(row))
	from = len(p) - copy(p[len(p)-len(text):], text)
	return p, from
}

func BenchmarkStamp(b *testing.B) {
	p, from := untimedBlock()
	sent := slices.Clone(p)
	s := &stamper{now: jumpy(), most: 1 << 20}
	b.SetBytes(int64(len(p) - from))
	b.ReportAllocs()
	stamped := 0
	for b.Loop() {
		copy(p[from:], sent[from:])
		_, n := s.stamp(p, from, len(p))
		stamped += n
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(stamped), "ns/record")
}
