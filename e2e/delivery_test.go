package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// seeded returns random numbers that a failing test can be repeated with.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// between returns a duration from a to b.
func between(r *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(r.Int64N(int64(b-a)))
}

// allSettled waits until everything that the proxy accepted is settled.
func allSettled(p *proxytest.Proxy, limit time.Duration) {
	p.WaitMetric(limit, proxytest.Equal(0), "journal_records")
}

// TestKill kills QuestDB under load, again and again, or stops it politely: no
// row is missing, and where the table has keys none comes twice.
func TestKill(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(*questdb.Server)
	}{
		{"SIGKILL", (*questdb.Server).Kill},
		{"SIGTERM", (*questdb.Server).Stop},
	} {
		t.Run(test.name, func(t *testing.T) {
			times := short(3, 20)
			random := seeded(t)
			key := newKey(t, "writer")
			db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
			makeTable(db, "plain", false)
			makeTable(db, "dedup", true)
			p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
				"ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "1s"))
			l := startLoad(t, p, 8, short(8_000, 20_000), "plain", "dedup")
			for range times {
				time.Sleep(between(random, 500*time.Millisecond, short(2*time.Second, 6*time.Second)))
				before := p.Metric("records_replayed_total")
				test.end(db)
				db.Start()
				t.Logf("%d rows written, %v replayed", l.rows(), p.Metric("records_replayed_total")-before)
			}
			time.Sleep(between(random, 0, time.Second))
			rows := l.end()
			allSettled(p, arrive)
			counts := l.check(db, arrive)
			t.Logf("%d rows, twice per end: %d", rows, counts["plain"].twice/times)
			if counts["dedup"].twice > 0 {
				t.Errorf("rows came twice into a table with keys")
			}
			if n := p.Metric("records_rejected_total"); n != 0 {
				t.Errorf("%v records were set aside", n)
			}
			p.Stop(30 * time.Second)
		})
	}
}
