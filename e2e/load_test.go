package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// soak makes the tests of delivery long: many kills, the full rate. See make soak.
var soak = flag.Bool("soak", false, "run the tests of delivery in full length")

// short returns a in a usual run and b with -soak.
func short[T any](a, b T) T {
	if *soak {
		return b
	}
	return a
}

// A load is writers that go on writing numbered rows at a steady rate, and knows
// how many each wrote.
type load struct {
	t      testing.TB
	every  time.Duration // a writer writes a batch of rows
	tables []string
	// untimed leaves out the rows' timestamps.
	untimed bool
	wrote   []atomic.Int64 // by writer: rows that the kernel took whole
	pause   atomic.Bool    // while it is set nobody writes
	over    chan struct{}
	wg      sync.WaitGroup
}

// batchEvery is how often a writer of a load writes.
const batchEvery = 20 * time.Millisecond

// startLoad has writers write rate rows/s together to the proxy, each to one of
// the tables in turn, until end, or until the proxy half-closes its connection.
func startLoad(t testing.TB, p *proxytest.Proxy, writers, rate int, tables ...string) *load {
	t.Helper()
	return (&load{t: t, every: batchEvery}).start(p, writers, max(1, rate*int(batchEvery)/int(time.Second)/writers), tables)
}

// startSlowLoad is startLoad with writers that write one row each in every.
func startSlowLoad(t testing.TB, p *proxytest.Proxy, writers int, every time.Duration, tables ...string) *load {
	t.Helper()
	return (&load{t: t, every: every}).start(p, writers, 1, tables)
}

// startUntimedLoad is startLoad of rows without timestamps.
func startUntimedLoad(t testing.TB, p *proxytest.Proxy, writers, rate int, tables ...string) *load {
	t.Helper()
	l := &load{t: t, every: batchEvery, untimed: true}
	return l.start(p, writers, max(1, rate*int(batchEvery)/int(time.Second)/writers), tables)
}

func (l *load) start(p *proxytest.Proxy, writers, batch int, tables []string) *load {
	t := l.t
	t.Helper()
	l.tables, l.wrote, l.over = tables, make([]atomic.Int64, writers), make(chan struct{})
	for w := range writers {
		conn := p.Dial()
		l.wg.Go(func() {
			if err := l.write(conn, w, batch); err != nil {
				t.Errorf("writer %d, row %d: %v", w, l.wrote[w].Load(), err)
			}
		})
	}
	return l
}

func (l *load) table(w int) string { return l.tables[w%len(l.tables)] }

// row is the nth of a writer. No two of a load have the same timestamp.
func (l *load) row(b []byte, w, n int) []byte {
	b = append(b, l.table(w)...)
	b = append(b, ",writer=w"...)
	b = strconv.AppendInt(b, int64(w), 10)
	b = append(b, " n="...)
	b = strconv.AppendInt(b, int64(n), 10)
	if l.untimed {
		return append(b, "i\n"...)
	}
	b = append(b, "i "...)
	b = strconv.AppendInt(b, 1_700_000_000_000_000_000+int64(n*len(l.wrote)+w)*1000, 10)
	return append(b, '\n')
}

// write writes batches of rows until the load is over or the proxy has no more
// of it. In both cases the proxy has read all of it then.
func (l *load) write(conn *net.TCPConn, w, batch int) error {
	defer conn.Close()
	told := make(chan struct{})
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // until the proxy's half-close, or ours is answered
		close(told)
	}()
	defer func() { <-told }()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	var b []byte
	for {
		select {
		case <-told:
			return nil
		case <-l.over:
			return conn.CloseWrite()
		case <-tick.C:
		}
		if l.pause.Load() {
			continue
		}
		b = b[:0]
		first := int(l.wrote[w].Load())
		for n := range batch {
			b = l.row(b, w, first+n)
		}
		n, err := conn.Write(b)
		l.wrote[w].Add(int64(bytes.Count(b[:n], []byte("\n"))))
		if err != nil {
			conn.Close()
			return err
		}
	}
}

// end has the writers end, and returns when the proxy has read all they wrote.
func (l *load) end() (rows int) {
	l.t.Helper()
	close(l.over)
	return l.wait()
}

// wait waits until the writers have ended.
func (l *load) wait() (rows int) {
	l.wg.Wait()
	for w := range l.wrote {
		rows += int(l.wrote[w].Load())
	}
	return rows
}

// more waits until the writers have written n rows more, for as long as they get on.
func (l *load) more(n int) {
	l.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond) // nobody tells of a row
	defer tick.Stop()
	last, since := l.rows(), time.Now()
	for want := last + n; last < want; <-tick.C {
		switch now := l.rows(); {
		case now > last:
			last, since = now, time.Now()
		case time.Since(since) > arrive:
			l.t.Fatalf("no row was written for %v; %d are missing", arrive, want-last)
		}
	}
}

// spend lets d pass where that time is what the test is about: so long is a server
// stopped, or the network gone. It fails at once if the proxy ends meanwhile.
func spend(t testing.TB, p *proxytest.Proxy, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.Done():
		t.Fatalf("the proxy ended: %s", p.Log())
	}
}

// rows returns how many rows were written until now.
func (l *load) rows() (n int) {
	for w := range l.wrote {
		n += int(l.wrote[w].Load())
	}
	return n
}

// A tally is what SQL says of the rows of a load, or of one of its tables.
type tally struct{ sent, missing, twice int }

func (c tally) String() string {
	return fmt.Sprintf("%d rows, %d missing, %d twice", c.sent, c.missing, c.twice)
}

// count asks SQL what is missing and what came twice, by table.
func (l *load) count(ctx context.Context, db *questdb.Server) (map[string]tally, error) {
	counts := map[string]tally{}
	for w := range l.wrote {
		c := counts[l.table(w)]
		sent := int(l.wrote[w].Load())
		c.sent += sent
		c.missing += sent
		counts[l.table(w)] = c
	}
	for _, table := range l.tables {
		rows, err := db.Query(ctx, fmt.Sprintf(
			"select writer, count(), count_distinct(n), max(n) from %q", table))
		if err != nil && strings.Contains(err.Error(), "table does not exist") {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := counts[table]
		for _, row := range rows {
			var w, all, distinct, last int
			if _, err := fmt.Sscanf(strings.Join(row, " "), "w%d %d %d %d", &w, &all, &distinct, &last); err != nil {
				return nil, fmt.Errorf("%q: %w", row, err)
			}
			if sent := int(l.wrote[w].Load()); last >= sent {
				return nil, fmt.Errorf("table %s has row %d of writer %d, who wrote %d", table, last, w, sent)
			}
			c.missing -= distinct
			c.twice += all - distinct
		}
		counts[table] = c
	}
	return counts, nil
}

// check waits until no row is missing, and fails the test if that does not come
// about within limit. It returns what came, by table.
func (l *load) check(db *questdb.Server, limit time.Duration) map[string]tally {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	defer cancel()
	var counts map[string]tally
	for {
		now, err := l.count(ctx, db)
		if err == nil {
			counts = now
			missing := 0
			for _, c := range counts {
				missing += c.missing
			}
			if missing == 0 {
				break
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-ctx.Done():
		}
		l.t.Errorf("%v after the end: %v (last error: %v); %s", limit, counts, err, l.gaps(db))
		break
	}
	for table, c := range counts {
		l.t.Logf("table %s: %v", table, c)
	}
	return counts
}

// gaps says where rows are missing.
func (l *load) gaps(db *questdb.Server) string {
	ctx, cancel := context.WithTimeout(context.Background(), arrive)
	defer cancel()
	var b strings.Builder
	suspended, err := db.Query(ctx, "select name, suspended, writerTxn, sequencerTxn from wal_tables()")
	fmt.Fprintf(&b, "tables (suspended?): %v %v", suspended, err)
	for w := range l.wrote {
		rows, err := db.Query(ctx, fmt.Sprintf("select distinct n from %q where writer = 'w%d' order by n", l.table(w), w))
		if err != nil {
			fmt.Fprintf(&b, "; %v", err)
			continue
		}
		next, shown := 0, 0
		for _, row := range append(rows, []string{strconv.FormatInt(l.wrote[w].Load(), 10)}) {
			n, _ := strconv.Atoi(row[0])
			if n > next && shown < 5 {
				fmt.Fprintf(&b, "; w%d lacks %d-%d of %d", w, next, n-1, l.wrote[w].Load())
				shown++
			}
			next = n + 1
		}
	}
	return b.String()
}

// makeTable makes a WAL table for the rows of a load; with dedup a row that comes
// again replaces itself.
func makeTable(db *questdb.Server, table string, dedup bool) {
	sql := fmt.Sprintf("create table %q (writer symbol, n long, timestamp timestamp) timestamp(timestamp) partition by day wal", table)
	if dedup {
		sql += " dedup upsert keys(timestamp, writer)"
	}
	db.MustQuery(sql)
}
