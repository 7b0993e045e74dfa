package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestPathCheck has the proxy find out of each version of QuestDB how much padding
// it takes and that its resets are seen; then a bad record among the last bytes
// before the half-close, while the server stands still, is found, and its
// neighbours are in the table.
func TestPathCheck(t *testing.T) {
	t.Parallel()
	padding := map[string]string{"9.3.4": "131072", "8.2.0": "32767", "7.4.2": "32767"}
	for _, version := range questdb.Versions() {
		t.Run(version, func(t *testing.T) {
			key := newKey(t, "writer")
			db := questdb.Start(t, questdb.Options{Version: version, Keys: []*auth.Key{key}})
			file := keepRejected(t)
			p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With(
				"ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s", "ILP_LOG_LEVEL", "debug"))
			p.Send(numbered("known", 0, 100))
			line := p.WaitLog("path check:", arrive)
			if !strings.Contains(line, `"padding":`+padding[version]) {
				t.Errorf("padding is not %s: %s", padding[version], line)
			}
			checkPath(t, p, "resets")
			db.WaitCount("known", 100, arrive)
			allSettled(p, arrive)
			if n := p.Metric("lane_failures_total"); n != 0 {
				t.Errorf("%v connections failed because of the path check", n)
			}
			badAtEnd(t, db, p, file)
			p.Stop(30 * time.Second)
		})
	}
}

// checkPath wants one server in the metric path, and this about it.
func checkPath(t *testing.T, p *proxytest.Proxy, kind string) {
	t.Helper()
	p.WaitMetric(arrive, proxytest.Equal(1), "path", "kind", kind)
	if n := p.Metric("path"); n != 1 {
		t.Errorf("the metric path counts %v servers", n)
	}
}

// badAtEnd has bad records of each kind among the last before the half-close while
// the server stands still, so that it finds all of it in one read.
func badAtEnd(t *testing.T, db *questdb.Server, p *proxytest.Proxy, file string) {
	t.Helper()
	var want []string
	for i := range badRecords("", 0) {
		table := fmt.Sprintf("last%d", i)
		p.Send(numbered(table, 0, 1)) // has the columns' types
		waitNumbered(t, db, table, 1, 1, arrive)
		allSettled(p, arrive)
		bad := badRecords(table, i)[i].record
		want = append(want, bad)
		rows := numbered(table, 1, 2000)
		half := strings.Index(rows[len(rows)/2:], "\n") + len(rows)/2 + 1
		db.Pause()
		p.Send(rows[:half] + bad + rows[half:])
		// Padded and half-closed.
		p.WaitMetric(arrive, proxytest.AtLeast(1), "lanes", "state", "closing")
		db.Resume()
		began := time.Now()
		p.WaitMetric(arrive, proxytest.Equal(float64(i+1)), "records_rejected_total")
		found := time.Since(began)
		if missing := waitRows(t, db, table, 2001, arrive); missing > 0 {
			t.Errorf("%d neighbours are missing", missing)
		}
		allSettled(p, arrive)
		t.Logf("%s: set aside %v after the server went on; all neighbours there, %d rows twice", badRecords("", 0)[i].name,
			found.Round(time.Millisecond), db.Count(table)-2001)
	}
	checkRejected(t, file, want...)
}

// TestBlankLines has a writer send more blank lines in a row than 8.x takes; it would
// close the connection because of them, again and again.
func TestBlankLines(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"8.2.0", "7.4.2"} {
		t.Run(version, func(t *testing.T) {
			key := newKey(t, "writer")
			db := questdb.Start(t, questdb.Options{Version: version, Keys: []*auth.Key{key}})
			p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))
			p.Send(numbered("blank", 0, 1) + strings.Repeat("\n", 200<<10) + numbered("blank", 1, 1))
			waitNumbered(t, db, "blank", 1, 2, arrive)
			allSettled(p, arrive)
			// At the end of a segment they come before the padding, which is as long a run as it takes.
			for i, blanks := range []string{"\r\n", "\n\n\n", strings.Repeat("\n", 200)} {
				p.Send(strings.TrimSuffix(numbered("blank", 2+i, 1), "\n") + "\n" + blanks)
				waitNumbered(t, db, "blank", 1, 3+i, arrive)
				allSettled(p, arrive)
			}
			if n := p.Metric("lane_failures_total"); n != 0 {
				t.Errorf("%v connections failed", n)
			}
			p.Stop(30 * time.Second)
		})
	}
}

// waitRows waits until a table has so many different rows of numbered, at most
// for limit, and returns how many are missing.
func waitRows(t *testing.T, db *questdb.Server, table string, rows int, limit time.Duration) (missing int) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; <-time.After(25 * time.Millisecond) {
		missing = rows
		if db.Count(table) > 0 {
			for _, row := range db.MustQuery(fmt.Sprintf("select writer, count_distinct(n) from %q", table)) {
				var n int
				if _, err := fmt.Sscan(row[1], &n); err != nil {
					t.Fatalf("%q: %v", row, err)
				}
				missing -= n
			}
		}
		if missing <= 0 || time.Now().After(deadline) {
			return missing
		}
	}
}

// TestSkippingServer has a QuestDB that skips what it cannot parse and keeps the
// connection: the proxy sees that, and raises no alarm.
func TestSkippingServer(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, Conf: map[string]string{"line.tcp.disconnect.on.error": "false"}})
	file := keepRejected(t)
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s"))
	for i := range badRecords("", 0) {
		table := fmt.Sprintf("skipped%d", i)
		rows := numbered(table, 0, 2000)
		half := strings.Index(rows[len(rows)/2:], "\n") + len(rows)/2 + 1
		p.Send(rows[:half] + badRecords(table, i)[i].record + rows[half:])
		waitNumbered(t, db, table, 1, 2000, arrive)
	}
	allSettled(p, arrive)
	checkPath(t, p, "skips_malformed")
	if n := p.Metric("lane_failures_total"); n != 0 {
		t.Errorf("%v connections failed", n)
	}
	if lines := p.LogLines(`"level":"WARN"`); len(lines) > 0 {
		t.Errorf("warnings: %q", lines)
	}
	p.Stop(30 * time.Second)
}

// TestServerChangesWhileIdle has another server answer at the same address after a quiet moment: what was found out
// of the first one does not count.
func TestServerChangesWhileIdle(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_CONFIRM_INTERVAL", "1s"))
	p.Send(numbered("change", 0, 1))
	waitNumbered(t, db, "change", 1, 1, arrive)
	allSettled(p, arrive)
	checkPath(t, p, "resets")
	db.SetConf(map[string]string{"line.tcp.disconnect.on.error": "false"})
	db.Restart()
	p.Send(numbered("change", 1, 1))
	waitNumbered(t, db, "change", 1, 2, arrive)
	checkPath(t, p, "skips_malformed")
	p.Stop(30 * time.Second)
}

// TestHiddenWithTwoConnections confirms one segment after the other where there are but two connections, and resets
// count as hidden: proofs of life need a place, too.
func TestHiddenWithTwoConnections(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_POOL_MAX", "2", "ILP_PATH_CHECK", "off", "ILP_CONFIRM_INTERVAL", "1s"))
	const rows = 300
	for n := range rows {
		p.Send(numbered("tight", n, 1))
		<-time.After(10 * time.Millisecond) // for several segments
	}
	waitNumbered(t, db, "tight", 1, rows, arrive)
	allSettled(p, arrive)
	if n := p.Metric("close_seconds_count"); n < 2 {
		t.Errorf("there were %v segments", n)
	}
	p.Stop(30 * time.Second)
}

// TestHAProxy has HAProxy between the proxy and QuestDB, which hides resets: bad
// records are found all the same, the server running.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	relay := haproxy(t, db.ILP())
	for i, bad := range badRecords("", 0) {
		t.Run(bad.name, func(t *testing.T) {
			file := keepRejected(t)
			p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, relay).With("ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s"))
			findOne(t, db, p, file, fmt.Sprint("relayed", i), i, 30*time.Second)
			checkPath(t, p, "hidden")
			if lines := p.LogLines("hides connection resets"); len(lines) != 1 {
				t.Errorf("said %d times that resets are hidden", len(lines))
			}
			p.Stop(30 * time.Second)
		})
	}
}

// TestSlowRelay has a relay that passes on 4 KiB, and then rests for a while, between the
// proxy and QuestDB. It has not read all of the padding when QuestDB closes, so its own
// connection ends in a reset, and that is not one of QuestDB's: at the end of a segment, where
// QuestDB comes to a bad record late, nothing shows, and its neighbours would be lost.
func TestSlowRelay(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	for table, rest := range map[string]time.Duration{"slow": 5 * time.Millisecond, "slower": 20 * time.Millisecond} {
		t.Run(table, func(t *testing.T) {
			file := keepRejected(t)
			p := proxytest.Start(t, proxytest.EnvFor(key, slowRelay(t, db.ILP(), 4<<10, rest)).With(
				"ILP_REJECTED_FILE", file, "ILP_CONFIRM_INTERVAL", "1s"))
			p.Send(numbered(table, 0, 1)) // has the columns' types
			waitNumbered(t, db, table, 1, 1, arrive)
			p.WaitLog("hides connection resets", arrive)
			checkPath(t, p, "hidden")
			rows := numbered(table, 1, 2000)
			half := strings.Index(rows[len(rows)/2:], "\n") + len(rows)/2 + 1
			bad := badRecords(table, 1)[1].record
			p.Send(rows[:half] + bad + rows[half:])
			if missing := waitRows(t, db, table, 2001, arrive); missing > 0 {
				t.Errorf("%d neighbours are missing", missing)
			}
			allSettled(p, arrive)
			checkRejected(t, file, bad)
			p.Stop(30 * time.Second)
		})
	}
}

// slowRelay relays connections to upstream, passing on size bytes at a time from the
// client, and then resting. Where one side ends, it closes both.
func slowRelay(t *testing.T, upstream string, size int, rest time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	relay := func(client net.Conn) {
		defer client.Close()
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer server.Close()
		over := make(chan struct{})
		running.Go(func() {
			defer close(over)
			_, _ = io.Copy(client, server) // however it ends, the client's side ends too
			client.Close()
		})
		for buf := make([]byte, size); ; <-time.After(rest) {
			n, err := client.Read(buf)
			_, failed := server.Write(buf[:n])
			if err == nil && failed == nil {
				continue
			}
			if errors.Is(err, io.EOF) {
				_ = server.(*net.TCPConn).CloseWrite() // if it fails, the server is gone
				<-over
			}
			return
		}
	}
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { relay(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// haproxy runs Debian's HAProxy as a plain TCP relay to the server at upstream,
// and returns its address.
func haproxy(t *testing.T, upstream string) string {
	t.Helper()
	return haproxyBind(t, upstream, "")
}

// haproxyBind is haproxy with options of its side for clients: ssl, say.
func haproxyBind(t *testing.T, upstream, options string) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy" // not in everybody's PATH
		if _, err := os.Stat(path); err != nil {
			t.Fatal("no haproxy here; on Debian or Ubuntu: apt-get install haproxy")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	// It gets the listening socket itself, so that nobody else can take the port.
	socket, err := l.(*net.TCPListener).File()
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`global
  maxconn 500
defaults
  mode tcp
  timeout connect 5s
  timeout client 10m
  timeout server 10m
listen ilp
  bind fd@3 %s
  server questdb %s
`, options, upstream)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-db", "-f", conf)
	cmd.ExtraFiles = []*os.File{socket}
	runBeside(t, cmd)
	return addr
}

// runBeside runs a command for the duration of a test. One that failed shows the end
// of its output.
func runBeside(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			text := out.String()
			t.Logf("the end of %s's output:\n%s", filepath.Base(cmd.Path), text[max(0, len(text)-2000):])
		}
	})
}
