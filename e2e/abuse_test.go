package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestWriterKilledMidRow has writers die within a row, in all ways and all parts
// of one, while others write, one of those a byte at a time.
func TestWriterKilledMidRow(t *testing.T) {
	key := newKey(t, "killed")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))

	const writers = 3
	over := make(chan struct{})
	sent := make([]int, writers+1)
	var g errgroup.Group
	for w := range sent {
		g.Go(func() (err error) {
			sent[w], err = writeUntil(over, p.Addr(), "good", w, w == writers)
			return err
		})
	}
	p.WaitMetric(arrive, proxytest.AtLeast(1000), "records_received_total")

	ways := map[string]func(*testing.T, *proxytest.Proxy, string){
		"SIGKILL": killProcess, "reset": reset, "close": closeAbruptly,
	}
	const whole = 3 // rows before the one that has no end
	victims, bytes := 0, 0
	for way, die := range ways {
		for part, fragment := range map[string]string{
			"name":      "victim,w=frag",
			"string":    "victim,w=fragment v=1i,s=\"half\\\nof it",
			"timestamp": "victim,w=fragment v=1i,s=\"all\" 1700000000", // a LF away from a row
			"binary":    "victim,w=fragment v==\x10\n\n\n",
			"large":     "victim,w=fragment s=\"" + strings.Repeat("0123456789", 10_000),
		} {
			ilp := ""
			for n := range whole {
				ilp += fmt.Sprintf("victim,w=%s-%s v=%di,s=\"whole\" %d\n", way, part, n, 1+n)
			}
			die(t, p, ilp+fragment)
			victims, bytes = victims+1, bytes+len(fragment)
		}
	}
	p.WaitMetric(arrive, proxytest.AtLeast(float64(victims)), "fragments_total")
	close(over)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	rows := 0
	for _, n := range sent {
		rows += n
	}
	t.Logf("%d victims; beside them %d rows, the last writer's %d a byte at a time", victims, rows, sent[writers])
	db.WaitCount("good", rows, arrive)
	db.WaitCount("victim", victims*whole, arrive)
	checkPrefixes(t, db, "good", sent)
	got := db.MustQuery(`select count_distinct(w), min(v), max(v), count_distinct(s), min(s) from victim`)
	if want := []string{strconv.Itoa(victims), "0", strconv.Itoa(whole - 1), "1", "whole"}; !slices.Equal(got[0], want) {
		t.Errorf("the victims' whole rows: writers, first, last, texts: %q, want %q", got[0], want)
	}
	checkTables(t, db, "good", "victim")
	if n := p.Metric("fragments_total"); n != float64(victims) {
		t.Errorf("%v fragments counted, want %d", n, victims)
	}
	if n := p.Metric("fragment_bytes_total"); n != float64(bytes) {
		t.Errorf("%v bytes of fragments counted, want %d", n, bytes)
	}
	if n := p.Metric("lane_failures_total"); n != 0 {
		t.Errorf("QuestDB closed %v connections", n)
	}

	p.Stop(30 * time.Second)
	logged := 0
	for _, line := range p.LogLines("ended in the middle of a record") {
		logged++
		if _, rest, ok := strings.Cut(line, `"repeated":`); ok { // this line is the last of so many
			n, err := strconv.Atoi(strings.TrimRight(rest, "}"))
			if err != nil {
				t.Error(err)
			}
			logged += n - 1
		}
	}
	if logged != victims {
		t.Errorf("%d fragments logged, want %d", logged, victims)
	}
}

// writeUntil writes rows of numbered, some at a time, until over is closed, then
// ends politely and returns how many there were. slow writes each byte by itself.
func writeUntil(over <-chan struct{}, addr, table string, writer int, slow bool) (rows int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	tick := time.NewTicker(time.Millisecond) // the others and the server need the machine too
	defer tick.Stop()
	for {
		ilp := ""
		for range 10 {
			ilp += numberedRow(table, writer, rows)
			rows++
			if slow {
				break
			}
		}
		for len(ilp) > 0 {
			n := len(ilp)
			if slow {
				n = 1
			}
			if _, err := io.WriteString(conn, ilp[:n]); err != nil {
				return rows, err
			}
			ilp = ilp[n:]
		}
		select {
		case <-over:
			return rows, proxytest.Finish(conn)
		case <-tick.C:
		}
	}
}

func numberedRow(table string, writer, n int) string {
	return fmt.Sprintf("%s,writer=w%d n=%di,text=\"row %d of w%d\" %d\n", table, writer, n, n, writer, 1+writer+n*1000)
}

// checkPrefixes says which writer's rows of numberedRow are not the first so
// many, each once and with its own text.
func checkPrefixes(t *testing.T, db *questdb.Server, table string, sent []int) {
	t.Helper()
	sums := db.MustQuery(fmt.Sprintf(`select writer, count(), count_distinct(n), min(n), max(n) from "%s" order by writer`, table))
	if len(sums) != len(sent) {
		t.Errorf("table %s has rows of %d writers, want %d", table, len(sums), len(sent))
	}
	for w, rows := range sent {
		n := strconv.Itoa(rows)
		want := []string{"w" + strconv.Itoa(w), n, n, "0", strconv.Itoa(rows - 1)}
		if !slices.ContainsFunc(sums, func(row []string) bool { return slices.Equal(row, want) }) {
			t.Errorf("table %s: writer, rows, different ones, first, last: %q, want %q among them", table, sums, want)
		}
	}
	wrong := db.MustQuery(fmt.Sprintf(`select * from "%s" where text <> concat('row ', n, ' of ', writer) limit 5`, table))
	if len(wrong) > 0 {
		t.Errorf("table %s has rows that nobody wrote: %q", table, wrong)
	}
}

// checkTables wants no other tables than these.
func checkTables(t *testing.T, db *questdb.Server, want ...string) {
	t.Helper()
	var got []string
	for _, row := range db.MustQuery("select table_name from tables() order by table_name") {
		got = append(got, row[0])
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("tables %q, want %q", got, want)
	}
}

// killProcess is a writer in a process of its own that is killed by SIGKILL when
// it has written ilp.
func killProcess(t *testing.T, p *proxytest.Proxy, ilp string) {
	t.Helper()
	host, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `exec 3<>"/dev/tcp/$0/$1" && exec cat >&3`, host, port)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	if _, err := io.WriteString(in, ilp); err != nil {
		t.Fatal(err)
	}
	until(t, "the writer has written", func() (bool, error) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", cmd.Process.Pid))
		if err != nil {
			return false, err
		}
		_, rest, _ := strings.Cut(string(b), "wchar: ")
		text, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(text)
		return n >= len(ilp), err
	})
}

// reset is a writer whose connection ends with a reset. That destroys what was
// not read yet, so it waits until the proxy has read everything.
func reset(t *testing.T, p *proxytest.Proxy, ilp string) {
	t.Helper()
	conn := p.Dial()
	if _, err := io.WriteString(conn, ilp); err != nil {
		t.Fatal(err)
	}
	local, proxy := portOf(t, conn.LocalAddr().String()), portOf(t, p.Addr())
	until(t, "the proxy has read", func() (bool, error) {
		all, err := sockets()
		left, ends := 0, 0
		for _, s := range all {
			if s.local == local && s.remote == proxy || s.local == proxy && s.remote == local {
				left += s.unsent + s.unread
				ends++
			}
		}
		return ends == 2 && left == 0, err
	})
	if err := conn.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// closeAbruptly is a writer that closes without a half-close before.
func closeAbruptly(t *testing.T, p *proxytest.Proxy, ilp string) {
	t.Helper()
	conn := p.Dial()
	if _, err := io.WriteString(conn, ilp); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// until looks again and again whether something is so, of which nobody tells,
// and fails the test if it takes far too long.
func until(t *testing.T, what string, is func() (bool, error)) {
	t.Helper()
	timeout := time.After(arrive)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := is()
		if err != nil {
			t.Fatalf("looking whether %s: %v", what, err)
		}
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within %v: %s", arrive, what)
		}
	}
}

// TestFewFiles has more writers than the process may have open files: QuestDB
// and whoever asks for its health still reach it, and everybody is served in the
// end.
func TestFewFiles(t *testing.T) {
	const files, writers = 120, 200
	key := newKey(t, "files")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	// No connection is there before the writers are.
	env := proxytest.EnvFor(key, db.ILP()).With("ILP_POOL_MIN_IDLE", "0", "ILP_POOL_MAX", "4")
	p := proxytest.Options{Files: files}.Start(t, env)
	if lines := p.LogLines("WARN", "the limit of open files is too low"); len(lines) != 1 {
		t.Errorf("warned %d times of the limit of open files", len(lines))
	}
	conns := make([]io.WriteCloser, writers)
	for i := range conns {
		conns[i] = p.Dial() // the rest wait in the kernel
	}
	p.WaitMetric(arrive, proxytest.Equal(1), "sessions_waiting")
	served := int(p.Metric("sessions"))
	t.Logf("%d open files, %d writers: %d served at a time", files, writers, served)
	if status, _, err := p.Get("/livez"); status != 200 {
		t.Errorf("/livez: %d, %v", status, err)
	}
	if _, err := io.WriteString(conns[0], numberedRow("files", 0, 0)); err != nil {
		t.Fatal(err)
	}
	db.WaitCount("files", 1, arrive)
	for i, conn := range conns[1:] {
		if _, err := io.WriteString(conn, numberedRow("files", 0, 1+i)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	db.WaitCount("files", writers, arrive)
	checkPrefixes(t, db, "files", []int{writers})
	if n := p.Metric("connections_refused_total", "reason", "accept_failed"); n != 0 {
		t.Errorf("Accept failed %v times", n)
	}

	// And now somebody takes the files away while it runs.
	failing := setFiles(t, p.PID(), 3)
	late := p.Dial()
	if _, err := io.WriteString(late, numberedRow("files", 1, 0)); err != nil {
		t.Fatal(err)
	}
	p.WaitLog("cannot accept writers; trying again", arrive)
	if _, err := io.WriteString(conns[0], numberedRow("files", 0, writers)); err != nil {
		t.Fatal(err)
	}
	db.WaitCount("files", writers+1, arrive) // those who are there already go on
	setFiles(t, p.PID(), failing)
	late.Close()
	db.WaitCount("files", writers+2, arrive)
	if n := p.Metric("connections_refused_total", "reason", "accept_failed"); n < 1 {
		t.Errorf("Accept failed %v times", n)
	}
	p.Stop(30 * time.Second)
}

// setFiles changes the limit of open files of a running process and returns what
// it was.
func setFiles(t *testing.T, pid int, n uint64) (before uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	before, limit.Cur = limit.Cur, n
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	return before
}
