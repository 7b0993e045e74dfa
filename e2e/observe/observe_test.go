package observe

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// TestObserve has a real Prometheus scrape a proxy under load, in front of a real
// QuestDB. Every series that dashboard and alerts speak of is there, every query of
// the dashboard returns data, every alert can be evaluated, and both tell when
// QuestDB goes away. No query is expected to be empty: all series are there from the
// start, and what the test does gives those their values that depend on events.
func TestObserve(t *testing.T) {
	t.Parallel()
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", filepath.Join(t.TempDir(), "rejected.jsonl")))
	p.WaitReady(patience)
	s := startPrometheus(t, p.Admin())
	stop := writeAway(t, p.Addr(), 4)
	p.WaitMetric(patience, proxytest.AtLeast(1000), "records_settled_total")
	s.wait("to have scraped", func() (bool, string) {
		lines, err := s.query(target{Expr: `count_over_time(questdb_ilp_proxy_ready[1m])`, Instant: true})
		return err == nil && len(lines) == 1 && lines[0].value >= 3, fmt.Sprint(lines, err)
	})
	p.Send("bad/name v=1\n") // after the first scrape, so that it is an increase

	_, panels, _ := readDashboard(t)
	if !t.Run("series", func(t *testing.T) { theyExist(t, p, panels) }) {
		return // Prometheus would be asked for it in vain
	}
	t.Run("documented", func(t *testing.T) { theyAreDocumented(t, p) })
	for _, panel := range panels {
		for _, q := range panel.Targets {
			s.wait(fmt.Sprintf("to answer %q %s (%s)", panel.Title, q.RefID, q.Expr), func() (bool, string) {
				lines, err := s.query(q)
				return err == nil && len(lines) > 0, fmt.Sprint(lines, err)
			})
		}
	}

	// What is known of this proxy is what the panels say.
	s.shows(panels, "Is it delivering?", nil, func(l line) bool { return l.value == 2 })
	s.shows(panels, "Records in", nil, func(l line) bool { return l.value > 100 })
	s.shows(panels, "Oldest unsettled", nil, func(l line) bool { return l.value > 0 && l.value < 30 })
	s.shows(panels, "Rejected", nil, func(l line) bool { return l.value >= 1 })
	s.shows(panels, "Writers", nil, func(l line) bool { return l.value == 4 })
	s.shows(panels, "Rejected, by reason", map[string]string{"reason": "malformed"}, func(l line) bool { return l.most >= 1 })
	s.shows(panels, "Given up by every proxy", map[string]string{"kind": "new_privileges"}, func(l line) bool { return l.value == 1 })
	s.shows(panels, "What runs, and what it found", map[string]string{"kind": "resets"}, func(l line) bool { return l.value == 1 })

	rulesAreWell(t, s)
	s.wait("to say nothing but that a record was rejected", func() (bool, string) {
		states, err := s.alerts()
		rejected := states["ILPProxyRecordsRejected"] == "firing"
		delete(states, "ILPProxyRecordsRejected")
		delete(states, "ILPProxyRowsTwice") // what was on its way beside it went again
		return err == nil && rejected && len(states) == 0, fmt.Sprint(states, rejected, err)
	})

	// QuestDB goes away under load.
	db.Kill()
	s.shows(panels, "Is it delivering?", nil, func(l line) bool { return l.value == 0 })
	s.wait("to be alarmed", func() (bool, string) {
		states, err := s.alerts()
		return err == nil && states["ILPProxyNotReady"] == "pending", fmt.Sprint(states, err)
	})
	stop()
}

// shows waits until the first query of a panel that has a series with these labels says
// what it should.
func (s *server) shows(panels []panel, title string, labels map[string]string, right func(line) bool) {
	s.t.Helper()
	i := slices.IndexFunc(panels, func(p panel) bool { return p.Title == title })
	if i < 0 {
		s.t.Fatalf("there is no panel %q", title)
	}
	s.wait(fmt.Sprintf("to show it at %q %v", title, labels), func() (bool, string) {
		var said []string
		for _, q := range panels[i].Targets {
			lines, err := s.query(q)
			said = append(said, fmt.Sprint(lines, err))
			for _, l := range lines {
				fits := true
				for name, value := range labels {
					fits = fits && l.labels[name] == value
				}
				if fits && right(l) {
					return true, ""
				}
			}
		}
		return false, strings.Join(said, "; ")
	})
}

// theyExist looks for all that dashboard and alerts speak of in what the proxy says.
func theyExist(t *testing.T, p *proxytest.Proxy, panels []panel) {
	have := readScrape(t, metrics(t, p))
	where := map[string]string{}
	for _, panel := range panels {
		for _, q := range panel.Targets {
			where[q.Expr] = "panel " + panel.Title
		}
	}
	for _, r := range readRules(t) {
		where[r.Expr] = "alert " + r.Alert
	}
	for expr, place := range where {
		found := selectors(expr)
		if len(found) == 0 {
			t.Errorf("%s: no series in %s", place, expr)
		}
		for _, sel := range found {
			for _, name := range []string{"namespace", "pod", "instance"} {
				delete(sel.labels, name) // Prometheus adds them
			}
			if sel.name != "up" && !have.has(sel) { // up is Prometheus's own
				t.Errorf("%s: the proxy has no %s %v", place, sel.name, sel.labels)
			}
		}
	}
}

// theyAreDocumented looks for each of the proxy's own series in the README.
func theyAreDocumented(t *testing.T, p *proxytest.Proxy) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(metrics(t, p)) {
		rest, own := strings.CutPrefix(line, "# TYPE questdb_ilp_proxy_")
		name, _, _ := strings.Cut(rest, " ")
		if own && !strings.Contains(string(readme), "`"+name+"`") && !strings.Contains(string(readme), "`"+name+"{") {
			t.Errorf("the README does not have %s", name)
		}
	}
}

func metrics(t *testing.T, p *proxytest.Proxy) string {
	t.Helper()
	status, text, err := p.Get("/metrics")
	if err != nil || status != 200 {
		t.Fatalf("/metrics: %d, %v", status, err)
	}
	return text
}

// rulesAreWell waits until Prometheus has evaluated every alert, without an error.
func rulesAreWell(t *testing.T, s *server) {
	t.Helper()
	s.wait("to evaluate the alerts", func() (bool, string) {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := s.ask("rules", nil, &data); err != nil {
			return false, err.Error()
		}
		n := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health == "ok" {
					n++
				}
			}
		}
		return n == len(readRules(t)), fmt.Sprint(data)
	})
}

// writeAway has writers write rows until stop is called.
func writeAway(t *testing.T, addr string, writers int) (stop func()) {
	t.Helper()
	over := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer conn.Close()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				row := fmt.Sprintf("observed,writer=w%d n=%di %d\n", w, n, 1_700_000_000_000_000_000+int64(n)*1_000_000)
				if _, err := conn.Write([]byte(strings.Repeat(row, 10))); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				select {
				case <-tick.C:
				case <-over:
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(over); wg.Wait() })
	t.Cleanup(stop)
	return stop
}
