package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/questdb"
)

// minRows is what 0.97x straight to QuestDB is the target for.
const minRows = 0.97

// rowsCheck is the pause between two looks at a table.
const rowsCheck = 10 * time.Millisecond

// serverConf has QuestDB commit what it was sent on an open connection within
// 100 ms or so instead of a second: the end of a measurement is when the last
// row can be queried.
var serverConf = map[string]string{
	"line.tcp.commit.interval.fraction": "0.1",
	"line.tcp.maintenance.job.interval": "50",
}

// measureRows measures the time from the first byte until QuestDB shows all rows.
// The writers' connections stay open until then, straight or not, so that all
// wait for the same commit.
func (b *bench) measureRows(ctx context.Context) (err error) {
	db, err := questdb.Run(ctx, questdb.Options{
		Keys: []*auth.Key{b.key}, Conf: serverConf, JavaOpts: []string{"-XX:TieredStopAtLevel=4", "-Xmx1g"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b.report.note("QuestDB " + db.Version())

	peers := []*relay{{name: direct, addr: db.ILP()}}
	defer func() {
		for _, r := range peers {
			r.stop()
		}
	}()
	for _, name := range []string{proxyALO, proxy, otherProxy} {
		if !b.wants(name) {
			continue
		}
		r, err := b.startProxy(ctx, name, db.ILP())
		if err != nil {
			return err
		}
		peers = append(peers, r)
	}
	m := &rowsRun{b: b, db: db.PG()}
	if m.conn, err = pgconn.Connect(ctx, "postgres://admin:quest@"+db.PG()+"/qdb?sslmode=disable"); err != nil {
		return err
	}
	defer m.conn.Close(context.WithoutCancel(ctx))

	for _, writers := range []int{1, 8} {
		// The server's compiler has to warm up, and then says how many rows fit.
		pieces := 8
		for _, r := range append(peers, peers[0]) {
			rate, err := m.measure(ctx, r, writers, pieces)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			pieces = max(8, int(rate*b.rows.Seconds())/writers/m.rowsPerPiece)
			if r != peers[0] || writers == 1 {
				pieces = min(pieces, 1000)
			}
		}
		rate := b.report.add(figure{Name: "rows into QuestDB, " + plural(writers, "writer"), Unit: "rows/s", Reference: direct, Target: minRows})
		err := b.eachRound(ctx, peers, func(_ int, r *relay) error {
			n, err := m.measure(ctx, r, writers, pieces)
			if err == nil {
				rate.put(r.name, n)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type rowsRun struct {
	b            *bench
	db           string
	conn         *pgconn.PgConn
	tables       int
	rowsPerPiece int
}

// measure sends pieces chunks of each writer into a new table and returns rows/s.
func (m *rowsRun) measure(ctx context.Context, r *relay, writers, pieces int) (perSecond float64, err error) {
	m.tables++
	table := fmt.Sprintf("bench%04d", m.tables)
	text, length := rows(table, payloadSize)
	parts := chunks(text, length)
	parts = parts[:len(parts)-1] // all of one size
	m.rowsPerPiece = len(parts[0]) / length
	want := writers * pieces * m.rowsPerPiece

	dial := plainDialer(r.addr)
	if r.name == direct {
		dial = authDialer(r.addr, m.b.key)
	}
	begin := time.Now()
	l, err := startLoad(ctx, dial, writers, parts, pieces)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := l.wait(); err != nil {
		return 0, err
	}
	got := 0
	for last, stuck := time.Now(), 0; got < want; {
		if err := sleep(ctx, rowsCheck); err != nil {
			return 0, err
		}
		if got, err = m.count(ctx, table); err != nil {
			return 0, err
		}
		if got != stuck {
			last, stuck = time.Now(), got
		}
		if time.Since(last) > patience {
			return 0, fmt.Errorf("%w: %d of %d rows are in QuestDB", errPatience, got, want)
		}
	}
	took := time.Since(begin)
	if got > want {
		m.b.report.note(fmt.Sprintf("%s: %d rows more than were sent (some were replayed)", r.name, got-want))
	}
	_, err = m.conn.Exec(ctx, "drop table "+table).ReadAll()
	return float64(want) / took.Seconds(), err
}

// count returns how many rows can be queried; a table that is not there yet has
// none.
func (m *rowsRun) count(ctx context.Context, table string) (int, error) {
	results, err := m.conn.Exec(ctx, "select count() from "+table).ReadAll()
	if err != nil {
		if strings.Contains(err.Error(), "table does not exist") {
			return 0, nil
		}
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, errors.New("QuestDB did not answer with a count")
	}
	return strconv.Atoi(string(results[0].Rows[0][0]))
}
