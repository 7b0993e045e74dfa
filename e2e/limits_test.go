package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestConnectionLimit has more writers at a time than the server allows
// connections, and counts the proxy's: as the kernel sees them, and as it says.
func TestConnectionLimit(t *testing.T) {
	const writers, rows = 400, 50 // the server allows 256, its default
	key := newKey(t, "limits")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	for _, limit := range []int{16, 3} { // 16 is the default of ILP_POOL_MAX
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			env := proxytest.EnvFor(key, db.ILP())
			if limit != 16 {
				env = env.With("ILP_POOL_MAX", strconv.Itoa(limit))
			}
			p := proxytest.Start(t, env)
			look := watchConnections(t, p, db.ILP())

			table := fmt.Sprintf("limit%d", limit)
			half := make(chan struct{})
			var g errgroup.Group
			for w := range writers {
				ilp := numbered(table, w, rows)
				conn := p.Dial()
				g.Go(func() error {
					cut := len(ilp)/2 + w%7 // most often within a row
					if _, err := conn.Write([]byte(ilp[:cut])); err != nil {
						return err
					}
					<-half
					if _, err := conn.Write([]byte(ilp[cut:])); err != nil {
						return err
					}
					return proxytest.Finish(conn)
				})
			}
			p.WaitMetric(arrive, proxytest.Equal(writers), "sessions")
			p.WaitMetric(arrive, proxytest.AtLeast(writers*(rows/2-1)), "records_received_total")
			close(half)
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			db.WaitCount(table, writers*rows, arrive)
			checkNumbered(t, db, table, writers, rows)
			checkCounters(t, p, writers*rows)

			seen, said, samples := look()
			t.Logf("%d writers, ILP_POOL_MAX %d: at most %d connections to the server seen, %v said, in %d samples", writers, limit, seen, said, samples)
			if seen > limit || int(said) > limit {
				t.Errorf("%d connections seen and %v said at the same time, ILP_POOL_MAX is %d", seen, said, limit)
			}
			if samples < 10 {
				t.Errorf("looked %d times only", samples)
			}
			p.Stop(30 * time.Second)
		})
	}
}

// watchConnections counts the connections to the server, again and again, until
// the returned function is called. It returns the most that the kernel had and
// the most that the proxy said it had.
func watchConnections(t *testing.T, p *proxytest.Proxy, server string) (stop func() (seen int, said float64, samples int)) {
	t.Helper()
	port := portOf(t, server)
	var seen, samples int
	var said float64
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			all, err := sockets()
			if err != nil {
				done <- err
				return
			}
			n := 0
			for _, s := range all {
				if s.remote == port && (s.state == established || s.state == synSent) {
					n++
				}
			}
			seen, samples = max(seen, n), samples+1
			if samples%4 == 0 {
				v, err := p.TryMetric("upstream_connections")
				if err != nil {
					done <- err
					return
				}
				said = max(said, v)
			}
			select {
			case <-quit:
				done <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() (int, float64, int) {
		close(quit)
		if err := <-done; err != nil {
			t.Error(err)
		}
		return seen, said, samples
	}
}

// States of a socket, as the kernel numbers them.
const (
	established = 1
	synSent     = 2
)

// A socket is one end of a TCP connection over IPv4, as the kernel sees it.
type socket struct {
	local, remote  int // ports
	state          int
	unsent, unread int // bytes
	inode          string
}

// sockets returns those of the whole machine.
func sockets() ([]socket, error) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	hex := func(s string) int {
		n, _ := strconv.ParseInt(s, 16, 64)
		return int(n)
	}
	var all []socket
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl local remote st tx:rx tr:when retrnsmt uid timeout inode
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		_, remote, _ := strings.Cut(f[2], ":")
		tx, rx, _ := strings.Cut(f[4], ":")
		all = append(all, socket{hex(local), hex(remote), hex(f[3]), hex(tx), hex(rx), f[9]})
	}
	return all, nil
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
