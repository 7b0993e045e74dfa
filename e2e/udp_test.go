package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/status"
)

// datagrams returns a function that sends one to the proxy, from an address.
func datagrams(t *testing.T, p *proxytest.Proxy, from string) func(string) {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", p.UDP())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(text string) {
		t.Helper()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUDP has rows by datagrams in QuestDB: the last record of one needs no LF,
// what an LF does not complete is a fragment, whoever may not send is refused, and
// what is in the kernel's queue when the proxy is told to end is read.
func TestUDP(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With(
		"ILP_LISTEN", "tcp://127.0.0.1:0,udp://127.0.0.1:0", "ILP_ALLOW", "127.0.0.1", "ILP_MAX_RECORD", "1KiB"))
	send := datagrams(t, p, "127.0.0.1")

	send("by_udp v=1i 1000000000\nby_udp v=2i 2000000000\n")
	send("by_udp v=3i 3000000000\nby_udp v=4i 4000000000") // complete
	send("by_udp v=5i 5000000000\nby_udp v=6i,w=\"unf")    // a fragment
	send("by_udp v=7i,w=\"" + strings.Repeat("x", 2000) + "\" 7000000000\nby_udp v=8i 8000000000")
	datagrams(t, p, "127.0.0.2")("by_udp v=9i 9000000000\n") // not allowed
	large := numbered("large", 0, 1000)
	if len(large) > 60_000 {
		t.Fatalf("%d bytes are no datagram", len(large))
	}
	send(large)
	db.WaitCount("by_udp", 6, arrive)
	db.WaitCount("large", 1000, arrive)
	if got := db.MustQuery("select sum(v) from by_udp"); got[0][0] != fmt.Sprint(1+2+3+4+5+8) {
		t.Errorf("the rows' sum is %s", got[0][0])
	}
	for _, c := range []struct {
		want  float64
		name  string
		label []string
	}{
		{6, "datagrams_received_total", nil},
		{0, "datagrams_dropped_total", nil},
		{1, "fragments_total", nil},
		{1007, "records_received_total", nil},
		{1, "records_rejected_total", []string{"reason", "too_long"}},
		{1, "connections_refused_total", []string{"reason", "not_allowed"}},
	} {
		p.WaitMetric(arrive, proxytest.Equal(c.want), c.name, c.label...)
	}

	waitStatus(t, p, "the writer by datagrams", func(r *status.Report) bool {
		return r.Writers.Connected == 1 && strings.HasPrefix(r.Writers.Fastest[0].Remote, "udp:127.0.0.1:") && r.Writers.Fastest[0].Bytes > int64(len(large))
	})

	// Stopped, it cannot read; told to end meanwhile, it reads all the same.
	p.Signal(syscall.SIGSTOP)
	for i := range 200 {
		send(fmt.Sprintf("queued v=%di %d\n", i, (i+1)*1_000_000))
	}
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGCONT)
	if code := p.Wait(arrive); code != 0 {
		t.Errorf("exit code %d", code)
	}
	db.WaitCount("queued", 200, arrive)
}

// TestUDPFull sends more than the proxy may hold while QuestDB is away: the
// kernel drops the rest, and each datagram is counted, as read or as dropped.
func TestUDPFull(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.EnvFor(newKey(t, "writer"), "127.0.0.1:1").With(
		"ILP_LISTEN", "udp://127.0.0.1:0", "ILP_BUFFER", "1MiB", "ILP_MAX_RECORD", "64KiB", "ILP_DRAIN_TIMEOUT", "100ms"))
	send := datagrams(t, p, "127.0.0.1")
	// 60 MB: whatever the kernel's queue may be, it does not take that.
	datagram := strings.Repeat("full v=1i 1000000000\n", 1400)
	const sent = 2000
	for range sent {
		send(datagram)
	}
	var read, dropped float64
	until(t, "the rest is dropped", func() (bool, error) {
		read, dropped = p.Metric("datagrams_received_total"), p.Metric("datagrams_dropped_total")
		return dropped > sent/4 && p.Metric("journal_bytes") <= 1<<20, nil
	})
	if read+dropped > sent || read > 100 {
		t.Errorf("of %d datagrams %v were read and %v dropped", sent, read, dropped)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(arrive); code != 1 { // records are left
		t.Errorf("exit code %d", code)
	}
	if len(p.LogLines("datagrams in the kernel's queue were dropped")) != 1 {
		t.Error("the proxy did not say that it left datagrams")
	}
}
