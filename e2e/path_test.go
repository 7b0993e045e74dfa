package e2e

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestPath has the rows of writers that know nothing of authentication in a
// QuestDB that demands it: one by nc, and 50 writers' at once. With each version.
func TestPath(t *testing.T) {
	t.Parallel()
	for _, version := range questdb.Versions() {
		t.Run(version, func(t *testing.T) {
			key := newKey(t, "writer")
			db := questdb.Start(t, questdb.Options{Version: version, Keys: []*auth.Key{key}})
			p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))

			host, port, err := net.SplitHostPort(p.Addr())
			if err != nil {
				t.Fatal(err)
			}
			netcat(t, host, port, "trades,symbol=SOL-USD,side=buy price=188.22,amount=7i 1000000000\n")
			db.WaitCount("trades", 1, arrive)
			got := db.MustQuery("select symbol, side, price, amount, timestamp from trades")
			want := [][]string{{"SOL-USD", "buy", "188.22", "7", "1970-01-01 00:00:01.000000"}}
			if !slices.EqualFunc(got, want, slices.Equal) {
				t.Errorf("the row is %q, want %q", got, want)
			}

			const writers, rows = 50, 2000
			sendNumbered(t, p, "many", writers, rows)
			db.WaitCount("many", writers*rows, arrive)
			checkNumbered(t, db, "many", writers, rows)
			checkCounters(t, p, writers*rows+1)
			p.Stop(30 * time.Second) // exit code 0, though nc never went away
		})
	}
}

// numbered are a writer's rows: with its number, theirs, and timestamps that no
// other writer's rows have.
func numbered(table string, writer, rows int) string {
	var b strings.Builder
	for n := range rows {
		fmt.Fprintf(&b, "%s,writer=w%d n=%di,text=\"row %d, of \\\"w%d\\\"\" %d\n", table, writer, n, n, writer, 1+writer+n*1000)
	}
	return b.String()
}

// sendNumbered has writers send their rows of numbered at the same time.
func sendNumbered(t *testing.T, p *proxytest.Proxy, table string, writers, rows int) {
	t.Helper()
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error { return p.TrySend(numbered(table, w, rows)) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// checkNumbered says which rows of numbered are not in the table exactly once.
func checkNumbered(t *testing.T, db *questdb.Server, table string, writers, rows int) {
	t.Helper()
	bad := 0
	sums := db.MustQuery(fmt.Sprintf(`select writer, count(), count_distinct(n), sum(n), min(n), max(n), count_distinct(text) from "%s" order by writer`, table))
	for _, row := range sums {
		n := strconv.Itoa(rows)
		if !slices.Equal(row[1:], []string{n, n, strconv.Itoa(rows * (rows - 1) / 2), "0", strconv.Itoa(rows - 1), n}) {
			t.Errorf("writer, rows, different ones, sum, first, last, texts: %q, want %s rows", row, n)
			if bad++; bad == 5 {
				break
			}
		}
	}
	if len(sums) != writers {
		t.Errorf("rows of %d writers, want %d", len(sums), writers)
	}
}

// checkCounters compares what the proxy counted with what was sent, and wants no
// sign of trouble.
func checkCounters(t *testing.T, p *proxytest.Proxy, records int) {
	t.Helper()
	p.WaitMetric(arrive, proxytest.Equal(0), "journal_records")
	for _, name := range []string{"records_received_total", "records_written_total", "records_settled_total"} {
		if v := p.Metric(name); v != float64(records) {
			t.Errorf("%s is %v, want %d", name, v, records)
		}
	}
	for _, name := range []string{"fragments_total", "records_rejected_total", "records_replayed_total", "lane_failures_total"} {
		if v := p.Metric(name); v != 0 {
			t.Errorf("%s is %v, want 0", name, v)
		}
	}
}
