package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// streams are what official clients really sent, byte for byte.
const streams = "../proxy/ilp/testdata"

// decimals holds the streams with decimals. QuestDB makes no decimal column by
// itself ("decimal columns cannot be created automatically"), so their table has
// to be there.
var decimals = []string{"v3_decimal.ilp", "v3_decimal_nl_quote.ilp", "v3_mixed.ilp"}

const decimalTable = `create table t (sym symbol, d decimal(38, 20), timestamp timestamp) timestamp(timestamp) partition by day wal`

// refused are the streams that the server does not understand. This one has the
// null array of a client of the days of 9.0 (element type 33), which 9.3.4 does
// not know any more.
var refused = []string{"node_v2_null_arr_dec.ilp"}

// TestStreams writes each stream directly to QuestDB, and through the proxy among
// another writer's rows, and compares the tables that come of it: columns, types
// and rows.
func TestStreams(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})

	var expected map[string]struct{ Rows int }
	text, err := os.ReadFile(filepath.Join(streams, "expected.json"))
	if err == nil {
		err = json.Unmarshal(text, &expected)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(streams, "*.ilp"))
	if err != nil || len(files) != len(expected) {
		t.Fatalf("%d streams, expected.json has %d (%v)", len(files), len(expected), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".ilp"), func(t *testing.T) {
			stream, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(refused, name) {
				conn := login(t, db, key)
				if _, err := conn.Write(stream); err != nil {
					t.Fatal(err)
				}
				conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("QuestDB does not close the connection: it understands this now")
				}
				return
			}
			prepare := func() {
				if slices.Contains(decimals, name) {
					db.MustQuery(decimalTable)
				}
			}
			prepare()
			begun := time.Now()
			direct(t, db, key, stream)
			want := take(t, db, expected[name].Rows, begun)

			// One lane for both writers.
			p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_POOL_MIN_IDLE", "1", "ILP_POOL_MAX", "3"))
			prepare()
			begun = time.Now()
			interleave(t, p, stream)
			records := expected[name].Rows + len(stream)
			p.WaitMetric(arrive, proxytest.Equal(float64(records)), "records_written_total")
			checkCounters(t, p, records)
			// QuestDB commits at once what is on a connection that ends; and this one
			// would know tables that are no more.
			p.Stop(30 * time.Second)
			db.WaitCount("other", len(stream), arrive)
			db.MustQuery("drop table other")
			if got := take(t, db, expected[name].Rows, begun); got != want {
				t.Errorf("through the proxy:\n%s\nwritten directly:\n%s", got, want)
			}
		})
	}
}

// interleave has one writer send stream byte by byte, each in a segment of its own
// as far as the kernel likes, and another one a whole row after each byte. If the
// proxy took the wrong byte for the end of a record, that row would be in its
// middle.
func interleave(t *testing.T, p *proxytest.Proxy, stream []byte) {
	t.Helper()
	conn, other := p.Dial(), p.Dial()
	for i := range stream {
		if _, err := conn.Write(stream[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(other, "other n=%di\n", i); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []net.Conn{conn, other} {
		if err := proxytest.Finish(c); err != nil {
			t.Fatal(err)
		}
	}
}

// login returns an authenticated connection, straight to QuestDB. It is closed
// when the test ends.
func login(t *testing.T, db *questdb.Server, key *auth.Key) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", db.ILP(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := auth.Handshake(t.Context(), conn, key, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// direct writes ilp straight to QuestDB, and returns when that has read all of it.
func direct(t *testing.T, db *questdb.Server, key *auth.Key, ilp []byte) {
	t.Helper()
	conn := login(t, db, key)
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write(ilp); err != nil {
		t.Fatal(err)
	}
	if err := proxytest.Finish(conn); err != nil { // QuestDB, too, says nothing and closes
		t.Fatal(err)
	}
}

// take waits for tables with so many rows in all, drops them and returns what was
// in them. A time since begun becomes "now": it is the server's, for a row that
// came without one.
func take(t *testing.T, db *questdb.Server, rows int, begun time.Time) string {
	t.Helper()
	tables := waitTables(t, db, rows)
	var b strings.Builder
	for _, table := range tables {
		fmt.Fprintf(&b, "%q\n", table)
		columns := db.MustQuery(fmt.Sprintf("select * from table_columns('%s')", table))
		for _, column := range columns {
			fmt.Fprintf(&b, "  %q\n", column)
		}
		for _, row := range db.MustQuery(fmt.Sprintf(`select * from "%s"`, table)) {
			for i, v := range row {
				at, err := time.Parse("2006-01-02 15:04:05.999999999", v)
				if err == nil && at.After(begun.Add(-time.Second)) && columns[i][0] == "timestamp" {
					row[i] = "now"
				}
			}
			fmt.Fprintf(&b, "  %q\n", row)
		}
		db.MustQuery(fmt.Sprintf(`drop table "%s"`, table))
	}
	return b.String()
}

// waitTables returns the names of all tables once they have so many rows.
func waitTables(t *testing.T, db *questdb.Server, rows int) []string {
	t.Helper()
	deadline := time.Now().Add(arrive)
	for {
		var names []string
		total := 0
		for _, row := range db.MustQuery("select table_name from tables()") {
			names = append(names, row[0])
			total += db.Count(row[0])
		}
		if total == rows {
			slices.Sort(names)
			return names
		}
		if total > rows || time.Now().After(deadline) {
			t.Fatalf("%d rows in %q, want %d", total, names, rows)
		}
		time.Sleep(25 * time.Millisecond) // SQL has no way to be told of new rows
	}
}
