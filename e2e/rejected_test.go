package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/rejected"
)

// keepRejected is an ILP_REJECTED_FILE of its own for a test.
func keepRejected(t testing.TB) string { return filepath.Join(t.TempDir(), "rejected.jsonl") }

// readRejected returns what a rejected-records file holds.
func readRejected(t testing.TB, path string) (records []rejected.Record) {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rejected.NewReader(f)
	for {
		rec, err := r.Next()
		if err == io.EOF || errors.Is(err, rejected.ErrCutOff) { // it is being written
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rec)
	}
}

// checkRejected wants exactly these records in a rejected-records file, once each.
func checkRejected(t testing.TB, path string, want ...string) {
	t.Helper()
	var got []string
	for _, rec := range readRejected(t, path) {
		got = append(got, string(rec.Bytes))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the rejected-records file has %d records, %.5q, want %d: %.5q", len(got), got, len(want), want)
	}
}

// missingNumbered returns how many of the rows of numbered a table lacks; rows may
// have come twice.
func missingNumbered(t testing.TB, db *questdb.Server, table string, writers, rows int) int {
	t.Helper()
	missing := writers * rows
	if db.Count(table) == 0 {
		return missing
	}
	for _, row := range db.MustQuery(fmt.Sprintf("select writer, count_distinct(n) from %q", table)) {
		var n int
		if _, err := fmt.Sscan(row[1], &n); err != nil {
			t.Fatalf("%q: %v", row, err)
		}
		missing -= n
	}
	return missing
}

// waitNumbered returns when all rows of numbered are in the table, perhaps some
// twice, and fails the test if they are not within limit.
func waitNumbered(t testing.TB, db *questdb.Server, table string, writers, rows int, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; <-time.After(25 * time.Millisecond) {
		missing := missingNumbered(t, db, table, writers, rows)
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("table %s lacks %d rows of %d after %v", table, missing, writers*rows, limit)
		}
	}
}

// badRecords are one of each kind that QuestDB refuses, for a table of numbered.
// The number n is in each of them.
func badRecords(table string, n int) []badRecord {
	return []badRecord{
		{"malformed", fmt.Sprintf("%s,writer=w0 n=%d0x,text= 5\n", table, n), rejected.ReasonMalformed},
		{"wrong type", fmt.Sprintf("%s,writer=w0 n=\"no number %d\" 5000\n", table, n), rejected.ReasonRefused},
		{"illegal table name", fmt.Sprintf("no/table,writer=w0 n=%di 5000\n", n), ""},
	}
}

type badRecord struct{ name, record, reason string }

// TestRejectedOne has one bad record of each kind among 100,000 good ones of 8
// writers: it alone is set aside, soon.
func TestRejectedOne(t *testing.T) {
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	for i, bad := range badRecords("", 0) {
		t.Run(bad.name, func(t *testing.T) {
			file := keepRejected(t)
			// The race detector makes it many times slower.
			p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s"))
			findOne(t, db, p, file, fmt.Sprint("one", i), i, 15*time.Second)
			p.Stop(30 * time.Second)
		})
	}
}

// findOne sends 100,000 rows by 8 writers with bad record i among them, and wants
// that set aside, all others in the table, and both within limit.
func findOne(t *testing.T, db *questdb.Server, p *proxytest.Proxy, file, table string, i int, limit time.Duration) {
	t.Helper()
	const writers, rows = 8, 12_500
	// So that the column's type is not the bad record's.
	p.Send(numbered(table, 0, 1))
	db.WaitCount(table, 1, arrive)
	bad := badRecords(table, i)[i]
	began := time.Now()
	var g errgroup.Group
	for w := range writers {
		ilp := numbered(table, w, rows)
		if w == 3 {
			at := strings.Index(ilp, " n=6250i")
			at += strings.IndexByte(ilp[at:], '\n') + 1
			ilp = ilp[:at] + bad.record + ilp[at:]
		}
		g.Go(func() error { return p.TrySend(ilp) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	read := time.Since(began)
	p.WaitMetric(arrive, proxytest.Equal(1), "records_rejected_total")
	found := time.Since(began)
	waitNumbered(t, db, table, writers, rows, arrive)
	there := time.Since(began)
	allSettled(p, arrive)
	t.Logf("%s: read after %v, set aside after %v, all others in the table after %v, settled after %v; %v twice, %v connections failed", bad.name,
		read.Round(time.Millisecond), found.Round(time.Millisecond), there.Round(time.Millisecond), time.Since(began).Round(time.Millisecond),
		db.Count(table)-writers*rows-1, p.Metric("lane_failures_total"))
	if took := max(found, there); took > limit {
		t.Errorf("%s: it took %v, more than %v", bad.name, took, limit)
	}
	checkRejected(t, file, bad.record)
	if recs := readRejected(t, file); len(recs) == 1 && bad.reason != "" && recs[0].Reason != bad.reason {
		t.Errorf("reason %q, want %q", recs[0].Reason, bad.reason)
	}
}

// TestRejectedLast has the bad record among the last bytes before the half-close,
// all of which the server reads at once, since it was stopped until after that: the
// good ones before and behind it are not taken for delivered with it.
func TestRejectedLast(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	for i, bad := range badRecords("", 0) {
		t.Run(bad.name, func(t *testing.T) {
			const before, after = 30, 20
			table := fmt.Sprint("last", i)
			bad := badRecords(table, i)[i]
			file := keepRejected(t)
			p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s"))
			p.Send(numbered(table, 0, 1))
			db.WaitCount(table, 1, arrive) // the column has its type,
			allSettled(p, arrive)          // and the path is known
			rows := strings.SplitAfter(numbered(table, 0, before+after), "\n")
			db.Pause()
			p.Send(strings.Join(rows[:before], "") + bad.record + strings.Join(rows[before:], ""))
			p.WaitMetric(arrive, proxytest.Equal(1), "lanes", "state", "closing")
			// The half-close is made when all of the padding is: nobody tells.
			until(t, "the half-close is made", func() (bool, error) { return halfClosed(portOf(t, db.ILP())) })
			db.Resume()
			p.WaitMetric(arrive, proxytest.Equal(1), "records_rejected_total")
			waitNumbered(t, db, table, 1, before+after, arrive)
			allSettled(p, arrive)
			checkRejected(t, file, bad.record)
			p.Stop(30 * time.Second)
		})
	}
}
