package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestCheck has the command say what it is about a QuestDB, with the right key and with
// everything that may be wrong; its exit codes are in its help.
func TestCheck(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Conf: map[string]string{"http.user": "asker", "http.password": "pass-of-http",
		"dev.mode.enabled": "true"}}) // else a table cannot be suspended on purpose
	db.MustQuery("create table wal (a int, ts timestamp) timestamp(ts) partition by day wal")
	right := proxytest.EnvFor(key, db.ILP())
	url := "http://asker:pass-of-http@" + db.HTTP()

	expect(t, right, 0, `authenticated as "writer"`, "check")
	expect(t, right, 0, "records that it refuses will show", "check")
	expect(t, right, 0, "no table bypasses WAL, of 1", "check", "--http", url)
	expect(t, right, 10, "demands a user and password", "check", "--http", "http://"+db.HTTP())
	expect(t, right, 10, "connection refused", "check", "--http", "http://asker:pass-of-http@"+nowhere(t))

	expect(t, right.With("ILP_POOL_MAX", "many"), 2, "ILP_POOL_MAX", "check")
	expect(t, right.With("ILP_REJECTED_FILE", "/no/such/folder/file"), 2, "no such file or directory", "check")
	expect(t, right, 2, "not a URL", "check", "--http", "http://asker:pass-of-http@host:port")
	expect(t, right, 2, "goes with --http", "check", url)
	expect(t, right.With("ILP_UPSTREAM", "no-such-host.invalid"), 3, "cannot be resolved", "check")
	expect(t, right.With("ILP_UPSTREAM", nowhere(t)), 4, "connection refused", "check")
	expect(t, right.With("ILP_UPSTREAM", "tcps://"+db.ILP()), 5, "no TLS", "check", "--timeout", "8s")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	expect(t, right.With("ILP_UPSTREAM", other.Listener.Addr().String()), 8, "malformed challenge", "check")
	expect(t, right, 10, "HTTP 404", "check", "--http", other.URL)
	wrong := newKey(t, "writer")
	expect(t, proxytest.EnvFor(wrong, db.ILP()), 9, wrong.AuthLine(), "check")
	expect(t, proxytest.EnvFor(newKey(t, "nobody"), db.ILP()), 9, `key id "nobody"`, "check")
	// One that is right beside one that is not: both are looked at.
	if code, said := command(t, right.With("ILP_UPSTREAM", nowhere(t)+","+db.ILP()), "check"); code != 4 || !strings.Contains(said, "authenticated as") {
		t.Errorf("two addresses: exit code %d, said: %s", code, said)
	}

	db.Pause()
	expect(t, right, 6, "no challenge within 1s", "check", "--timeout", "4s")
	db.Resume()

	db.MustQuery(`create table "direct" (a int, ts timestamp) timestamp(ts) partition by day bypass wal with o3MaxLag=5s`)
	right = right.With("ILP_PATH_CHECK", "off") // was seen above, and takes time
	settled := right.With("ILP_SETTLE", "3s")
	for _, c := range []struct {
		env   proxytest.Env
		words string
	}{
		{right, `1 table bypasses WAL ("direct"), of 2`},
		{right, "ILP_SETTLE is 500ms"},
		{settled, `ALTER TABLE "direct" SET PARAM o3MaxLag = 0s`},
	} {
		expect(t, c.env, 11, c.words, "check", "--http", url)
	}
	db.MustQuery(`ALTER TABLE "direct" SET PARAM o3MaxLag = 0s`)
	expect(t, settled, 0, "and have what the promise needs", "check", "--http", url)
	expect(t, right.With("ILP_POOL_MAX", "300"), 11, "QuestDB allows 256 connections", "check", "--http", url)

	db.MustQuery("alter table wal suspend wal")
	code, said := command(t, settled, "check", "--json", "--http", url+"/exec")
	var report struct {
		ExitCode int `json:"exit_code"`
		Findings []struct{ Kind, Do string }
	}
	if err := json.Unmarshal([]byte(said), &report); err != nil || code != 11 || report.ExitCode != code {
		t.Errorf("exit code %d, JSON %s: %v", code, said, err)
	}
	if !strings.Contains(said, `ALTER TABLE \"wal\" RESUME WAL`) || strings.Contains(said, "pass-of-http") {
		t.Errorf("the suspended table is not named, or the password is: %s", said)
	}
}

// TestCheckServers has servers that do not authenticate, cannot, or skip what they
// should refuse.
func TestCheckServers(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	t.Run("without authentication", func(t *testing.T) {
		t.Parallel()
		db := questdb.Start(t, questdb.Options{NoAuth: true, Conf: map[string]string{"cairo.wal.enabled.default": "false"}})
		env := proxytest.EnvFor(key, db.ILP())
		expect(t, env, 7, "no authentication", "check")
		expect(t, env, 7, "cairo.wal.enabled.default=false: tables that QuestDB makes", "check", "--http", "http://"+db.HTTP())
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Conf: map[string]string{"line.tcp.net.connection.limit": "2"}})
		for range 2 {
			conn, err := net.DialTimeout("tcp", db.ILP(), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		expect(t, proxytest.EnvFor(key, db.ILP()), 6, "line.tcp.net.connection.limit", "check", "--timeout", "8s")
	})
	t.Run("skips malformed records", func(t *testing.T) {
		t.Parallel()
		db := questdb.Start(t, questdb.Options{Version: "8.2.0", Keys: []*auth.Key{key}, Conf: map[string]string{"line.tcp.disconnect.on.error": "false"}})
		expect(t, proxytest.EnvFor(key, db.ILP()), 0, "QuestDB skips malformed records by itself", "check")
		expect(t, proxytest.EnvFor(key, haproxy(t, db.ILP())).With("ILP_PATH_CHECK", "off"), 0, "ILP_PATH_CHECK=off", "check")
	})
}
