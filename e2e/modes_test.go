package e2e

import (
	"context"
	"errors"
	"io"
	"reflect"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/rejected"
)

// TestAtMostOnce kills QuestDB under load: no row comes twice, and no more are
// missing than the proxy calls uncertain.
func TestAtMostOnce(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "once", false)
	p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_DELIVERY", "at-most-once", "ILP_RETRY_MAX", "500ms"))
	l := startLoad(t, p, 8, short(8_000, 20_000), "once")
	for range short(2, 20) {
		written := p.Metric("records_written_total")
		p.WaitMetric(arrive, proxytest.AtLeast(written+float64(2000+random.IntN(6000))), "records_written_total")
		db.Kill()
		db.Start()
	}
	rows := l.end()
	allSettled(p, arrive)
	// What a failure cut in two is uncertain, and not counted as written.
	if written := p.Metric("records_written_total"); written > float64(rows) {
		t.Errorf("%v records written of %d", written, rows)
	}
	settled, uncertain := p.Metric("records_settled_total"), p.Metric("records_uncertain_total")
	if settled+uncertain != float64(rows) {
		t.Errorf("%v settled and %v uncertain of %d", settled, uncertain, rows)
	}
	p.Stop(arrive)

	// What was written last is there soon.
	ctx, cancel := context.WithTimeout(t.Context(), arrive)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond) // SQL has no way to be told of new rows
	defer tick.Stop()
	for {
		counts, err := l.count(ctx, db)
		c := counts["once"]
		if err == nil && c.missing <= int(uncertain) {
			t.Logf("%v; %v uncertain", c, uncertain)
			if c.twice > 0 {
				t.Errorf("%d rows came twice", c.twice)
			}
			if c.missing == 0 {
				t.Error("nothing is missing: was QuestDB killed under load?")
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%v, of which the proxy called %v uncertain; %v", c, uncertain, err)
		}
	}
}

// TestDisconnectOnRejected has ILP_ON_REJECTED=disconnect: whoever sends a record
// that is refused or malformed loses its connection, and nobody else does.
func TestDisconnectOnRejected(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	file := keepRejected(t)
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_ON_REJECTED", "disconnect", "ILP_REJECTED_FILE", file, "ILP_POOL_MAX", "4")) // one lane for all
	neighbour := p.Dial()
	if _, err := io.WriteString(neighbour, numberedRow("modes", 0, 0)); err != nil {
		t.Fatal(err)
	}
	db.WaitCount("modes", 1, arrive)
	for i, bad := range []string{
		"modes,writer=w0 n=\"no number\" 5000\n",
		"modes,writer=w0 n=0x,text= 5\n",
	} {
		conn := p.Dial()
		if _, err := io.WriteString(conn, numberedRow("modes", 1+i, 0)+bad); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(arrive))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: the connection did not end: %d bytes, %v", bad, n, err)
		}
		p.WaitMetric(arrive, proxytest.Equal(float64(1+i)), "sessions_ended_total", "reason", "rejected")
	}
	if _, err := io.WriteString(neighbour, numberedRow("modes", 0, 1)); err != nil {
		t.Errorf("the neighbour was disconnected too: %v", err)
	}
	allSettled(p, arrive)
	got := db.MustQuery("select writer, count_distinct(n) from modes order by writer")
	if want := [][]string{{"w0", "2"}, {"w1", "1"}, {"w2", "1"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("writers and rows: %q, want %q", got, want)
	}
	if recs := readRejected(t, file); len(recs) != 2 || recs[0].Reason != rejected.ReasonRefused || recs[1].Reason != rejected.ReasonMalformed {
		t.Errorf("in the file: %+v", recs)
	}
	if n := p.Metric("sessions"); n != 1 {
		t.Errorf("%v writers are connected, want the neighbour alone", n)
	}
	p.Stop(arrive)
}
