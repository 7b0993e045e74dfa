package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestConnectionLimit has more writers at a time than the server allows
// connections, and counts the proxy's: on their way, and as it says.
func TestConnectionLimit(t *testing.T) {
	const writers, rows = 400, 50 // the server allows 256, its default
	key := newKey(t, "limits")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	for _, limit := range []int{16, 3} { // 16 is the default of ILP_POOL_MAX
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			upstream := countConnections(t, db.ILP())
			env := proxytest.EnvFor(key, upstream.addr)
			if limit != 16 {
				env = env.With("ILP_POOL_MAX", strconv.Itoa(limit))
			}
			p := proxytest.Start(t, env)
			stop := mostMetric(t, p, "upstream_connections")

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

			seen, said := int(upstream.at.Load()), int(stop())
			t.Logf("%d writers, ILP_POOL_MAX %d: at most %d connections to the server seen, %d said", writers, limit, seen, said)
			if seen > limit || said > limit {
				t.Errorf("%d connections seen and %d said at the same time, ILP_POOL_MAX is %d", seen, said, limit)
			}
			if seen < 2 || said < 2 {
				t.Errorf("%d connections seen and %d said: these are all?", seen, said)
			}
			p.Stop(30 * time.Second)
		})
	}
}

// A counter is a relay that counts the connections that it carries at a time. It passes
// resets on, so that the proxy sees what it would see without it.
type counter struct {
	addr    string
	now, at atomic.Int64 // connections now, and at most
}

// countConnections puts a counter before the server.
func countConnections(t *testing.T, server string) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			c.at.Store(max(c.at.Load(), c.now.Add(1))) // only here
			wg.Go(func() {
				defer near.Close()
				far, err := net.Dial("tcp", server)
				if err != nil {
					c.now.Add(-1)
					t.Error(err)
					return
				}
				defer far.Close()
				pass := func(to net.Conn, err error) {
					if err != nil { // a reset; either copy may be the one that is told
						_ = near.(*net.TCPConn).SetLinger(0)
						_ = near.Close()
						return
					}
					_ = to.(*net.TCPConn).CloseWrite()
				}
				counted := make(chan struct{})
				wg.Go(func() {
					defer close(counted)
					_, err := io.Copy(near, far)
					c.now.Add(-1) // the server has closed it, whatever the proxy still does
					pass(near, err)
				})
				if _, err = io.Copy(far, near); err != nil {
					<-counted // the proxy hears of the end after that
				}
				pass(far, err)
				<-counted
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait() // the proxy was ended before
	})
	return c
}

// mostMetric asks for a metric again and again, until the returned function is
// called, which returns the highest value.
func mostMetric(t *testing.T, p *proxytest.Proxy, name string) (stop func() float64) {
	t.Helper()
	quit, done := make(chan struct{}), make(chan error, 1)
	most := 0.0
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			v, err := p.TryMetric(name)
			if err != nil {
				done <- err
				return
			}
			most = max(most, v)
			select {
			case <-quit:
				done <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 {
		close(quit)
		if err := <-done; err != nil {
			t.Error(err)
		}
		return most
	}
}

// A socket is one end of a TCP connection over IPv4, as the kernel sees it.
type socket struct {
	local, remote  int // ports
	unsent, unread int // bytes
	state          int // TCP_ESTABLISHED is 1, TCP_FIN_WAIT1 4, TCP_FIN_WAIT2 5
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
		f := strings.Fields(line) // sl local remote st tx:rx ...
		if len(f) < 5 || f[0] == "sl" {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		_, remote, _ := strings.Cut(f[2], ":")
		tx, rx, _ := strings.Cut(f[4], ":")
		all = append(all, socket{hex(local), hex(remote), hex(tx), hex(rx), hex(f[3])})
	}
	return all, nil
}

// halfClosed reports whether a connection to port was half-closed by who made it,
// and not yet closed by the other end.
func halfClosed(port int) (bool, error) {
	all, err := sockets()
	for _, s := range all {
		if s.remote == port && (s.state == 4 || s.state == 5) {
			return true, err
		}
	}
	return false, err
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

// TestPoolOfTwoQuiet has the smallest pool where refusals are hidden: the lane's connection, and
// one place for all that has to be proven meanwhile.
func TestPoolOfTwoQuiet(t *testing.T) {
	t.Parallel()
	key := newKey(t, "two")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_PATH_CHECK", "off", "ILP_POOL_MAX", "2", "ILP_CONFIRM_INTERVAL", "1s"))
	p.Send(numbered("two", 0, 100))
	allSettled(p, arrive)
	checkNumbered(t, db, "two", 1, 100)
	p.Stop(30 * time.Second)
}
