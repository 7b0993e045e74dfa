package e2e

import (
	"encoding/json"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/proxytest"
)

// listeners returns the addresses that the proxy's nth line of the log names, for n
// from 1.
func listeners(t *testing.T, p *proxytest.Proxy, msg string, n int) []string {
	t.Helper()
	var addrs []string
	for i := range n {
		var line struct{ Address string }
		if err := json.Unmarshal([]byte(p.WaitLogN(i+1, `"msg":"`+msg+`"`, arrive)), &line); err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, line.Address)
	}
	return addrs
}

// at is addr's port at another address of this machine.
func at(t *testing.T, host, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(host, port)
}

// TestAllow has writers of allowed and other addresses come by IPv4, by IPv6, by IPv4
// to a socket for both, which sees it within IPv6, and by UDP in each of these ways.
func TestAllow(t *testing.T) {
	t.Parallel()
	const here, there, six = "127.0.0.2", "127.0.0.3", "::1"
	for allow, allowed := range map[string][]string{
		here:                     {here},
		"127.0.0.2/31":           {here, there},
		six:                      {six},
		"10.0.0.0/8":             {},
		"::/0":                   {six}, // IPv4 within IPv6 is IPv4
		"0.0.0.0/0":              {here, there},
		"any":                    {here, there, six},
		"::1,127.0.0.3,fd00::/8": {six, there},
	} {
		t.Run(allow, func(t *testing.T) {
			t.Parallel()
			p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1").With(
				"ILP_LISTEN", "tcp://0.0.0.0:0,tcp://[::1]:0,tcp://[::]:0,udp://0.0.0.0:0,udp://[::1]:0,udp://[::]:0",
				"ILP_ALLOW", allow, "ILP_DRAIN_TIMEOUT", "0s"))
			tcp, udp := listeners(t, p, "listening for writers", 3), listeners(t, p, "listening for datagrams", 3)
			in, out, datagrams := 0, 0, 0
			for _, try := range []struct {
				from string
				to   int // which listener
			}{{here, 0}, {there, 0}, {six, 1}, {here, 2}, {there, 2}, {six, 2}} {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(try.from)}, Timeout: arrive}
				conn, err := d.Dial("tcp", at(t, try.from, tcp[try.to]))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(allowed, try.from) {
					conn.SetReadDeadline(time.Now().Add(arrive))
					if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
						t.Errorf("%s at %s was not disconnected: %v", try.from, tcp[try.to], err)
					}
					out++
				} else if _, err := io.WriteString(conn, "t v=1i\n"); err != nil {
					t.Error(err)
				} else {
					in++
				}
				conn.Close()

				to, err := net.ResolveUDPAddr("udp", at(t, try.from, udp[try.to]))
				if err != nil {
					t.Fatal(err)
				}
				packets, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(try.from)}, to)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(packets, "t v=1i\n"); err != nil {
					t.Error(err)
				}
				packets.Close()
				datagrams++
			}
			p.WaitMetric(arrive, proxytest.Equal(float64(datagrams)), "datagrams_received_total")
			p.WaitMetric(arrive, proxytest.Equal(float64(in)), "sessions_total")
			p.WaitMetric(arrive, proxytest.Equal(float64(2*in)), "records_received_total")
			p.WaitMetric(arrive, proxytest.Equal(float64(2*out)), "connections_refused_total", "reason", "not_allowed")
		})
	}
}

func isTimeout(err error) bool {
	netErr, ok := err.(net.Error)
	return ok && netErr.Timeout()
}

// TestClientsPerAddress has one address take no more than its part, and another go on.
func TestClientsPerAddress(t *testing.T) {
	t.Parallel()
	p := proxytest.Options{Plain: true}.Start(t, proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1").With(
		"ILP_MAX_CLIENTS", "5", "ILP_MAX_CLIENTS_PER_ADDRESS", "3", "ILP_DRAIN_TIMEOUT", "0s"))
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: arrive}
		conn, err := d.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var greedy []net.Conn
	for range 20 {
		greedy = append(greedy, dial("127.0.0.2"))
	}
	p.WaitMetric(arrive, proxytest.Equal(17), "connections_refused_total", "reason", "too_many")
	p.WaitMetric(arrive, proxytest.Equal(3), "sessions")
	if _, err := io.WriteString(dial("127.0.0.3"), "t v=1i\n"); err != nil {
		t.Fatal(err)
	}
	p.WaitMetric(arrive, proxytest.Equal(1), "records_received_total")
	if n := len(p.LogLines("ILP_MAX_CLIENTS_PER_ADDRESS")); n != 1 {
		t.Errorf("%d lines of the log tell, want one", n)
	}
	greedy[0].Close() // the first is one of those that were let in
	p.WaitMetric(arrive, proxytest.Equal(3), "sessions")
	dial("127.0.0.2")
	p.WaitMetric(arrive, proxytest.Equal(4), "sessions")
}
