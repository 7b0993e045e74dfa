package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
// row can be queried. And it deletes what is left of a dropped table at once, instead
// of every 30 s in somebody else's measurement: up to a tenth of its CPU time.
var serverConf = map[string]string{
	"line.tcp.commit.interval.fraction": "0.1",
	"line.tcp.maintenance.job.interval": "50",
	"cairo.wal.purge.interval":          "250",
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
	// What a relay costs that only copies, on cores that QuestDB would use itself: its
	// writers authenticate.
	if b.wants(haproxy) {
		r, err := b.startHAProxy(ctx, db.ILP())
		if err != nil {
			return err
		}
		if r != nil {
			peers = append(peers, r)
		}
	}
	m := &rowsRun{b: b, server: db.PID(), root: db.Root()}
	if m.conn, err = pgconn.Connect(ctx, "postgres://admin:quest@"+db.PG()+"/qdb?sslmode=disable"); err != nil {
		return err
	}
	defer m.conn.Close(context.WithoutCancel(ctx))

	all, err := b.layouts()
	if err != nil {
		return err
	}
	for _, l := range all {
		if err := m.measureOn(ctx, l, peers); err != nil {
			return err
		}
	}
	return nil
}

// measureOn measures with everybody on the cores that l says.
func (m *rowsRun) measureOn(ctx context.Context, l layout, peers []*relay) error {
	peers = slices.DeleteFunc(slices.Clone(peers), func(r *relay) bool { return l.peers != nil && !slices.Contains(l.peers, r.name) })
	others := slices.DeleteFunc(family(os.Getpid()), func(pid int) bool { return pid == m.server })
	if err := errors.Join(pin(l.server, m.server), pin(l.others, others...)); err != nil {
		return err
	}
	for _, writers := range l.writers {
		// The server's compiler has to warm up, which takes half a minute; the last straight
		// run says how many rows fit. Never so few that making the tables is what is measured.
		warm := slices.Concat(peers, peers[:1])
		if !m.warm {
			warm = slices.Concat(peers, warm)
			m.warm = true
		}
		least := 400 / writers
		pieces := least
		for _, r := range warm {
			o, err := m.measure(ctx, r, writers, pieces)
			if err != nil {
				return r.failed(err)
			}
			if r == peers[0] {
				pieces = max(least, int(o.rate*m.b.rows.Seconds())/writers/m.rowsPerPiece)
			}
		}
		where := ", " + plural(writers, "writer") + ", " + l.name
		rate := m.b.report.add(figure{Name: "rows into QuestDB" + where, Unit: "rows/s", Reference: direct, Target: minRows})
		cost := m.b.report.add(figure{Name: "CPU of QuestDB and the proxy for them" + where, Unit: "s/million", Reference: direct, Lower: true})
		own := m.b.report.add(figure{Name: "CPU of the relay for them" + where, Unit: "s/million", Reference: haproxy, Lower: true})
		err := m.b.eachRound(ctx, peers, func(_ int, r *relay) error {
			o, err := m.measure(ctx, r, writers, pieces)
			if err != nil {
				return err
			}
			rate.put(r.name, o.rate)
			cost.put(r.name, o.server+o.relay)
			if r.cmd != nil {
				own.put(r.name, o.relay)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type rowsRun struct {
	b            *bench
	server       int    // QuestDB's process
	root         string // its directory
	conn         *pgconn.PgConn
	tables       int
	rowsPerPiece int
	warm         bool // QuestDB's compiler
}

// outcome is how many rows came in a second, and how many seconds of CPU time a million
// of them cost QuestDB and the relay. The latter tell more where others use the machine.
type outcome struct{ rate, server, relay float64 }

// measure has each writer send n pieces into a new table.
func (m *rowsRun) measure(ctx context.Context, r *relay, writers, n int) (o outcome, err error) {
	// A table for each writer: the server need not sort what one of them sent
	// among the others' rows, which costs it more than all else and never the same.
	tables := make([]string, writers)
	pieces := make([][][]byte, writers)
	for i := range tables {
		m.tables++
		tables[i] = fmt.Sprintf("bench%05d", m.tables)
		text, length := rows(tables[i], payloadSize)
		pieces[i] = chunks(text, length)
		pieces[i] = pieces[i][:len(pieces[i])-1] // all of one size
		m.rowsPerPiece = len(pieces[i][0]) / length
	}
	want := writers * n * m.rowsPerPiece

	dial := plainDialer(r.addr)
	if r.name == direct || r.name == haproxy {
		dial = authDialer(r.addr, m.b.key)
	}
	serverBefore, relayBefore, err := m.cpu(r)
	if err != nil {
		return o, err
	}
	begin := time.Now()
	l, err := startLoad(ctx, dial, pieces, n)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := l.wait(); err != nil {
		return o, err
	}
	got := 0
	for last, stuck := time.Now(), 0; got < want; {
		if err := sleep(ctx, rowsCheck); err != nil {
			return o, err
		}
		if got, err = m.count(ctx, tables); err != nil {
			return o, err
		}
		if got != stuck {
			last, stuck = time.Now(), got
		}
		if time.Since(last) > patience {
			return o, fmt.Errorf("%w: %d of %d rows are in QuestDB", errPatience, got, want)
		}
	}
	took := time.Since(begin)
	if got > want {
		m.b.report.note(fmt.Sprintf("%s: %d rows more than were sent (some were replayed)", r.name, got-want))
	}
	serverAfter, relayAfter, err := m.cpu(r)
	if err != nil {
		return o, err
	}
	if err := m.drop(ctx, tables); err != nil {
		return o, err
	}
	millions := float64(want) / 1e6
	return outcome{
		rate:   float64(want) / took.Seconds(),
		server: (serverAfter - serverBefore).Seconds() / millions,
		relay:  (relayAfter - relayBefore).Seconds() / millions,
	}, nil
}

// drop returns when nothing is left of the tables, so that nobody pays for what
// others wrote.
func (m *rowsRun) drop(ctx context.Context, tables []string) error {
	for _, table := range tables {
		if _, err := m.conn.Exec(ctx, "drop table "+table).ReadAll(); err != nil {
			return err
		}
	}
	for begin := time.Now(); ; {
		left, err := filepath.Glob(filepath.Join(m.root, "db", "bench*"))
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Since(begin) > patience {
			return fmt.Errorf("%w: QuestDB has not deleted %v", errPatience, left)
		}
		if err := sleep(ctx, rowsCheck); err != nil {
			return err
		}
	}
}

// cpu is what the server and the relay, if there is one, have used so far.
func (m *rowsRun) cpu(r *relay) (server, relay time.Duration, err error) {
	if server, err = cpuTime(m.server); err == nil && r.cmd != nil {
		relay, err = cpuTime(r.pid())
	}
	return server, relay, err
}

// count returns how many rows can be queried; none as long as not all tables
// are there.
func (m *rowsRun) count(ctx context.Context, tables []string) (sum int, err error) {
	var sql strings.Builder
	for i, table := range tables {
		if i > 0 {
			sql.WriteString(" union all ")
		}
		sql.WriteString("select count() from " + table)
	}
	results, err := m.conn.Exec(ctx, sql.String()).ReadAll()
	if err != nil {
		if strings.Contains(err.Error(), "table does not exist") {
			return 0, nil
		}
		return 0, err
	}
	for _, result := range results {
		for _, row := range result.Rows {
			n, err := strconv.Atoi(string(row[0]))
			if err != nil {
				return 0, fmt.Errorf("counting rows: %w", err)
			}
			sum += n
		}
	}
	return sum, nil
}
