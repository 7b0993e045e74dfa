package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// trickle is writers that send their records byte by byte, in turn.
type trickle struct {
	stop chan struct{}
	done sync.WaitGroup
	rows int // whole ones, when it is done
	err  error
}

// startTrickle has each conn send rows of a table until the trickle is ended.
func startTrickle(conns []net.Conn, table string) *trickle {
	t := &trickle{stop: make(chan struct{})}
	t.done.Go(func() {
		row := func(writer, n int) string {
			return fmt.Sprintf("%s,writer=w%d n=%di %d\n", table, writer, n, 1_000_000*int64(n*len(conns)+writer+1))
		}
		rest, sent := make([]string, len(conns)), make([]int, len(conns))
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for ending := false; ; {
			select {
			case <-t.stop:
				ending = true
			case <-pace.C:
			}
			busy := false
			for i, conn := range conns {
				if rest[i] == "" {
					if ending {
						continue
					}
					rest[i] = row(i, sent[i])
					sent[i]++
					t.rows++
				}
				n := 1
				if ending {
					n = len(rest[i])
				}
				if _, t.err = conn.Write([]byte(rest[i][:n])); t.err != nil {
					return
				}
				rest[i] = rest[i][n:]
				busy = true
			}
			if !busy {
				return
			}
		}
	})
	return t
}

// end has the records ended that were begun, and returns how many there were.
func (t *trickle) end() (int, error) {
	close(t.stop)
	t.done.Wait()
	return t.rows, t.err
}

// TestSlowWriters has a fast writer beside 1,000 that are silent, from the start, or in
// the middle of a record, or send byte by byte: all that it sends arrives meanwhile,
// and takes not much longer than without them. Their own records arrive as well.
func TestSlowWriters(t *testing.T) {
	t.Parallel()
	const rows, silent, halfway, trickling = 100_000, 400, 300, 300
	key := newKey(t, "slow")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_POOL_MAX", "8")) // 3 lanes for all
	fast := func(table string) time.Duration {
		t.Helper()
		begun := time.Now()
		if err := p.TrySend(numbered(table, 0, rows)); err != nil {
			t.Fatal(err)
		}
		db.WaitCount(table, rows, arrive)
		return time.Since(begun)
	}
	p.WaitReady(arrive)
	alone := fast("alone")

	var conns []net.Conn
	for range silent + halfway + trickling {
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	for i, conn := range conns[silent:][:halfway] {
		if _, err := fmt.Fprintf(conn, "halfway,writer=w%d n=", i); err != nil {
			t.Fatal(err)
		}
	}
	slow := startTrickle(conns[silent+halfway:], "trickle")
	p.WaitMetric(arrive, proxytest.Equal(float64(len(conns))), "sessions")
	beside := fast("beside")
	// Writers of one row each, on lanes that they share with the slow ones.
	longest := time.Duration(0)
	for i := range 20 {
		begun := time.Now()
		p.Send(numberedRow("single", i, 0))
		longest = max(longest, time.Since(begun))
	}
	db.WaitCount("single", 20, arrive)
	if n := p.Metric("sessions"); n != float64(len(conns)) {
		t.Errorf("%v writers are connected, want %d", n, len(conns))
	}
	t.Logf("%d rows: %v alone, %v beside %d slow writers; a row took %v at most to be read", rows, alone, beside, len(conns), longest)
	// The trickle takes processor time: both of them are on this machine.
	if limit := 4*alone + 5*time.Second; beside > limit {
		t.Errorf("the fast writer was held up: %v, at most %v were to be expected", beside, limit)
	}

	trickled, err := slow.end()
	if err != nil {
		t.Fatal(err)
	}
	for i, conn := range conns[silent:][:halfway] {
		if _, err := fmt.Fprintf(conn, "%di %d\n", i, 1_000_000*(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range conns {
		if err := proxytest.Finish(conn); err != nil {
			t.Fatal(err)
		}
	}
	db.WaitCount("halfway", halfway, arrive)
	db.WaitCount("trickle", trickled, arrive)
	if n := p.Metric("fragments_total"); n != 0 {
		t.Errorf("%v records were cut off", n)
	}
	if lines := p.LogLines("writer"); strings.Contains(strings.Join(lines, ""), `"level":"WARN"`) {
		t.Errorf("the log warns of them: %s", lines)
	}
}
