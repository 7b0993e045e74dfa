package e2e

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/rejected"
)

// wrongType is a record that the tables of a load refuse.
func wrongType(table string, n int) string {
	return fmt.Sprintf("%s,writer=hostile n=\"no number %d\" 1700000000000000000\n", table, n)
}

// A hostile writer sends nothing but records that are refused.
type hostile struct {
	over, ended chan struct{}
	sent        int
	err         error
}

// beHostile sends rate refused records/s for table until end, or as many as the
// proxy takes.
func beHostile(conn net.Conn, table string, rate int) *hostile {
	h := &hostile{over: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		defer conn.Close()
		tick := time.NewTicker(batchEvery)
		defer tick.Stop()
		for {
			select {
			case <-h.over:
				return
			case <-tick.C:
			}
			var b strings.Builder
			for range rate * int(batchEvery) / int(time.Second) {
				b.WriteString(wrongType(table, h.sent))
				h.sent++
			}
			// It has to wait for the proxy; that must not go on for ever.
			conn.SetWriteDeadline(time.Now().Add(arrive))
			if _, h.err = io.WriteString(conn, b.String()); h.err != nil {
				return
			}
		}
	}()
	return h
}

// end stops the writer, in the middle of a write if need be.
func (h *hostile) end(conn net.Conn) {
	close(h.over)
	conn.SetWriteDeadline(time.Now())
	<-h.ended
}

// TestHostileWriter has one writer send nothing but refused records at 1,000/s to
// a table that seven others write to as well: they keep their rate, lose nothing,
// and nothing of theirs is set aside.
func TestHostileWriter(t *testing.T) {
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "shared", false)
	file := keepRejected(t)
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s", "ILP_DRAIN_TIMEOUT", "5s"))
	const writers, rate = 7, 7000
	during := short(12*time.Second, 60*time.Second)

	load := startLoad(t, p, writers, rate, "shared")
	p.WaitMetric(arrive, proxytest.AtLeast(rate), "records_settled_total")
	conn := p.Dial()
	enemy := beHostile(conn, "shared", 1000)
	began, before := time.Now(), load.rows()
	settled := p.Metric("records_settled_total")
	<-time.After(during) // the writers' time, not ours
	took := time.Since(began)
	wrote := float64(load.rows()-before) / took.Seconds()
	got := (p.Metric("records_settled_total") - settled) / took.Seconds()
	enemy.end(conn)
	load.end()
	t.Logf("seven others wrote %.0f rows/s of %d, %.0f/s were settled, beside %.0f refused records/s sent and %v set aside; %v connections failed", wrote, rate, got,
		float64(enemy.sent)/took.Seconds(), p.Metric("records_rejected_total"), p.Metric("lane_failures_total"))
	if wrote < 0.8*rate {
		t.Errorf("the others wrote %.0f rows/s, less than 80 %% of %d", wrote, rate)
	}
	load.check(db, arrive)
	p.Signal(syscall.SIGTERM)
	p.Wait(arrive) // what the hostile writer has left may be undelivered
	for _, rec := range readRejected(t, file) {
		if !strings.Contains(string(rec.Bytes), "writer=hostile") {
			t.Fatalf("set aside, though it is a good record: %q (%s, %s)", rec.Bytes, rec.Reason, rec.Detail)
		}
	}
}

// TestColumnChanged changes a column's type under way, so that one table refuses
// everything: its records are set aside in bulk, and another table is unharmed.
// Changed back, the table takes records again.
func TestColumnChanged(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "stays", false)
	makeTable(db, "changes", false)
	file := keepRejected(t)
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s"))
	load := startLoad(t, p, 8, 4000, "stays", "changes")
	p.WaitMetric(arrive, proxytest.AtLeast(4000), "records_settled_total")
	db.MustQuery("alter table changes alter column n type boolean")
	changed := time.Now()
	p.WaitMetric(arrive, proxytest.AtLeast(1), "records_rejected_total", "reason", rejected.ReasonTableRefused)
	bulk := time.Since(changed)
	failures := p.Metric("lane_failures_total")
	<-time.After(short(3*time.Second, 30*time.Second)) // the writers' time, not ours
	t.Logf("%v after the change the table's records were set aside in bulk; until then %v connections failed, and %v since",
		bulk.Round(time.Millisecond), failures, p.Metric("lane_failures_total")-failures)
	db.MustQuery("alter table changes alter column n type long")
	back := time.Now()
	for before := db.Count("changes"); db.Count("changes") <= before+100; <-time.After(50 * time.Millisecond) {
		if time.Since(back) > arrive {
			t.Fatalf("the table still takes nothing %v after it was changed back", arrive)
		}
	}
	t.Logf("taken again %v after it was changed back", time.Since(back).Round(time.Millisecond))
	sent := load.end()
	allSettled(p, arrive)

	aside := map[string]bool{}
	for _, rec := range readRejected(t, file) {
		if !strings.HasPrefix(string(rec.Bytes), "changes,") {
			t.Fatalf("set aside: %q (%s, %s)", rec.Bytes, rec.Reason, rec.Detail)
		}
		aside[string(rec.Bytes)] = true
	}
	// By their timestamps: what n was is lost. A row is in the table or set aside.
	for deadline := time.Now().Add(arrive); ; <-time.After(50 * time.Millisecond) {
		got := db.MustQuery("select count_distinct(timestamp) from stays union all select count_distinct(timestamp) from changes")
		var stays, changes int
		if _, err := fmt.Sscan(got[0][0]+" "+got[1][0], &stays, &changes); err != nil {
			t.Fatal(err)
		}
		missing := sent - stays - changes - len(aside)
		if missing <= 0 {
			t.Logf("of %d rows, %d are in the table that stayed, %d in the other one, %d are set aside, %d of them are in the table too", sent, stays, changes, len(aside), -missing)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d rows, %d are in the table that stayed, %d in the other one, %d are set aside: %d are missing", sent, stays, changes, len(aside), missing)
		}
	}
	p.Stop(30 * time.Second)
}

// TestManyNewTables has one segment create a great many tables, for which QuestDB
// takes its time: it is confirmed once, and not sent again for being slow.
func TestManyNewTables(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_CONFIRM_INTERVAL", "1s"))
	tables := short(60, 1000)
	var b strings.Builder
	for i := range tables {
		fmt.Fprintf(&b, "new%d n=1i 1700000000000000000\n", i) // no symbol: each is five files
	}
	began := time.Now()
	p.Send(b.String())
	allSettled(p, 3*arrive)
	took := time.Since(began)
	closing := p.Metric("close_seconds_sum")
	for _, name := range []string{"records_replayed_total", "lane_failures_total", "records_rejected_total"} {
		if n := p.Metric(name); n != 0 {
			t.Errorf("%s is %v, want 0", name, n)
		}
	}
	if n := p.Metric("close_seconds_count"); n != 1 {
		t.Errorf("%v segments, want 1", n)
	}
	t.Logf("%d tables: settled after %v, QuestDB's FIN took %.1f s", tables, took.Round(time.Millisecond), closing)
	if n := db.MustQuery("select count() from tables() where table_name like 'new%'"); n[0][0] != fmt.Sprint(tables) {
		t.Errorf("%s tables, want %d", n[0][0], tables)
	}
	// By the dozen: QuestDB gives up on a thousand queries in a row.
	for i := 0; i < tables; i += 50 {
		var rows []string
		for n := i; n < min(i+50, tables); n++ {
			rows = append(rows, fmt.Sprintf("select n from new%d", n))
		}
		want, sql := strconv.Itoa(len(rows)), "select count() from ("+strings.Join(rows, " union all ")+")"
		until(t, fmt.Sprintf("the tables from new%d on have a row each", i), func() (bool, error) {
			got, err := db.Query(t.Context(), sql)
			return err == nil && got[0][0] == want, err
		})
	}
	p.Stop(30 * time.Second)
}

// TestHostileTables has one writer send, at once, many records that QuestDB refuses,
// each for another table, so that no table explains another: its neighbours on the
// lane do not wait for a search for each.
func TestHostileTables(t *testing.T) {
	t.Parallel()
	const records = 200
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "patient", false)
	file := keepRejected(t)
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file))
	l := startSlowLoad(t, p, 16, 100*time.Millisecond, "patient")
	p.WaitMetric(arrive, proxytest.AtLeast(16), "records_settled_total")
	var b strings.Builder
	for n := range records {
		fmt.Fprintf(&b, "\xff%d,a=b c=1i\n", n)
	}
	began := time.Now()
	w := p.Dial()
	if _, err := io.WriteString(w, b.String()); err != nil {
		t.Fatal(err)
	}
	p.WaitMetric(2*arrive, proxytest.Equal(records), "records_rejected_total")
	took := time.Since(began)
	p.WaitMetric(arrive, proxytest.Equal(1), "writers_demoted_total") // though it is silent
	w.Close()
	l.end()
	allSettled(p, arrive)
	t.Logf("%d records set aside after %v, %v replayed", records, took.Round(time.Millisecond), p.Metric("records_replayed_total"))
	l.check(db, arrive)
	if recs := readRejected(t, file); len(recs) != records {
		t.Errorf("%d records in the file, want %d", len(recs), records)
	}
	p.Stop(30 * time.Second)
}
