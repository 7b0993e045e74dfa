package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestStamp kills QuestDB under a load of rows without timestamps: with ILP_STAMP
// none is missing, and in a table with keys none comes twice, or takes another one's
// place.
func TestStamp(t *testing.T) {
	t.Parallel()
	const writers = 8
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "stamped", true)
	p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_STAMP", "on", "ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "500ms"))
	rate := short(8_000, 20_000)
	began := time.Now()
	l := startUntimedLoad(t, p, writers, rate, "stamped")
	for range short(2, 20) {
		l.more(rate)
		// A row that was not settled, and is there, has to go again.
		p.WaitMetric(arrive, proxytest.AtLeast(1), "journal_records")
		until(t, "QuestDB has rows", func() (bool, error) {
			n, err := db.Process.Count(t.Context(), "stamped")
			return n > 0, err
		})
		db.Kill()
		db.Start()
	}
	l.more(rate)
	rows := l.end()
	allSettled(p, arrive)
	ended := time.Now()
	if c := l.check(db, arrive)["stamped"]; c.twice > 0 {
		t.Errorf("%d rows came twice into a table with keys", c.twice)
	}
	if n := p.Metric("records_stamped_total"); n != float64(rows) {
		t.Errorf("%v rows were stamped, want %d", n, rows)
	}
	if n := p.Metric("records_replayed_total"); n < 1 {
		t.Error("no row had to be sent again")
	}

	// In the order of their stamps they are in the order in which they were written.
	var next [writers]int
	for _, row := range db.MustQuery("select writer, n from stamped order by timestamp, writer") {
		w, n := 0, 0
		if _, err := fmt.Sscanf(strings.Join(row, " "), "w%d %d", &w, &n); err != nil || n != next[w] {
			t.Fatalf("row %q of its writer (%v) comes where row %d should", row, err, next[w])
		}
		next[w]++
	}
	span := db.MustQuery("select min(timestamp)::long, max(timestamp)::long from stamped")[0]
	first, _ := strconv.ParseInt(span[0], 10, 64)
	last, _ := strconv.ParseInt(span[1], 10, 64)
	if first < began.UnixMicro() || last > ended.UnixMicro() {
		t.Errorf("stamps from %v to %v, for rows of %v to %v", time.UnixMicro(first), time.UnixMicro(last), began, ended)
	}
	p.Stop(arrive)
}

// TestStampIsKept has rows left when the proxy ends: in the file of rejected records
// they have their stamps, QuestDB reads these as they are, and who replays twice has
// every row once. Rows with timestamps, and what is no row, are as they came.
func TestStampIsKept(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "kept", true)
	file := keepRejected(t)
	env := proxytest.EnvFor(key, nowhere(t)).With("ILP_STAMP", "on", "ILP_REJECTED_FILE", file, "ILP_DRAIN_TIMEOUT", "100ms")
	p := proxytest.Start(t, env)

	// What stands before a stamp, and whether there is one.
	sent := []struct {
		row     string
		stamped bool
	}{
		{"kept,writer=a n=1i", true},
		{"kept,writer=a n=2i 1700000000000000000", false},
		{"kept,writer=a n=3i 1700000001000t", false},
		{"kept,writer=a n=4i,", true},
		{"kept,writer=a n=5i,s=\"a\\\nb 5\"", true},
		{"kept n", false},
		{"kept,writer=a n=6i,d==\x10\n\r\"\\ 5\n\n", true},
		{"kept,writer=a n=seven", false},
		{"kept,writer=a n=8i ", true},
	}
	var all strings.Builder
	for _, s := range sent {
		all.WriteString(s.row + "\n")
	}
	p.Send(all.String())
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(arrive); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	got := readRejected(t, file)
	if len(got) != len(sent) {
		t.Fatalf("%d records in the file, want %d", len(got), len(sent))
	}
	want := map[string]bool{"[2 1700000000000000]": true, "[3 1700000001000]": true}
	var last int64
	for i, s := range sent {
		record := string(got[i].Bytes)
		if !s.stamped {
			if record != s.row+"\n" {
				t.Errorf("%q became %q", s.row, record)
			}
			continue
		}
		stamp := strings.TrimSpace(strings.TrimPrefix(record, s.row))
		at, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || record != strings.TrimSuffix(s.row, " ")+" "+stamp+"\n" || at <= last {
			t.Fatalf("%q became %q (%v), after a stamp of %d", s.row, record, err, last)
		}
		last = at
		n := s.row[strings.Index(s.row, "n=")+2:][:1]
		want[fmt.Sprintf("[%s %d]", n, at/1000)] = true
	}

	again := proxytest.Start(t, env.With("ILP_UPSTREAM", "tcp://"+db.ILP(), "ILP_REJECTED_FILE", file+".2", "ILP_DRAIN_TIMEOUT", "20s"))
	for range 2 {
		replay := proxytest.Launch(t, proxytest.Env{}, "replay", "--to", again.Addr(), file)
		if code := replay.Wait(arrive); code != 0 {
			t.Errorf("replay: exit code %d: %s", code, replay.Log())
		}
	}
	again.Stop(arrive)
	db.WaitCount("kept", len(want), arrive)
	for _, row := range db.MustQuery("select n, timestamp::long from kept") {
		if !want[fmt.Sprint(row)] {
			t.Errorf("row %q is not one of %v", row, want)
		}
		delete(want, fmt.Sprint(row))
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if n := len(readRejected(t, file+".2")); n != 4 {
		t.Errorf("%d records were rejected, want the 2 malformed ones twice", n)
	}
}
