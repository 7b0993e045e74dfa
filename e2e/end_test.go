package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// last is what the proxy says at its end.
type last struct {
	Msg      string
	Records  int // left
	Received int
}

// lastLine returns it, and wants it to be one line, the last.
func lastLine(t *testing.T, p *proxytest.Proxy) (l last) {
	t.Helper()
	lines := p.LogLines(`"msg":"ended`)
	lines = append(lines, p.LogLines(`"msg":"ILP_DRAIN_TIMEOUT is over`)...)
	if len(lines) != 1 {
		t.Fatalf("the end is told in %d lines: %q", len(lines), lines)
	}
	if all := p.LogLines(); all[len(all)-1] != lines[0] {
		t.Errorf("something is said after the end: %q", all[len(all)-1])
	}
	if err := json.Unmarshal([]byte(lines[0]), &l); err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	return l
}

// wantRefused wants that nobody can connect any more.
func wantRefused(t *testing.T, p *proxytest.Proxy) {
	t.Helper()
	until(t, "writers are refused", func() (bool, error) {
		conn, err := net.Dial("tcp", p.Addr())
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED), nil
	})
}

// nowhere is an address at which no server ever answers, for the test's time.
func nowhere(t *testing.T) string {
	t.Helper()
	ports, release, err := questdb.ReservePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return fmt.Sprintf("127.0.0.1:%d", ports[0])
}

// TestEndUnderLoad sends SIGTERM while writers write as fast as they can. Some
// end when they are told; some go on, and are ended after half of the time.
func TestEndUnderLoad(t *testing.T) {
	const polite, rude = 4, 3
	const drain = 8 * time.Second
	const atOnce = 50 // rows that a writer writes at once
	key := newKey(t, "end")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_DRAIN_TIMEOUT", drain.String(), "ILP_POOL_MAX", "6"))

	var wg sync.WaitGroup
	wrote := make([]atomic.Int64, polite+rude)
	var cut atomic.Int64 // rude writers whose connection was cut
	for w := range wrote {
		conn := p.Dial()
		told := make(chan struct{})
		wg.Go(func() {
			_, _ = io.Copy(io.Discard, conn) // until the proxy's half-close, or a reset
			close(told)
		})
		wg.Go(func() {
			for n := 0; ; n += atOnce {
				if w < polite {
					select {
					case <-told:
						conn.Close() // all that was written is still to be read
						return
					default:
					}
				}
				// Some at once, so that there is always something to read.
				var rows strings.Builder
				for i := range atOnce {
					rows.WriteString(numberedRow("load", w, n+i))
				}
				wrote[w].Add(atOnce)
				if _, err := io.WriteString(conn, rows.String()); err != nil {
					if w < polite {
						t.Errorf("polite writer %d: %v", w, err)
					}
					cut.Add(1)
					return
				}
			}
		})
	}
	p.WaitMetric(arrive, proxytest.AtLeast(20_000), "records_written_total")

	began := time.Now()
	p.Signal(syscall.SIGTERM)
	p.WaitNotReady("ending", 3*time.Second)
	wantRefused(t, p)
	told := time.Since(began)
	if told > 3*time.Second { // far less, but for the race detector and a busy machine
		t.Errorf("after SIGTERM it took %v until it was not ready and refused writers", told)
	}
	code := p.Wait(2 * drain)
	took := time.Since(began)
	wg.Wait()
	if code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took < drain/2 || took > drain {
		t.Errorf("the end took %v, want from half of ILP_DRAIN_TIMEOUT, %v, to all of it", took, drain)
	}
	if cut.Load() != rude {
		t.Errorf("%d writers were cut off, want the %d that went on", cut.Load(), rude)
	}
	end := lastLine(t, p)
	t.Logf("refused after %v, ended after %v; %d records received", told.Round(time.Millisecond), took.Round(time.Millisecond), end.Received)

	db.WaitCount("load", end.Received, arrive)
	// What the rude ones got in nobody knows, but it has no gaps.
	sent := make([]int, len(wrote))
	for w := range wrote {
		sent[w] = int(wrote[w].Load())
	}
	for _, row := range db.MustQuery(`select writer, count() from load order by writer`) {
		var w, n int
		fmt.Sscanf(row[0], "w%d", &w)
		fmt.Sscan(row[1], &n)
		if w >= polite && n <= sent[w] {
			sent[w] = n
		}
	}
	checkPrefixes(t, db, "load", sent)
	checkTables(t, db, "load")
}

// TestEndWaitsForWriters has writers that say little when they are told of the
// end: nothing, after a whole record; one more record; the rest of one.
func TestEndWaitsForWriters(t *testing.T) {
	key := newKey(t, "end")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})

	t.Run("quiet", func(t *testing.T) {
		p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))
		conn := p.Dial()
		_, _ = io.WriteString(conn, numberedRow("quiet", 0, 0))
		p.WaitMetric(arrive, proxytest.Equal(1), "records_received_total")
		began := time.Now()
		p.Stop(10 * time.Second) // half of ILP_DRAIN_TIMEOUT
		if took := time.Since(began); took < 200*time.Millisecond {
			t.Errorf("it did not wait for the writer: %v", took)
		}
		db.WaitCount("quiet", 1, arrive)
	})
	t.Run("one more", func(t *testing.T) {
		p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))
		conn := p.Dial()
		_, _ = io.WriteString(conn, numberedRow("more", 0, 0)+"more,writer=w0 n=1i,")
		p.WaitMetric(arrive, proxytest.Equal(1), "records_received_total")
		p.Signal(syscall.SIGTERM)
		if _, err := io.Copy(io.Discard, conn); err != nil { // told
			t.Fatal(err)
		}
		// Within a record it waits for longer than the 200 ms of quiet.
		select {
		case <-time.After(500 * time.Millisecond):
		case <-p.Done():
			t.Fatal("it ended although a writer was in the middle of a record")
		}
		_, _ = io.WriteString(conn, `text="row 1 of w0" 1001`+"\n"+numberedRow("more", 0, 2))
		if code := p.Wait(5 * time.Second); code != 0 { // though the writer never closed
			t.Errorf("exit code %d, want 0", code)
		}
		db.WaitCount("more", 3, arrive)
		checkPrefixes(t, db, "more", []int{3})
		if end := lastLine(t, p); end.Received != 3 {
			t.Errorf("%d records received, want 3", end.Received)
		}
	})
	t.Run("never finished", func(t *testing.T) {
		const drain = 4 * time.Second
		p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_DRAIN_TIMEOUT", drain.String()))
		conn := p.Dial()
		_, _ = io.WriteString(conn, numberedRow("half", 0, 0)+"half,writer=w0 n=1i")
		p.WaitMetric(arrive, proxytest.Equal(1), "records_received_total")
		began := time.Now()
		p.Stop(10 * time.Second)
		if took := time.Since(began); took < drain/2 {
			t.Errorf("it ended after %v, before half of ILP_DRAIN_TIMEOUT", took)
		}
		db.WaitCount("half", 1, arrive)
		if n := len(p.LogLines("ended in the middle of a record")); n != 1 {
			t.Errorf("the fragment is logged %d times", n)
		}
	})
	t.Run("server slow", func(t *testing.T) {
		// It answers only when the end has begun already.
		p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_POOL_MIN_IDLE", "0"))
		db.Pause()
		p.Send(strings.Repeat("late n=1i\n", 1000))
		p.Signal(syscall.SIGTERM)
		p.WaitNotReady("ending", 3*time.Second)
		wantRefused(t, p)
		db.Resume()
		if code := p.Wait(15 * time.Second); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		db.WaitCount("late", 1000, arrive)
	})
	t.Run("server stuck", func(t *testing.T) {
		// What was settled is there; of what was left, which went nowhere else, there
		// may be a beginning.
		const rows = 20_000
		p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_POOL_MAX", "2", "ILP_DRAIN_TIMEOUT", "2s"))
		p.Send(numberedRow("stuck", 0, 0))
		db.WaitCount("stuck", 1, arrive)
		db.Pause()
		pad := strings.Repeat("x", 1000)
		var b strings.Builder
		for n := 1; n < rows; n++ {
			fmt.Fprintf(&b, "stuck,writer=w0 n=%di,text=\"row %d of w0\",pad=\"%s\" %d\n", n, n, pad, 1+n*1000)
		}
		p.Send(b.String())
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(10 * time.Second); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		end := lastLine(t, p)
		t.Logf("%d records of %d left", end.Records, end.Received)
		if end.Received != rows || end.Records == 0 {
			t.Errorf("%d records received and %d left, want %d and some", end.Received, end.Records, rows)
		}
		db.Resume()
		db.Restart()
		until(t, "what was committed shows", func() (bool, error) {
			rows, err := db.Query(t.Context(), "select name from wal_tables() where writerTxn < sequencerTxn")
			return len(rows) == 0, err
		})
		there := db.Count("stuck")
		if there < rows-end.Records {
			t.Errorf("%d rows are there, want %d or more", there, rows-end.Records)
		}
		checkPrefixes(t, db, "stuck", []int{there})
	})
}

// TestEndWithoutServer has a proxy that cannot deliver: the number of records
// that it leaves is exact, and it ends when it should.
func TestEndWithoutServer(t *testing.T) {
	t.Parallel()
	const rows = 1234
	env := proxytest.EnvFor(newKey(t, "end"), nowhere(t))
	ilp := numbered("left", 0, rows) + "\n\r\n left\nleft,w=never n=1" // an empty line, a bad record, and half of one
	for name, test := range map[string]struct {
		drain   string
		second  syscall.Signal
		atLeast time.Duration
		atMost  time.Duration
		msg     string
	}{
		"timeout":        {"1s", 0, time.Second, 5 * time.Second, "ILP_DRAIN_TIMEOUT is over; records that were accepted are lost: there is no ILP_REJECTED_FILE to keep them in"},
		"no time":        {"0s", 0, 0, 3 * time.Second, "ILP_DRAIN_TIMEOUT is over; records that were accepted are lost: there is no ILP_REJECTED_FILE to keep them in"},
		"second SIGTERM": {"1h", syscall.SIGTERM, 0, 5 * time.Second, "ended by a second signal; records that were accepted are lost: there is no ILP_REJECTED_FILE to keep them in"},
		"SIGINT after":   {"1h", syscall.SIGINT, 0, 5 * time.Second, "ended by a second signal; records that were accepted are lost: there is no ILP_REJECTED_FILE to keep them in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := proxytest.Start(t, env.With("ILP_DRAIN_TIMEOUT", test.drain))
			p.Send(ilp)
			talking := p.Dial()
			if _, err := io.WriteString(talking, numbered("left", 1, 10)+"left,w=half"); err != nil {
				t.Fatal(err)
			}
			p.WaitMetric(arrive, proxytest.Equal(rows+11), "records_received_total")
			began := time.Now()
			p.Signal(syscall.SIGTERM)
			if test.second != 0 {
				p.WaitLog("ending", arrive)
				p.Signal(test.second) // at once: this is taken for the first one
				select {
				case <-time.After(500 * time.Millisecond):
				case <-p.Done():
					t.Fatal("it ended when the same signal came twice")
				}
				began = time.Now()
				p.Signal(test.second)
			}
			if code := p.Wait(30 * time.Second); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if took := time.Since(began); took < test.atLeast || took > test.atMost {
				t.Errorf("it took %v, want %v to %v", took, test.atLeast, test.atMost)
			}
			if got, want := lastLine(t, p), (last{test.msg, rows + 11, rows + 11}); got != want {
				t.Errorf("it said %+v, want %+v", got, want)
			}
		})
	}
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		p := proxytest.Start(t, env.With("ILP_DRAIN_TIMEOUT", "1s", "ILP_BUFFER", "1MiB", "ILP_MAX_RECORD", "8KiB"))
		writers := make([]chan struct{}, 4)
		for w := range writers {
			conn, done := p.Dial(), make(chan struct{})
			writers[w] = done
			go func() {
				defer close(done)
				_, _ = io.WriteString(conn, numbered("left", w, 100_000)) // most of it waits, until the connection is gone
			}()
		}
		p.WaitMetric(arrive, proxytest.Equal(float64(len(writers))), "journal_waiting_sessions")
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(10 * time.Second); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		for _, done := range writers {
			<-done
		}
		end := lastLine(t, p)
		t.Logf("%d records received and left with a full buffer", end.Records)
		if end.Records != end.Received || end.Records < 1000 {
			t.Errorf("%d records received and %d left: want the same, and many", end.Received, end.Records)
		}
	})
}

// TestEndWithNothingLeft has nothing to deliver: a second signal or no server is
// no reason to wait.
func TestEndWithNothingLeft(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.EnvFor(newKey(t, "end"), nowhere(t)))
	conn := p.Dial()
	p.WaitMetric(arrive, proxytest.Equal(1), "sessions")
	began := time.Now()
	p.Signal(syscall.SIGINT)
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the writer was not told by a half-close: %v", err)
	}
	if code := p.Wait(10 * time.Second); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if end := lastLine(t, p); end.Received != 0 {
		t.Errorf("%d records received", end.Received)
	}
}

// TestEndOfTheLogsReader lets go away whoever reads the log, as when a log
// collector is restarted: nothing else may end with it.
func TestEndOfTheLogsReader(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.EnvFor(newKey(t, "k"), nowhere(t)))
	p.CloseLog()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "t a=1i"); err != nil { // never ends: a line for the log
		t.Fatal(err)
	}
	conn.Close()
	p.WaitMetric(10*time.Second, proxytest.Equal(1), "fragments_total")
	p.Stop(10 * time.Second)
}
