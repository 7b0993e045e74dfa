package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// toxics are what befalls every connection for a while.
var toxics = []struct{ name, json string }{
	{"reset at once", `{"type":"reset_peer","stream":"upstream","attributes":{"timeout":0}}`},
	{"reset later", `{"type":"reset_peer","stream":"downstream","attributes":{"timeout":700}}`},
	{"timeout", `{"type":"timeout","stream":"upstream","attributes":{"timeout":600}}`},
	{"silence", `{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`},
	{"slow", `{"type":"bandwidth","stream":"upstream","attributes":{"rate":30}}`},
	{"late", `{"type":"latency","stream":"downstream","attributes":{"latency":300,"jitter":200}}`},
	{"limited", `{"type":"limit_data","stream":"upstream","attributes":{"bytes":40000}}`},
}

// TestConnectionsCut cuts and slows down all connections between proxy and
// QuestDB while rows are written, and kills QuestDB now and then: no row is
// missing.
func TestConnectionsCut(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	makeTable(db, "cut", true)
	between := startRelay(t, db.ILP())
	p := proxytest.Options{Plain: *soak}.Start(t, proxytest.EnvFor(key, between.addr).With(
		"ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "500ms", "ILP_AUTH_TIMEOUT", "2s", "ILP_CONFIRM_INTERVAL", "1s"))
	p.WaitReady(arrive)
	l := startLoad(t, p, 8, short(4_000, 20_000), "cut")
	for range short(1, 10) {
		for _, i := range random.Perm(len(toxics)) {
			between.tell(toxics[i].json)
			spend(t, p, time.Duration(1000+random.IntN(1500))*time.Millisecond)
			if *soak && random.IntN(3) == 0 {
				db.Kill()
				db.Start()
			}
			between.tell("")
			t.Logf("%s: %d rows written, %v replayed until now", toxics[i].name, l.rows(), p.Metric("records_replayed_total"))
			l.more(random.IntN(4_000))
		}
	}
	l.end()
	allSettled(p, arrive)
	if c := l.check(db, arrive)["cut"]; c.twice > 0 {
		t.Errorf("%d rows came twice into a table with keys", c.twice)
	}
	if n := p.Metric("records_rejected_total"); n != 0 {
		t.Errorf("%v records were set aside", n)
	}
	p.Stop(arrive)
}

// A toxiRelay is toxiproxy in a process of its own: it leaves goroutines behind.
type toxiRelay struct {
	t    testing.TB
	addr string
	in   io.Writer
	out  *bufio.Reader
}

const relayEnv = "E2E_RELAY_TO"

// startRelay runs toxiproxy in front of upstream for the duration of a test.
func startRelay(t testing.TB, upstream string) *toxiRelay {
	t.Helper()
	cmd := exec.Command(os.Args[0]) // see TestMain
	cmd.Env = append(os.Environ(), relayEnv+"="+upstream)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its input
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r := &toxiRelay{t: t, in: in, out: bufio.NewReader(out)}
	r.addr = r.answer()
	return r
}

// tell sends a toxic as JSON, or nothing for none, and waits until it is so.
func (r *toxiRelay) tell(toxic string) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, toxic+"\n"); err != nil {
		r.t.Fatal(err)
	}
	r.answer()
}

func (r *toxiRelay) answer() string {
	r.t.Helper()
	line, err := r.out.ReadString('\n')
	answer, ok := strings.CutPrefix(strings.TrimSpace(line), "ok ")
	if err != nil || !ok {
		r.t.Fatalf("toxiproxy said %q, %v", line, err)
	}
	return answer
}

// relay is the process of a toxiRelay in front of upstream: it says where it listens,
// and then takes a toxic a line, or an empty line for none. It never returns.
func relay(upstream string) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "questdb", "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ok", proxy.Listen)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		proxy.Toxics.ResetToxics(ctx)
		cancel()
		var err error
		if lines.Text() != "" {
			_, err = proxy.Toxics.AddToxicJson(strings.NewReader(lines.Text()))
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ok ok")
	}
	os.Exit(0)
}

// TestNetworkGone has the network between proxy and QuestDB go away under load,
// without a sign: no reset, no FIN. When it is there again, no row is missing.
func TestNetworkGone(t *testing.T) {
	needRoot(t, "to make a network namespace")
	space := newNamespace(t)
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}, AllAddresses: true})
	_, port, err := net.SplitHostPort(db.ILP())
	if err != nil {
		t.Fatal(err)
	}
	makeTable(db, "gone", true)
	p := proxytest.Options{Plain: *soak, Namespace: space.name}.Start(t,
		proxytest.EnvFor(key, net.JoinHostPort(space.upstreamHost, port)).With(
			"ILP_LISTEN", "tcp://"+space.proxy+":0", "ILP_ADMIN", space.proxy+":0", "ILP_ALLOW", "any",
			"ILP_BUFFER", "256MiB", "ILP_RETRY_MAX", "500ms", "ILP_DIAL_TIMEOUT", "2s", "ILP_AUTH_TIMEOUT", "2s"))
	p.WaitReady(arrive)
	rate := short(8_000, 20_000)
	l := startLoad(t, p, 8, rate, "gone")
	for range short(1, 3) {
		l.more(short(2, 10) * rate)
		space.up(t, false)
		spend(t, p, short(5*time.Second, 30*time.Second))
		space.up(t, true)
		t.Logf("%d rows written, %v replayed until now", l.rows(), p.Metric("records_replayed_total"))
	}
	l.more(rate)
	l.end()
	if hidden, err := p.TryMetric("path", "kind", "hidden"); err == nil && hidden > 0 {
		t.Log("the path check believes that resets are hidden, which they are not")
	}
	allSettled(p, 2*arrive)
	if c := l.check(db, arrive)["gone"]; c.twice > 0 {
		t.Errorf("%d rows came twice into a table with keys", c.twice)
	}
	if n := p.Metric("records_rejected_total"); n != 0 {
		t.Errorf("%v records were set aside", n)
	}
	p.Stop(arrive)
}

// A namespace is a network of its own for the proxy, with two links: writers come
// over one, and QuestDB is reached over the other.
type namespace struct {
	name, link          string
	proxy, upstreamHost string
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	id := os.Getpid() % 100_000
	s := &namespace{name: fmt.Sprintf("ilp-%d", id), link: fmt.Sprintf("ilpq%d", id), proxy: "198.18.213.2", upstreamHost: "198.18.214.1"}
	writers := fmt.Sprintf("ilpw%d", id)
	ip(t, "netns", "add", s.name)
	t.Cleanup(func() { ip(t, "netns", "del", s.name) }) // takes the links along
	for _, link := range []struct{ name, here, there string }{
		{writers, "198.18.213.1/30", "198.18.213.2/30"}, {s.link, "198.18.214.1/30", "198.18.214.2/30"},
	} {
		ip(t, "link", "add", link.name, "type", "veth", "peer", "name", link.name, "netns", s.name)
		ip(t, "addr", "add", link.here, "dev", link.name)
		ip(t, "link", "set", link.name, "up")
		ip(t, "-n", s.name, "addr", "add", link.there, "dev", link.name)
		ip(t, "-n", s.name, "link", "set", link.name, "up")
	}
	ip(t, "-n", s.name, "link", "set", "lo", "up")
	return s
}

// up takes QuestDB's end of the link up or down; the proxy's end stays.
func (s *namespace) up(t *testing.T, up bool) {
	t.Helper()
	state := "down"
	if up {
		state = "up"
	}
	ip(t, "link", "set", s.link, state)
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
