package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// A smallDisk is a file system of its own for a server's root folder.
type smallDisk struct {
	t            testing.TB
	path         string
	over, filled chan struct{}
}

// newSmallDisk mounts one for the duration of a test.
func newSmallDisk(t testing.TB) *smallDisk {
	t.Helper()
	needRoot(t, "to mount a small disk")
	d := &smallDisk{t: t, path: t.TempDir()}
	if err := unix.Mount("tmpfs", d.path, "tmpfs", 0, "size=1g"); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.path, 0); err != nil {
			t.Errorf("unmounting %s: %v", d.path, err)
		}
	})
	return d
}

// fill takes all that is free, and goes on to take what comes free, until enlarge.
func (d *smallDisk) fill() {
	d.t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.path, &s); err != nil {
		d.t.Fatal(err)
	}
	used := int64(s.Blocks-s.Bfree) * s.Bsize
	d.remount(fmt.Sprint(used))
	ballast, err := os.Create(filepath.Join(d.path, "ballast"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.over, d.filled = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(d.filled)
		defer ballast.Close()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		page := make([]byte, 4096)
		for {
			if _, err := ballast.Write(page); err == nil {
				continue
			}
			select {
			case <-tick.C:
			case <-d.over:
				return
			}
		}
	}()
}

// enlarge makes room.
func (d *smallDisk) enlarge() {
	d.t.Helper()
	close(d.over)
	<-d.filled
	d.remount("2g")
}

func (d *smallDisk) remount(size string) {
	d.t.Helper()
	if err := unix.Mount("tmpfs", d.path, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		d.t.Fatalf("resizing a tmpfs: %v", err)
	}
}

// resume has tables go on that QuestDB suspended, until none is.
func resume(t *testing.T, db *questdb.Server, resumed map[string]int) {
	t.Helper()
	rows, err := db.Query(t.Context(), "select name from wal_tables() where suspended")
	if err != nil {
		return // it is busy, or out of something; the caller asks again
	}
	for _, row := range rows {
		if _, err := db.Query(t.Context(), fmt.Sprintf("alter table %q resume wal", row[0])); err == nil {
			resumed[row[0]]++
		}
	}
}

// nothingLost is called when QuestDB's own trouble, which began at a certain time, is
// over, and wants nothing set aside, nothing missing, and a log that can be read.
func nothingLost(t *testing.T, p *proxytest.Proxy, db *questdb.Server, l *load, file string, began time.Time) {
	t.Helper()
	resumed := map[string]int{}
	until(t, "everything is settled", func() (bool, error) {
		resume(t, db, resumed)
		n, err := p.TryMetric("journal_records")
		return err == nil && n == 0, err
	})
	until(t, "no table is suspended", func() (bool, error) {
		resume(t, db, resumed)
		rows, err := db.Query(t.Context(), "select name from wal_tables() where suspended or writerTxn < sequencerTxn")
		return err == nil && len(rows) == 0, nil
	})
	t.Logf("tables resumed: %v", resumed)
	// Once when it began, and then every 10 s at most, by lane or not.
	if n, most := len(p.LogLines("QuestDB refuses every record")), 2+int(time.Since(began)/(10*time.Second)); n > most {
		t.Errorf("the log says %d times that QuestDB refuses everything, want at most %d", n, most)
	}
	l.check(db, arrive)
	if n := p.Metric("records_rejected_total"); n != 0 {
		t.Errorf("%v records were set aside because of the server's own trouble", n)
	}
	if recs := readRejected(t, file); len(recs) != 0 {
		t.Errorf("%d records are in the rejected-records file: %q", len(recs), recs[0].Bytes)
	}
}

// TestDiskFull fills QuestDB's disk under load, and enlarges it later: nothing is set
// aside, and nothing is missing.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t)
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Root: disk.path})
	tables := []string{"full1", "full2"}
	for _, table := range tables {
		makeTable(db, table, true)
	}
	file := keepRejected(t)
	p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_REJECTED_FILE", file, "ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "1s", "ILP_CONFIRM_INTERVAL", "1s"))
	l := startLoad(t, p, 8, short(4_000, 20_000), tables...)
	p.WaitMetric(arrive, proxytest.AtLeast(4_000), "records_settled_total")
	began := time.Now()
	disk.fill()
	p.WaitLog("QuestDB refuses every record", 15*time.Second)
	<-time.After(short(3*time.Second, time.Minute)) // of load
	t.Logf("%d rows written, %v settled, %v replayed; %v connections failed", l.rows(),
		p.Metric("records_settled_total"), p.Metric("records_replayed_total"), p.Metric("lane_failures_total"))
	disk.enlarge()
	l.end()
	nothingLost(t, p, db, l, file, began)
	p.WaitLog("QuestDB takes records again", arrive)
	p.Stop(arrive)
}

// TestFewHandles has QuestDB run out of file handles under load, since there are more
// tables than they suffice for, and gives it more later: nothing is set aside, and
// nothing is missing.
func TestFewHandles(t *testing.T) {
	t.Parallel()
	const writers, more = 24, 120
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	var tables []string
	for n := range writers {
		tables = append(tables, fmt.Sprint("handles", n))
		makeTable(db, tables[n], true)
	}
	file := keepRejected(t)
	p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_REJECTED_FILE", file, "ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "1s", "ILP_CONFIRM_INTERVAL", "1s"))
	p.WaitReady(arrive)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", db.PID()))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	enough := setFiles(t, db.PID(), uint64(len(open)+more))
	l := startLoad(t, p, writers, short(4_000, 20_000), tables...)
	p.WaitMetric(arrive, proxytest.AtLeast(3), "lane_failures_total")
	<-time.After(short(5*time.Second, time.Minute)) // of load
	t.Logf("%d rows written, %v settled, %v replayed; %v connections failed", l.rows(),
		p.Metric("records_settled_total"), p.Metric("records_replayed_total"), p.Metric("lane_failures_total"))
	setFiles(t, db.PID(), enough)
	l.end()
	nothingLost(t, p, db, l, file, began)
	p.Stop(arrive)
}
