package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/status"
)

// A question is a section of docs/troubleshooting.md.
type question struct {
	*testing.T
	text string
}

// names wants the section to have what the test is about to look for.
func (q question) names(words ...string) {
	q.Helper()
	for _, w := range words {
		if !strings.Contains(q.text, w) {
			q.Errorf("the section does not name %q", w)
		}
	}
}

// TestTroubleshooting makes each trouble in docs/troubleshooting.md happen, and
// finds it where that says to look.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, part := range strings.Split(string(doc), "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		sections[title] = text
	}
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	answers := map[string]func(question){
		"Rows do not arrive":               func(q question) { notArriving(q, key) },
		"Rows arrive late":                 func(q question) { late(q, db, key) },
		"Rows arrive twice":                func(q question) { twice(q, db, key) },
		"Rows are missing":                 func(q question) { missing(q, db, key) },
		"The key is refused":               func(q question) { keyRefused(q, db) },
		"The server is full":               serverFull,
		"The server has no authentication": noAuthentication,
		"The server's disk is full":        diskFull,
		"One writer sends rubbish":         func(q question) { rubbish(q, db, key) },
		"Rejected records cannot be kept":  func(q question) { notKept(q, db, key) },
		"A writer is blocked":              func(q question) { blocked(q, db, key) },
		"Memory is at its limit":           func(q question) { memoryFull(q, key) },
		"The proxy does not stop":          func(q question) { notStopping(q, key) },
	}
	for title := range sections {
		if answers[title] == nil {
			t.Errorf("nothing tests the section %q", title)
		}
	}
	for title, answer := range answers {
		text, ok := sections[title]
		if !ok {
			t.Errorf("there is no section %q", title)
			continue
		}
		t.Run(title, func(t *testing.T) { answer(question{t, text}) })
	}
}

func notArriving(q question, key *auth.Key) {
	q.names("/readyz", "no answer", cannotConnect, "records_received_total", "records_settled_total")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, nowhere(q.T)))
	p.Send(numbered("none", 0, 10))
	p.WaitNotReady("no answer", arrive)
	p.WaitLog(cannotConnect, arrive)
	if p.Metric("ready") != 0 {
		q.Error("the metric says that it is ready")
	}
	if p.Metric("records_received_total") != 10 || p.Metric("records_settled_total") != 0 {
		q.Error("received and settled do not tell the difference")
	}
	waitStatus(q.T, p, "the verdict failing", func(r *status.Report) bool {
		return r.Verdict == "failing" && r.Title == "Not delivering" && strings.Contains(r.Summary, "no answer")
	})
}

func late(q question, db *questdb.Server, key *auth.Key) {
	q.names("oldest_unsettled_seconds", "`lanes`", "closing", "settling")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_RETRY_MAX", "200ms"))
	p.WaitReady(arrive)
	db.Pause()
	p.Send(numbered("late", 0, 10))
	p.WaitMetric(arrive, proxytest.AtLeast(2), "oldest_unsettled_seconds")
	waitStatus(q.T, p, "a lane that waits", func(r *status.Report) bool {
		for _, l := range r.Lanes {
			if l.Records == 10 && l.State != "idle" && l.WaitsFor != "" {
				return r.Behind.OldestSeconds >= 2
			}
		}
		return false
	})
	db.Resume()
	p.WaitMetric(arrive, proxytest.Equal(0), "oldest_unsettled_seconds")
	db.WaitCount("late", 10, arrive)
}

func twice(q question, db *questdb.Server, key *auth.Key) {
	q.names("records_replayed_total", "sending records again")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_CONFIRM_INTERVAL", "1h", "ILP_SETTLE", "1s", "ILP_RETRY_MAX", "200ms"))
	p.WaitReady(arrive)
	conn := p.Dial()
	// The table is there: QuestDB is not to be killed while it makes it.
	if _, err := conn.Write([]byte(numbered("twice", 0, 1))); err != nil {
		q.Fatal(err)
	}
	db.WaitCount("twice", 1, arrive)
	if _, err := conn.Write([]byte(numbered("twice", 0, 10))); err != nil {
		q.Fatal(err)
	}
	p.WaitMetric(arrive, proxytest.Equal(11), "records_written_total")
	db.Kill()
	p.WaitLog("sending records again", arrive)
	p.WaitMetric(arrive, proxytest.AtLeast(10), "records_replayed_total")
	db.Start()
	p.WaitMetric(arrive, proxytest.Equal(0), "journal_records")
}

func missing(q question, db *questdb.Server, key *auth.Key) {
	q.names("records_rejected_total", "fragments_total", "ended in the middle of a record", "records_uncertain_total", "records may be lost",
		"datagrams_dropped_total", "journal_records")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_DELIVERY", "at-most-once", "ILP_CONFIRM_INTERVAL", "1h",
		"ILP_SETTLE", "1s", "ILP_RETRY_MAX", "200ms"))
	p.WaitReady(arrive)
	p.Send(numbered("missing", 0, 1) + "missing n=")
	p.WaitMetric(arrive, proxytest.Equal(1), "fragments_total")
	p.WaitLog("ended in the middle of a record", arrive)
	db.WaitCount("missing", 1, arrive)
	p.Send(numbered("missing", 1, 10))
	p.WaitMetric(arrive, proxytest.AtLeast(10), "records_written_total")
	db.Kill()
	p.WaitLog("records may be lost", arrive)
	p.WaitMetric(arrive, proxytest.AtLeast(1), "records_uncertain_total")
	p.Metric("datagrams_dropped_total")
	db.Start()
}

func keyRefused(q question, db *questdb.Server) {
	q.names("/readyz", "wrong credentials", refusesKey, `handshakes_total{result="refused"}`, "authline")
	p := proxytest.Start(q.T, proxytest.EnvFor(newKey(q, "stranger"), db.ILP()).With("ILP_RETRY_MAX", "100ms"))
	p.WaitNotReady("wrong credentials", arrive)
	p.WaitLog(refusesKey, arrive)
	p.WaitMetric(arrive, proxytest.AtLeast(2), "handshakes_total", "result", "refused")
}

func serverFull(q question) {
	q.names("/readyz", "no challenge", `handshakes_total{result="no_challenge"}`, "line.tcp.net.connection.limit")
	q.Parallel() // it has a server of its own
	key := newKey(q, "writer")
	db := questdb.Start(q.T, questdb.Options{Keys: []*auth.Key{key}, Conf: map[string]string{"line.tcp.net.connection.limit": "2"}})
	for range 2 {
		conn, err := net.Dial("tcp", db.ILP())
		if err != nil {
			q.Fatal(err)
		}
		defer conn.Close()
	}
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_AUTH_TIMEOUT", "300ms", "ILP_RETRY_MAX", "100ms"))
	p.WaitNotReady("no challenge", arrive)
	p.WaitMetric(arrive, proxytest.AtLeast(1), "handshakes_total", "result", "no_challenge")
}

func noAuthentication(q question) {
	q.names("/readyz", "server closed instead of a challenge", `handshakes_total{result="closed_before_challenge"}`, "line.tcp.auth.db.path")
	q.Parallel()
	db := questdb.Start(q.T, questdb.Options{NoAuth: true})
	p := proxytest.Start(q.T, proxytest.EnvFor(newKey(q, "writer"), db.ILP()).With("ILP_RETRY_MAX", "100ms"))
	p.WaitNotReady("server closed instead of a challenge", arrive)
	p.WaitMetric(arrive, proxytest.AtLeast(1), "handshakes_total", "result", "closed_before_challenge")
}

func diskFull(q question) {
	q.names("QuestDB refuses every record that is tried", "oldest_unsettled_seconds", "records_rejected_total", "/readyz", "Not delivering", "RESUME WAL")
	q.Parallel()
	needRoot(q.T, "to mount a small disk")
	root := q.TempDir()
	if err := syscall.Mount("none", root, "tmpfs", 0, "size=192m"); err != nil {
		q.Skipf("cannot mount a small disk here: %v", err)
	}
	q.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	key := newKey(q, "writer")
	db := questdb.Start(q.T, questdb.Options{Keys: []*auth.Key{key}, Root: root})
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", keepRejected(q.T), "ILP_RETRY_MAX", "200ms"))
	p.Send(numbered("before", 0, 10))
	p.WaitMetric(arrive, proxytest.Equal(10), "records_settled_total")

	filler := filepath.Join(root, "filler")
	fill(q.T, filler)
	p.Send(numbered("during", 0, 10))
	p.WaitLog("QuestDB refuses every record that is tried", arrive)
	// More than twice what is usual, and some: 2 * (500 ms + 2 * 500 ms) + 5 s.
	waitStatus(q.T, p, "Not delivering", func(r *status.Report) bool { return r.Title == "Not delivering" && r.Behind.OldestSeconds > 8 })
	p.WaitMetric(arrive, proxytest.AtLeast(8), "oldest_unsettled_seconds")
	p.WaitReady(arrive)
	if n := p.Metric("records_rejected_total"); n != 0 {
		q.Errorf("%v records are rejected, though the disk is to blame", n)
	}
	if err := os.Remove(filler); err != nil {
		q.Fatal(err)
	}
	p.WaitMetric(arrive, proxytest.Equal(20), "records_settled_total")
}

// fill makes a file at path that leaves nothing free.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 4096; size /= 2 {
		for chunk := make([]byte, size); ; {
			if _, err := f.Write(chunk); err != nil {
				break // no more of this size
			}
		}
	}
}

func rubbish(q question, db *questdb.Server, key *auth.Key) {
	q.names("records_rejected_total", "a record is not delivered", "`remote`", "ILP_REJECTED_FILE", "status page")
	file := filepath.Join(q.TempDir(), "rejected.jsonl")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file, "ILP_STATUS_RECORDS", "true"))
	conn := p.Dial()
	if _, err := conn.Write([]byte("bad/name v=1\n")); err != nil {
		q.Fatal(err)
	}
	remote := conn.LocalAddr().String()
	p.WaitMetric(arrive, proxytest.Equal(1), "records_rejected_total", "reason", "malformed")
	if line := p.WaitLog("a record is not delivered", arrive); !strings.Contains(line, `"remote":"`+remote+`"`) {
		q.Errorf("the log does not say who: %s", line)
	}
	waitStatus(q.T, p, "the rejected record", func(r *status.Report) bool {
		return len(r.Rejected) == 1 && r.Rejected[0].Writer == remote && r.Rejected[0].Reason == "malformed" && r.Rejected[0].Record == "bad/name v=1\n"
	})
	if lines := rejectedLines(q.T, file); lines["malformed"] != 1 {
		q.Errorf("the file has %v", lines)
	}

	// Without a file the log has the record, and the page has neither.
	p = proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()))
	p.Send("bad/name secretive=1\n")
	if line := p.WaitLog("a record is not delivered", arrive); !strings.Contains(line, "secretive") {
		q.Errorf("the log does not have the record: %s", line)
	}
	waitStatus(q.T, p, "the event", func(r *status.Report) bool {
		return len(r.Events) > 0 && r.Events[0].Message == "a record is not delivered"
	})
	for _, path := range []string{"/", "/status"} {
		if _, text, err := p.Get(path); err != nil || strings.Contains(text, "secretive") {
			q.Errorf("%s shows the record (%v):\n%s", path, err, text)
		}
	}
}

func notKept(q question, db *questdb.Server, key *auth.Key) {
	q.names("rejected_file_writable", "rejected_unsaved", "/readyz", "write rejected records", "cannot write the file of rejected records")
	folder := filepath.Join(q.TempDir(), "rejected")
	if err := os.Mkdir(folder, 0o700); err != nil {
		q.Fatal(err)
	}
	file := filepath.Join(folder, "rejected.jsonl")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file))
	p.WaitReady(arrive)
	away := folder + ".away"
	if err := os.Rename(folder, away); err != nil {
		q.Fatal(err)
	}
	p.Send("bad/name v=1\n" + numbered("kept", 0, 10))
	p.WaitMetric(arrive, proxytest.Equal(0), "rejected_file_writable")
	p.WaitMetric(arrive, proxytest.Equal(1), "rejected_unsaved")
	p.WaitNotReady("write rejected records", arrive)
	p.WaitLog("cannot write the file of rejected records", arrive)
	db.WaitCount("kept", 10, arrive)
	if err := os.Rename(away, folder); err != nil {
		q.Fatal(err)
	}
	p.WaitMetric(arrive, proxytest.Equal(1), "rejected_file_writable")
	if lines := rejectedLines(q.T, file); lines["malformed"] != 1 {
		q.Errorf("the file has %v", lines)
	}
	p.WaitMetric(arrive, proxytest.Equal(0), "rejected_unsaved")
}

func blocked(q question, db *questdb.Server, key *auth.Key) {
	q.names("sessions_waiting", "more wait until one leaves", "journal_waiting_sessions")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, db.ILP()).With("ILP_MAX_CLIENTS", "1"))
	p.Dial()
	p.WaitMetric(arrive, proxytest.Equal(1), "sessions")
	p.Dial()
	p.WaitMetric(arrive, proxytest.Equal(1), "sessions_waiting")
	p.WaitLog("more wait until one leaves", arrive)
	waitStatus(q.T, p, "the writer that waits", func(r *status.Report) bool { return r.Writers.Waiting == 1 && r.Writers.Connected == 1 })
}

func memoryFull(q question, key *auth.Key) {
	q.names("journal_waiting_sessions", "journal_bytes", "journal_limit_bytes", "ILP_BUFFER")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, nowhere(q.T)).With("ILP_BUFFER", "1MiB", "ILP_MAX_RECORD", "64KiB"))
	conn := p.Dial()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		rows := []byte(numbered("full", 0, 1000))
		for {
			if _, err := conn.Write(rows); err != nil {
				return // closed below
			}
		}
	}()
	defer func() { conn.Close(); <-ended }()
	p.WaitMetric(arrive, proxytest.Equal(1), "journal_waiting_sessions")
	if held, most := p.Metric("journal_bytes"), p.Metric("journal_limit_bytes"); held < most/4 || held > most {
		q.Errorf("%v of %v bytes are held", held, most)
	}
	waitStatus(q.T, p, "the writer held back", func(r *status.Report) bool { return r.Behind.HeldBack == 1 })
}

func notStopping(q question, key *auth.Key) {
	q.names("ending: delivering what is left", "`ending`", "ILP_DRAIN_TIMEOUT is over", "exit code is 1")
	p := proxytest.Start(q.T, proxytest.EnvFor(key, nowhere(q.T)).With("ILP_DRAIN_TIMEOUT", "2s"))
	p.Send(numbered("left", 0, 10))
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	p.WaitNotReady("ending", arrive)
	p.WaitLog("ending: delivering what is left", arrive)
	if code := p.Wait(arrive); code != 1 || time.Since(began) < 2*time.Second {
		q.Errorf("exit code %d after %v", code, time.Since(began))
	}
	p.WaitLog("ILP_DRAIN_TIMEOUT is over", arrive)
}
