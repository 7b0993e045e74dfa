package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestServerLater begins to write 10 seconds before there is a QuestDB: every row
// arrives. Then that is stopped while nobody writes, and started again: the next
// rows arrive.
func TestServerLater(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Later: true})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_RETRY_MAX", "2s"))

	const writers, absence = 20, 10 * time.Second
	began, stop := time.Now(), make(chan struct{})
	var rows [writers]int
	g, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		g.Go(func() (err error) {
			rows[w], err = keepWriting(ctx, stop, p.Addr(), "late", w)
			return err
		})
	}
	p.WaitNotReady("no answer", arrive)
	<-time.After(absence - time.Since(began)) // the writers' time, not ours
	db.Start()
	p.WaitReady(arrive)
	close(stop)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range rows {
		total += n
	}
	if total < writers*100 { // one every 50 ms or so, for more than 10 s
		t.Fatalf("only %d rows were written", total)
	}
	db.WaitCount("late", total, arrive)
	for w, n := range rows {
		got := db.MustQuery(fmt.Sprintf("select count_distinct(n), max(n) from late where writer = 'w%d'", w))
		if want := fmt.Sprintf("[[%d %d]]", n, n-1); fmt.Sprint(got) != want {
			t.Errorf("different rows and the last of writer %d: %v, want %s", w, got, want)
		}
	}
	checkCounters(t, p, total)

	p.WaitLog(allIsWell, arrive)
	lines := len(p.LogLines(`"level":"WARN"`))
	db.Stop()
	db.Start()
	p.Send(numbered("again", 0, 100))
	db.WaitCount("again", 100, arrive)
	checkNumbered(t, db, "again", 1, 100)
	checkCounters(t, p, total+100) // no failure: there was nothing on the connections
	if now := p.LogLines(`"level":"WARN"`); len(now) > lines+4 {
		t.Errorf("%d warnings because of a server that was restarted while idle: %q", len(now)-lines, now[lines:])
	}
	p.Stop(30 * time.Second)
}

// TestBufferFull keeps QuestDB away until the proxy's memory is used up and it
// holds the writers back; then all rows arrive.
func TestBufferFull(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Later: true})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_BUFFER", "8MiB", "ILP_MAX_RECORD", "64KiB", "ILP_RETRY_MAX", "500ms"))

	// Far more than fits into the buffer and what the kernel holds of 4 connections.
	const writers, rows = 4, 250_000
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error { return p.TrySend(numbered("many", w, rows)) })
	}
	p.WaitMetric(arrive, proxytest.Equal(writers), "journal_waiting_sessions")
	read := p.Metric("records_received_total")
	if used, limit := p.Metric("journal_bytes"), p.Metric("journal_limit_bytes"); used > limit || limit > 8<<20 {
		t.Errorf("the journals hold %v bytes and may hold %v, of 8 MiB", used, limit)
	}
	if read >= writers*rows {
		t.Fatal("the writers were never held back")
	}
	db.Start()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	db.WaitCount("many", writers*rows, arrive)
	checkNumbered(t, db, "many", writers, rows)
	checkCounters(t, p, writers*rows)
	p.Stop(30 * time.Second)
}

// keepWriting writes one row after the other, as a device does that measures
// something, until stop is closed. It returns how many.
func keepWriting(ctx context.Context, stop <-chan struct{}, addr, table string, writer int) (rows int, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * arrive))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		row := fmt.Sprintf("%s,writer=w%d n=%di %d\n", table, writer, rows, 1+writer+rows*1000)
		if _, err := io.WriteString(conn, row); err != nil {
			return rows, fmt.Errorf("writer %d, row %d: %w", writer, rows, err)
		}
		rows++
		select {
		case <-tick.C:
		case <-stop:
			return rows, proxytest.Finish(conn)
		case <-ctx.Done():
			return rows, ctx.Err()
		}
	}
}
