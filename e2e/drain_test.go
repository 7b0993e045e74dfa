package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// rejectedLines counts the lines of a rejected-records file, by reason.
func rejectedLines(t *testing.T, path string) map[string]int {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reasons := map[string]int{}
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 64<<20)
	for scan.Scan() {
		var line struct{ Reason string }
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		reasons[line.Reason]++
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return reasons
}

// TestDrain ends the proxy under load. With QuestDB there, everything is settled
// and nothing left; without it, all that was not settled is in the file, and
// replay brings it in.
func TestDrain(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	rate := short(8_000, 20_000)

	t.Run("QuestDB is there", func(t *testing.T) {
		makeTable(db, "there", false)
		file := filepath.Join(t.TempDir(), "rejected")
		p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file))
		l := startLoad(t, p, 8, rate, "there")
		l.more(short(3, 20) * rate)
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(arrive); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		// Killed when the proxy says that all is settled: it is.
		db.Kill()
		rows := l.wait()
		if end := lastLine(t, p); end.Received != rows || end.Records != 0 {
			t.Errorf("the proxy received %d records and left %d, want %d and 0", end.Received, end.Records, rows)
		}
		db.Start()
		if c := l.check(db, arrive)["there"]; c.twice > 0 {
			t.Errorf("%d rows came twice", c.twice)
		}
		if n := rejectedLines(t, file); len(n) > 0 {
			t.Errorf("records in the file: %v", n)
		}
	})

	t.Run("QuestDB is away", func(t *testing.T) {
		makeTable(db, "away", true)
		file := filepath.Join(t.TempDir(), "rejected")
		env := proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file, "ILP_BUFFER", "256MiB", "ILP_DRAIN_TIMEOUT", "4s")
		p := proxytest.Options{Plain: *soak}.Start(t, env)
		l := startLoad(t, p, 8, rate, "away")
		l.more(short(2, 10) * rate)
		db.Kill()
		l.more(short(1, 10) * rate)
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(arrive); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		rows := l.wait()
		end := lastLine(t, p)
		lines := rejectedLines(t, file)
		t.Logf("%d rows written, %d received, %d left, in the file: %v", rows, end.Received, end.Records, lines)
		if end.Received != rows || end.Records == 0 || len(lines) != 1 || lines["undelivered"] != end.Records {
			t.Errorf("the proxy received %d of %d and left %d; the file has %v", end.Received, rows, end.Records, lines)
		}
		db.Start()
		again := proxytest.Options{Plain: *soak}.Start(t, env.With("ILP_REJECTED_FILE", file+".2"))
		replay := proxytest.Options{Plain: *soak}.Launch(t, proxytest.Env{}, "replay", "--to", again.Addr(), file)
		if code := replay.Wait(arrive); code != 0 {
			t.Errorf("replay: exit code %d: %s", code, replay.Log())
		}
		l.check(db, arrive)
		again.Stop(arrive)
		if c := l.check(db, arrive)["away"]; c.twice > 0 {
			t.Errorf("%d rows came twice into a table with keys", c.twice)
		}
	})
}
