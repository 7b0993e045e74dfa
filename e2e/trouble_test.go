package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// What the log says first when there is no connection, and when it is certain
// that trying on will not help; and when all is well again.
const (
	cannotConnect = "cannot connect to QuestDB"
	refusesKey    = "QuestDB refuses the credentials"
	allIsWell     = "connected to QuestDB again"
)

// TestTrouble has a proxy meet each kind of trouble with one QuestDB: log and
// /readyz say which one it is, without a flood, and the rows written meanwhile
// arrive once it is over.
func TestTrouble(t *testing.T) {
	t.Parallel()
	healthy, imposter, stranger := newKey(t, "healthy"), newKey(t, "imposter"), newKey(t, "stranger")
	db := questdb.Start(t, questdb.Options{Later: true, Keys: []*auth.Key{
		healthy,
		newKey(t, "imposter"), // the right key of that id
	}})
	// Many attempts in little time.
	env := func(key *auth.Key) proxytest.Env {
		return proxytest.EnvFor(key, db.ILP()).With("ILP_RETRY_BASE", "10ms", "ILP_RETRY_MAX", "100ms")
	}

	t.Run("no server", func(t *testing.T) {
		p := proxytest.Start(t, env(healthy))
		p.Send(numbered("none", 0, 100))
		checkTrouble(t, p, "dial_failed", cannotConnect, "no answer", "connection refused", "check that QuestDB runs", db.ILP())
		db.Start()
		checkOver(t, p, db, "none")
	})

	t.Run("silent server", func(t *testing.T) {
		db.Pause() // its kernel goes on accepting
		p := proxytest.Start(t, env(healthy).With("ILP_AUTH_TIMEOUT", "200ms"))
		p.Send(numbered("silent", 0, 100))
		checkTrouble(t, p, "no_challenge", cannotConnect, "no challenge within 200ms", "full", "stuck", "without authentication", db.ILP())
		db.Resume()
		checkOver(t, p, db, "silent")
	})

	wrong := proxytest.Start(t, env(imposter))
	unknown := proxytest.Start(t, env(stranger))
	wrong.Send(numbered("wrong", 0, 100))
	unknown.Send(numbered("unknown", 0, 100))
	words := []string{"wrong credentials", "private key", "auth.txt", "only at QuestDB's start", db.ILP()}
	t.Run("wrong key", func(t *testing.T) {
		checkTrouble(t, wrong, "refused", refusesKey, append(words, `key id "imposter"`)...)
	})
	t.Run("unknown key id", func(t *testing.T) {
		checkTrouble(t, unknown, "refused", refusesKey, append(words, `key id "stranger"`)...)
	})
	if n := db.Count("wrong") + db.Count("unknown"); n != 0 {
		t.Errorf("%d rows got in with keys that were refused", n)
	}
	db.SetKeys(imposter, stranger)
	db.Restart() // it reads auth.txt only then
	checkOver(t, wrong, db, "wrong")
	checkOver(t, unknown, db, "unknown")
}

// checkTrouble has many attempts end with result, and wants what /readyz and the
// log line msg say about it to contain every one of the words, and this line to be
// the only one that is said again and again.
func checkTrouble(t *testing.T, p *proxytest.Proxy, result, msg string, words ...string) {
	t.Helper()
	const attempts = 15
	line := p.WaitLog(msg, arrive)
	var fields struct{ Reason string }
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	p.WaitMetric(arrive, proxytest.AtLeast(attempts), "handshakes_total", "result", result)
	if n := p.Metric("handshakes_total"); n > p.Metric("handshakes_total", "result", result) {
		t.Errorf("some attempts ended otherwise than %q", result)
	}
	ready := p.WaitNotReady(words[0], arrive)
	for _, word := range words {
		if !strings.Contains(fields.Reason, word) {
			t.Errorf("the log's reason lacks %q: %s", word, line)
		}
		if !strings.Contains(ready, word) {
			t.Errorf("/readyz lacks %q: %s", word, ready)
		}
	}
	if p.HasSecret(ready) {
		t.Error("/readyz shows the private key")
	}
	// Each of the two once; two addresses and the sandbox at the start.
	for _, msg := range []string{cannotConnect, refusesKey} {
		if lines := p.LogLines(msg); len(lines) > 1 {
			t.Errorf("said %d times in %d attempts or more: %s", len(lines), attempts, lines[1])
		}
	}
	if lines := p.LogLines(); len(lines) > 5 {
		t.Errorf("%d lines in %d attempts or more:\n%s", len(lines), attempts, p.Log())
	}
}

// checkOver wants the rows that were written meanwhile, readiness, and a log that
// says so, once.
func checkOver(t *testing.T, p *proxytest.Proxy, db *questdb.Server, table string) {
	t.Helper()
	db.WaitCount(table, 100, arrive)
	checkNumbered(t, db, table, 1, 100)
	p.WaitReady(arrive)
	p.WaitLog(allIsWell, arrive)
	checkCounters(t, p, 100)
	// A restart adds that there was no server for a while.
	if lines := p.LogLines(); len(lines) > 8 {
		t.Errorf("%d lines in all:\n%s", len(lines), p.Log())
	}
	p.Stop(30 * time.Second)
}
