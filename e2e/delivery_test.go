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
			times := short(2, 20)
			random := seeded(t)
			key := newKey(t, "writer")
			db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
			makeTable(db, "plain", false)
			makeTable(db, "dedup", true)
			p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
				"ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "1s"))
			rate := short(8_000, 20_000)
			l := startLoad(t, p, 8, rate, "plain", "dedup")
			for range times {
				l.more(rate/2 + random.IntN(short(3, 11)*rate/2)) // from half a second on
				before := p.Metric("records_replayed_total")
				test.end(db)
				db.Start()
				t.Logf("%d rows written, %v replayed", l.rows(), p.Metric("records_replayed_total")-before)
			}
			l.more(random.IntN(rate))
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

// TestPause stops QuestDB in its tracks under full load: the proxy's memory stays
// within bounds and nothing is missing when it goes on, or is killed instead.
func TestPause(t *testing.T) {
	const buffer = 64 << 20
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})

	t.Run("goes on", func(t *testing.T) {
		makeTable(db, "goes_on", false)
		p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_RETRY_MAX", "1s"))
		p.WaitReady(arrive)
		l := startLoad(t, p, 8, 400_000, "goes_on") // more than the buffer takes in that time
		p.WaitMetric(arrive, proxytest.AtLeast(50_000), "records_written_total")
		db.Pause()
		if *soak {
			spend(t, p, 30*time.Second)
		} else {
			p.WaitMetric(arrive, proxytest.AtLeast(1), "journal_waiting_sessions")
			spend(t, p, 3*time.Second)
		}
		db.Resume()
		l.end()
		allSettled(p, 2*arrive)
		if peak := p.PeakRSS(); peak > buffer+64<<20 {
			t.Errorf("the proxy took %d MiB of memory, want at most %d", peak>>20, buffer>>20+64)
		} else {
			t.Logf("the proxy took %d MiB of memory", peak>>20)
		}
		l.check(db, arrive)
		p.Stop(arrive)
	})

	// Stopped around a FIN, with very short segments, so that there are many, and
	// killed out of that: a FIN that came proves nothing then.
	t.Run("is killed", func(t *testing.T) {
		makeTable(db, "is_killed", true)
		random := seeded(t)
		p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
			"ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "500ms", "ILP_CONFIRM_INTERVAL", "300ms"))
		l := startLoad(t, p, 8, short(8_000, 20_000), "is_killed")
		for range short(2, 20) {
			fins := p.Metric("close_seconds_count")
			p.WaitMetric(arrive, proxytest.AtLeast(fins+8), "close_seconds_count")
			spend(t, p, between(random, 0, 400*time.Millisecond))
			db.Pause()
			spend(t, p, between(random, 0, 2*time.Second))
			db.Kill()
			db.Start()
		}
		l.end()
		allSettled(p, arrive)
		if c := l.check(db, arrive)["is_killed"]; c.twice > 0 {
			t.Errorf("%d rows came twice into a table with keys", c.twice)
		}
		p.Stop(arrive)
	})
}

// TestManyWriters has 5,000 writers that each say something now and then: they
// share the few connections to QuestDB, and every row is there.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	const most = 16 // ILP_POOL_MAX
	writers := short(1000, 5000)
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "few", false)
	connections := countConnections(t, db.ILP())
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, connections.addr))
	p.WaitReady(arrive)
	l := startSlowLoad(t, p, writers, short(3*time.Second, 20*time.Second), "few")
	l.more(writers * short(2, 15)) // each so many
	l.end()
	allSettled(p, arrive)
	if n := connections.at.Load(); n > most {
		t.Errorf("%d connections to QuestDB, want at most %d", n, most)
	} else {
		t.Logf("at most %d connections to QuestDB for %d writers", n, writers)
	}
	if c := l.check(db, arrive)["few"]; c.twice > 0 {
		t.Errorf("%d rows came twice", c.twice)
	}
	p.Stop(arrive)
}

// TestNotWAL kills QuestDB under load into a table that bypasses WAL and has a
// second writer, with the settings that such tables need: no row is missing.
func TestNotWAL(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Conf: map[string]string{"cairo.o3.max.lag": "0"}})
	for _, table := range []string{"no_wal", "second"} {
		db.MustQuery("create table " + table + " (writer symbol, n long, timestamp timestamp) timestamp(timestamp) partition by day bypass wal")
	}
	p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_SETTLE", "3s", "ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "500ms", "ILP_CONFIRM_INTERVAL", "1s"))
	// Several lanes write to each table: each is the others' second writer.
	rate := short(4_000, 20_000)
	l := startLoad(t, p, 8, rate, "no_wal", "second")
	times := short(2, 20)
	for range times {
		l.more(3*rate + random.IntN(short(3, 6)*rate)) // from 3 s on
		db.Kill()
		db.Start()
	}
	l.end()
	allSettled(p, 2*arrive)
	db.Kill() // what is settled stays
	db.Start()
	counts := l.check(db, arrive)
	t.Logf("twice per kill: %d", (counts["no_wal"].twice+counts["second"].twice)/times)
	p.Stop(arrive)
}

// TestServerIdleTimeout has a server that closes connections on which nothing
// comes for 2 s: that is no alarm, nothing goes again, and nothing is missing.
func TestServerIdleTimeout(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key},
		Conf: map[string]string{"line.tcp.net.connection.timeout": "2000"}})
	makeTable(db, "rests", false)
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))
	l := startLoad(t, p, 8, 400, "rests")
	l.more(800)
	for range short(2, 20) {
		l.pause.Store(true)
		spend(t, p, 4500*time.Millisecond) // of the server's time
		l.pause.Store(false)
		l.more(400)
	}
	l.end()
	allSettled(p, arrive)
	if c := l.check(db, arrive)["rests"]; c.twice > 0 {
		t.Errorf("%d rows came twice", c.twice)
	}
	for _, name := range []string{"records_replayed_total", "records_rejected_total", "lane_failures_total"} {
		if n := p.Metric(name); n != 0 {
			t.Errorf("%s is %v, want 0", name, n)
		}
	}
	if lines := append(p.LogLines(`"level":"WARN"`), p.LogLines(`"level":"ERROR"`)...); len(lines) > 0 {
		t.Errorf("alarm: %q", lines)
	}
	p.Stop(arrive)
}
