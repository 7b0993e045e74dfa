package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/ilp"
)

const (
	buffer = 64 << 20 // ILP_BUFFER by default
	// mostMemory is what the proxy may need for whatever comes, in bytes.
	mostMemory = buffer + 64<<20
)

// level is what must be the same before and after.
type level struct{ goroutines, sessions, files int }

func levelOf(t *testing.T, p *proxytest.Proxy) level {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return level{int(p.Metric("go_goroutines")), int(p.Metric("sessions")), len(files)}
}

// waitLevel wants no more goroutines, sessions and files than before; upstream
// connections come and go by themselves.
func waitLevel(t *testing.T, p *proxytest.Proxy, before level) {
	t.Helper()
	var now level
	limit := time.Now().Add(30 * time.Second)
	until(t, "everything is as it was", func() (bool, error) {
		now = levelOf(t, p)
		upstream := int(p.Metric("upstream_connections"))
		if time.Now().After(limit) {
			return false, fmt.Errorf("before %+v, now %+v with %d upstream connections", before, now, upstream)
		}
		// An upstream connection is a file and a goroutine that reads.
		return now.sessions == before.sessions && now.goroutines-upstream <= before.goroutines && now.files-upstream <= before.files, nil
	})
	t.Logf("before %+v, now %+v", before, now)
}

// garbage is what writers may send by mistake or on purpose: kinds of it, each so
// many MiB of a chunk again and again. Together 1 GiB.
func garbage() map[string]struct {
	mib   int
	chunk []byte
} {
	seed := [32]byte([]byte("the same bytes in each and every"))
	random := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8(seed).Read(random) // never fails
	random = append(random, '\n')
	// By chance there is a row in it.
	var scan ilp.Scanner
	for rest := random; len(rest) > 0; {
		n, _ := scan.Next(rest)
		if ilp.Validate(rest[:n]) == nil {
			clear(rest[:n-1])
		}
		rest = rest[n:]
	}
	without := func(p []byte, chars string) []byte {
		return bytes.Map(func(r rune) rune {
			if strings.ContainsRune(chars, r) {
				return 'x'
			}
			return r
		}, bytes.ToValidUTF8(p, []byte("\xc3\xbc")))
	}
	type kind = struct {
		mib   int
		chunk []byte
	}
	return map[string]kind{
		"random bytes":             {256, random},
		"no line end":              {128, without(random, "\n\r")},
		"line ends only":           {96, bytes.Repeat([]byte("\n"), 1<<20)},
		"backslashes only":         {96, bytes.Repeat([]byte(`\`), 1<<20)},
		"== only":                  {96, bytes.Repeat([]byte("=="), 1<<19)},
		"quotes and escapes":       {64, bytes.Repeat([]byte("t f=\"\\\"\\\n,=\\ "), 1<<16)},
		"one array without end":    {64, append([]byte("t a==\x0E\x0A\x01\xFF\xFF\xFF\x07"), make([]byte, 8<<20)...)},
		"arrays of 32 dimensions":  {64, bytes.Repeat([]byte("t a==\x0E\x0A\x20"+strings.Repeat("\x00\x00\x10\x00", 32)+"\n"), 1<<12)},
		"records of 3 MiB":         {96, []byte("t f=\"" + strings.Repeat("x", 3<<20) + "\"\n")},
		"records just short of it": {32, []byte("t f=\"" + strings.Repeat("x", 1<<20-20) + "\"x\n")},
		"short malformed records":  {32, bytes.Repeat([]byte("x y z\n"), 1<<17)},
	}
}

// TestGarbage sends 1 GiB of it, two kinds at a time, while a good writer goes on.
func TestGarbage(t *testing.T) {
	key := newKey(t, "garbage")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()))
	p.WaitReady(arrive)
	before := levelOf(t, p)

	over := make(chan struct{})
	var good errgroup.Group
	rows := 0
	good.Go(func() (err error) {
		rows, err = writeUntil(over, p.Addr(), "good", 0, false)
		return err
	})
	p.WaitMetric(arrive, proxytest.AtLeast(1), "records_written_total")

	var bad errgroup.Group
	bad.SetLimit(2)
	total := 0
	for name, kind := range garbage() {
		total += kind.mib
		bad.Go(func() error {
			began := time.Now()
			conn, err := net.Dial("tcp", p.Addr())
			if err != nil {
				return err
			}
			defer conn.Close()
			for left := kind.mib << 20; left > 0; left -= len(kind.chunk) {
				if _, err := conn.Write(kind.chunk[:min(left, len(kind.chunk))]); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			if err := proxytest.Finish(conn); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			took := time.Since(began)
			t.Logf("%-25s %4d MiB in %4.1f s: %5.0f MiB/s", name, kind.mib, took.Seconds(), float64(kind.mib)/took.Seconds())
			return nil
		})
	}
	if err := bad.Wait(); err != nil {
		t.Fatal(err)
	}
	if total != 1024 {
		t.Errorf("%d MiB in all, want 1 GiB", total)
	}
	close(over)
	if err := good.Wait(); err != nil {
		t.Fatalf("the good writer: %v", err)
	}
	db.WaitCount("good", rows, arrive)
	checkPrefixes(t, db, "good", []int{rows})
	checkTables(t, db, "good")
	checkMemory(t, p)
	waitLevel(t, p, before)
	if n := p.Metric("bytes_received_total"); n < float64(total<<20) {
		t.Errorf("%v bytes received, want 1 GiB at least", n)
	}
	t.Logf("beside it %d good rows; rejected: %v too long, %v malformed; %v connections closed by QuestDB; %d log lines", rows,
		p.Metric("records_rejected_total", "reason", "too_long"), p.Metric("records_rejected_total", "reason", "malformed"),
		p.Metric("lane_failures_total"), len(p.LogLines()))
	// QuestDB takes little of what is left of it before it closes the next connection.
	p.WaitMetric(arrive, proxytest.Equal(0), "journal_records")
	p.Stop(30 * time.Second)
}

func checkMemory(t *testing.T, p *proxytest.Proxy) {
	t.Helper()
	peak := p.PeakRSS()
	t.Logf("memory: at most %d MiB, now %d MiB", peak>>20, p.RSS()>>20)
	if peak > mostMemory {
		t.Errorf("the proxy needed %d MiB, which should be at most %d MiB", peak>>20, mostMemory>>20)
	}
}

// TestConnections opens and closes 100,000 connections: without a word, after
// half a row or a whole one, with a reset.
func TestConnections(t *testing.T) {
	const connections, writers = 100_000, 20
	key := newKey(t, "connections")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()))
	p.WaitReady(arrive)
	before := levelOf(t, p)

	began := time.Now()
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			// From an address of its own: each has 28,000 ports, and each port has to
			// rest after use.
			dial := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+w))}}
			for n := range connections / writers {
				conn, err := dial.Dial("tcp", p.Addr())
				if err != nil {
					return err
				}
				switch n % 5 {
				case 1:
					_, err = io.WriteString(conn, "whole,w=frag")
				case 2:
					_, err = io.WriteString(conn, numberedRow("whole", w, n/5))
				case 3:
					_, err = io.WriteString(conn, "whole,w=fragment v=1i")
					_ = conn.(*net.TCPConn).SetLinger(0)
				case 4:
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				conn.Close()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	p.WaitMetric(arrive, proxytest.AtLeast(connections*4/5), "sessions_total") // a reset may come before Accept
	waitLevel(t, p, before)
	t.Logf("%d connections in %.1f s, %.0f/s; %v sessions", connections, took.Seconds(), connections/took.Seconds(), p.Metric("sessions_total"))

	db.WaitCount("whole", connections/5, arrive)
	sent := make([]int, writers)
	for w := range sent {
		sent[w] = connections / writers / 5
	}
	checkPrefixes(t, db, "whole", sent)
	checkTables(t, db, "whole")
	checkMemory(t, p)
	// All of those that ended with half a row, and those of the resets that were read before.
	if n := p.Metric("fragments_total"); n < connections/5 || n > 2*connections/5 {
		t.Errorf("%v fragments counted, want %d to %d", n, connections/5, 2*connections/5)
	}
	p.Stop(30 * time.Second)
}

// TestIdleWriters has thousands of writers that say something once and then
// nothing, and looks at what one of them costs.
func TestIdleWriters(t *testing.T) {
	const most = 12 << 10 // bytes of memory for each
	key := newKey(t, "idle")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()))
	p.WaitReady(arrive)
	p.Send(numberedRow("idle", 0, 0))
	before, memory := levelOf(t, p), p.RSS()

	writers := 5000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if room := int(min(limit.Cur, 1<<20)) - 200; room < writers {
		t.Logf("the limit of open files leaves room for %d writers only", room)
		writers = room
	}
	conns := make([]net.Conn, writers)
	for i := range conns {
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, numberedRow("idle", 0, 1+i)+"idle,writer=half n="); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	p.WaitMetric(arrive, proxytest.Equal(float64(1+writers)), "records_received_total")
	each := (p.RSS() - memory) / int64(writers)
	t.Logf("%d idle writers, each %d bytes of memory", writers, each)
	if each > most {
		t.Errorf("an idle writer costs %d bytes of memory, which should be at most %d", each, most)
	}
	for i, conn := range conns {
		if _, err := io.WriteString(conn, "1i "+strconv.Itoa(1+i)+"\n"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	db.WaitCount("idle", 1+2*writers, arrive)
	waitLevel(t, p, before)
	checkMemory(t, p)
	p.Stop(30 * time.Second)
}

// TestMemoryWithoutServer fills the buffer while QuestDB is away, and goes on:
// with small records, with records of nearly ILP_MAX_RECORD, and with records
// that never end. Whoever sends whole ones has to wait, nobody is cut off for it.
func TestMemoryWithoutServer(t *testing.T) {
	const each = 20
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(newKey(t, "k"), nowhere(t)).With("ILP_DRAIN_TIMEOUT", "0s"))
	var conns []net.Conn
	var writers errgroup.Group
	write := func(chunk string, times int) {
		for range each {
			conn := p.Dial()
			conns = append(conns, conn)
			writers.Go(func() error {
				for range times {
					if _, err := io.WriteString(conn, chunk); err != nil {
						return nil // no memory for it, or the test is over
					}
				}
				return nil
			})
		}
	}
	x := strings.Repeat("x", 1000<<10)
	write("endless s=\""+x, 1)
	p.WaitMetric(arrive, proxytest.AtLeast(1), "sessions_ended_total", "reason", "no_memory")
	// 16 MiB each: more than fits into everything.
	write(strings.Repeat(numberedRow("small", 0, 0), 1000), 400)
	write("large s=\""+x+"\"\n", 16)
	p.WaitMetric(arrive, proxytest.AtLeast(2*each), "journal_waiting_sessions")
	if status, _, err := p.Get("/livez"); status != 200 {
		t.Errorf("/livez: %d, %v", status, err)
	}
	checkMemory(t, p)
	used, limit := p.Metric("journal_bytes"), p.Metric("journal_limit_bytes")
	fragments, most := p.Metric("fragment_memory_bytes"), p.Metric("fragment_memory_limit_bytes")
	t.Logf("journals %.1f of %.1f MiB, unfinished records %.1f of %.1f MiB, %v writers that did not finish were disconnected",
		used/(1<<20), limit/(1<<20), fragments/(1<<20), most/(1<<20), p.Metric("sessions_ended_total", "reason", "no_memory"))
	if used+fragments > buffer {
		t.Errorf("%v bytes are held, more than ILP_BUFFER", used+fragments)
	}
	if n := p.Metric("sessions_ended_total") - p.Metric("sessions_ended_total", "reason", "no_memory"); n != 0 {
		t.Errorf("%v writers were cut off", n)
	}
	for _, conn := range conns {
		conn.Close()
	}
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(10 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

// TestUnfinishedRecordsOfOthers has writers that hold nearly all of the memory for
// unfinished records, and never finish. One that sends large records and does
// finish them must not be the one to go.
func TestUnfinishedRecordsOfOthers(t *testing.T) {
	const each, records = 700 << 10, 20
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(newKey(t, "k"), nowhere(t)).With("ILP_DRAIN_TIMEOUT", "0s"))
	limit := p.Metric("fragment_memory_limit_bytes")
	for held := 0.0; held < limit-1<<20; {
		if _, err := io.WriteString(p.Dial(), "held s=\""+strings.Repeat("x", each)); err != nil {
			t.Fatal(err)
		}
		held = p.WaitMetric(arrive, proxytest.AtLeast(held+each), "fragment_memory_bytes")
	}
	if err := p.TrySend(strings.Repeat("large s=\""+strings.Repeat("x", 1000<<10)+"\"\n", records)); err != nil {
		t.Errorf("the writer of whole records: %v", err)
	}
	if n := p.Metric("records_received_total"); n != records {
		t.Errorf("%v records received, want %d", n, records)
	}
	t.Logf("%v of %v bytes for unfinished records, %v writers disconnected", p.Metric("fragment_memory_bytes"), limit, p.Metric("sessions_ended_total", "reason", "no_memory"))
}
