package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"questdb-ilp-proxy/e2e/bubble"
)

func newTestPage(s Snapshot) *Page {
	return New(Options{
		Version: "v1", Usual: 6 * time.Second,
		Look:   func() Snapshot { return s },
		Count:  func() Counts { return Counts{Received: 10, Settled: 8} },
		Events: NewEvents(), Rejections: NewRejections(false),
	})
}

func ask(p *Page, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// Every list is one in the JSON of a proxy to which nothing has happened yet.
func TestNothingYet(t *testing.T) {
	var lists map[string]any
	if err := json.Unmarshal(ask(newTestPage(Snapshot{}), "/status").Body.Bytes(), &lists); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lanes", "upstream", "rejected", "events"} {
		if list, ok := lists[name].([]any); !ok || len(list) != 0 {
			t.Errorf("%s is %v, want an empty list", name, lists[name])
		}
	}
}

const hostile = `</script><img src=x onerror=alert(1)>"'` + "`&{{.}}"

// Whatever comes from outside is text on the page, wherever it is.
func TestPageEscapes(t *testing.T) {
	s := Snapshot{Problem: hostile,
		Lanes:   []Lane{{State: hostile, Addr: hostile}},
		Writers: []Writer{{Remote: hostile}}, Connected: 1,
		Servers: []Server{{Addr: hostile, Result: hostile, Reason: hostile}},
	}
	p := newTestPage(s)
	p.o.Rejections = NewRejections(true)
	p.o.Version = hostile
	p.o.Rejections.Add(Rejection{Reason: hostile, Detail: hostile, Table: hostile, Writer: hostile}, []byte(hostile+"\xff"))
	slog.New(p.o.Events.Tee(slog.DiscardHandler)).Warn(hostile, hostile, hostile)
	body := ask(p, "/").Body.String()
	for _, bad := range []string{"<img", "</script><img", `alert(1)>"`} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if n := strings.Count(body, "&lt;img src=x"); n < 13 {
		t.Errorf("the hostile text is shown %d times, want it everywhere", n)
	}
	if n := strings.Count(body, "<script"); n != 1 {
		t.Errorf("%d scripts, want the page's own", n)
	}
	var r Report
	w := ask(p, "/status")
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Rejected[0].Table != hostile || r.Rejected[0].Record != hostile+"\uFFFD" || r.Events[0].Message != hostile {
		t.Errorf("JSON changed the text: %+v %+v", r.Rejected, r.Events)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
}

// The policy names the hashes of just the style and script that are in the page.
func TestPolicyMatchesThePage(t *testing.T) {
	w := ask(newTestPage(Snapshot{}), "/")
	csp, body := w.Header().Get("Content-Security-Policy"), w.Body.String()
	for _, tag := range []string{"style", "script"} {
		m := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(body, -1)
		if len(m) != 1 {
			t.Fatalf("%d <%s>", len(m), tag)
		}
		if want := tag + "-src " + hash(m[0][1]); !strings.Contains(csp, want) {
			t.Errorf("%s has no %s", csp, want)
		}
	}
	if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %s", csp)
	}
	for _, outside := range []string{"http:", "https:", "//cdn", " style=", " onclick="} {
		if strings.Contains(body, outside) {
			t.Errorf("the page has %q", outside)
		}
	}
	if !strings.Contains(body, `<noscript><meta http-equiv="refresh"`) {
		t.Error("without JavaScript it would not renew itself")
	}
}

func TestVerdict(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	tests := []struct {
		name           string
		s              Snapshot
		settles        bool
		verdict, title string
	}{
		{"nothing to do", Snapshot{}, false, good, "Ready"},
		{"at work", Snapshot{Unsettled: 5, Oldest: time.Now()}, true, good, "Delivering"},
		{"not yet settled", Snapshot{Unsettled: 5, Oldest: time.Now()}, false, good, "Delivering"},
		{"not ready", Snapshot{Problem: "wrong credentials"}, false, bad, "Not delivering"},
		{"ending", Snapshot{Problem: "ending", Ending: true}, false, warn, "Ending"},
		{"QuestDB refuses everything", Snapshot{Unsettled: 5, Oldest: long, Lanes: []Lane{{State: "backoff"}}}, false, bad, "Not delivering"},
		{"late", Snapshot{Unsettled: 5, Oldest: long}, true, warn, "Delivering late"},
		{"memory full", Snapshot{Unsettled: 5, Oldest: time.Now(), HeldBack: 2}, true, warn, "Delivering, writers held back"},
		{"unsaved", Snapshot{Unsaved: 1}, true, bad, "Rejected records cannot be saved"},
		{"too many writers", Snapshot{Waiting: 1}, true, warn, "Delivering, some writers wait"},
		{"looking for a record", Snapshot{Unsettled: 1, Oldest: time.Now(), Lanes: []Lane{{State: "isolating"}}}, true, warn, "Delivering, with trouble"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newTestPage(tt.s)
			c := p.o.Count()
			if tt.settles {
				c.Settled = 0
			}
			p.rates.add(time.Now().Add(-time.Second), c)
			r := p.current()
			if r.Verdict != tt.verdict || r.Title != tt.title || r.Summary == "" {
				t.Errorf("%s %q %q, want %s %q", r.Verdict, r.Title, r.Summary, tt.verdict, tt.title)
			}
			if tt.s.Problem != "" && !tt.s.Ending && r.Summary != tt.s.Problem {
				t.Errorf("summary %q", r.Summary)
			}
		})
	}
}

func TestRates(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := newTestPage(Snapshot{})
		var n atomic.Int64
		p.o.Count = func() Counts { return Counts{Received: float64(n.Load()), Written: float64(n.Load()) / 2} }
		ctx, cancel := context.WithCancel(t.Context())
		go p.Run(ctx)
		for range 200 {
			synctest.Wait()
			n.Add(30)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		r := p.current()
		if got := r.PerSecond; got.ReceivedRecords != 30 || got.WrittenRecords != 15 || got.SettledRecords != 0 {
			t.Errorf("%+v", got)
		}
		if n := len(p.rates.samples); n != history {
			t.Errorf("%d samples remembered, want %d", n, history)
		}
		c := r.Chart()
		if c.Peak != 30 || strings.Count(c.Received, ",") != history-1 || !strings.HasPrefix(c.Received, "0.0,4.0 ") || !strings.HasSuffix(c.Written, "600.0,42.0") {
			t.Errorf("%+v", c)
		}
		// Who asks all the time gets the same answer for a while.
		if p.current() != r {
			t.Error("asked again, it looked again")
		}
		time.Sleep(MaxAge)
		if p.current() == r {
			t.Error("the answer is old")
		}
		cancel()
		synctest.Wait()
	})
}

func TestEventsAreFewAndShort(t *testing.T) {
	e := NewEvents("record")
	var out strings.Builder
	log := slog.New(e.Tee(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))
	log.Debug("not worth it")
	many := make([]any, 0, 100)
	for i := range 50 {
		many = append(many, fmt.Sprint("k", i), strings.Repeat("é", 1000))
	}
	for i := range 10 * keptEvents {
		log.Info(fmt.Sprint("event ", i), many...)
	}
	log.With("a", 1).WithGroup("g").With("b", 2).Warn("last", slog.Group("h", "c", errors.New("3")), "record", "secretive")
	events := e.Last()
	if len(events) != keptEvents || events[0].Message != "last" || events[1].Message != fmt.Sprint("event ", 10*keptEvents-1) {
		t.Fatalf("%d events: %+v, ...", len(events), events[0])
	}
	if got := fmt.Sprint(events[0].Level, events[0].Attrs); got != "warn[{a 1} {g.b 2} {g.h.c 3}]" {
		t.Errorf("attributes %s", got)
	}
	if a := events[1].Attrs; len(a) != maxAttrs || len(a[0].Value) > maxText+len("…") || !utf8.ValidString(a[0].Value) {
		t.Errorf("%d attributes, %q", len(a), a[0].Value)
	}
	if out.Len() > 0 {
		t.Errorf("the log got what its level leaves out: %s", out.String())
	}
	log.Error("for both")
	if !strings.Contains(out.String(), "for both") || e.Last()[0].Level != "error" {
		t.Errorf("log %q, event %+v", out.String(), e.Last()[0])
	}
}

func TestRejections(t *testing.T) {
	r := NewRejections(false)
	for i := range 100 {
		r.Add(Rejection{Table: strings.Repeat("t", 1<<16), Writer: fmt.Sprint(i), Record: "secretive"}, []byte("secretive"))
	}
	all := r.Last()
	if len(all) != keptRejections || all[0].Writer != "99" || all[19].Writer != "80" {
		t.Fatalf("%d, %+v", len(all), all[0])
	}
	if all[0].Record != "" || len(all[0].Table) > maxText+len("…") {
		t.Errorf("%+v", all[0])
	}
	r = NewRejections(true)
	r.Add(Rejection{}, []byte("t v=1 1\n"))
	r.Add(Rejection{}, make([]byte, 1<<20))
	if all := r.Last(); all[1].Record != "t v=1 1\n" || len(all[0].Record) > maxText+len("…") {
		t.Errorf("%q", all)
	}
}

func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"0": count(0), "2.5": count(2.5), "3": count(3), "999": count(999), "1.00k": count(1000), "12.3k": count(12345), "123k": count(123456), "1.00M": count(999_900), "–": count(-1),
		"0 B": size(0), "1023 B": size(1023), "1.00 KiB": size(1024), "48.0 MiB": size(48 << 20),
		"0 s": duration(0), "2.0 ms": duration(.002), "120 ms": duration(.12), "3.4 s": duration(3.4), "59 s": duration(59.9), "5 m 20 s": duration(320), "2 h 10 m": duration(7800), "3 d 4 h": duration(76 * 3600),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Every state that a lane can be in has words for what it waits for: those in the metrics' documentation.
func TestEveryLaneStateHasWords(t *testing.T) {
	source, err := os.ReadFile("../delivery/lane.go")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`\[\.\.\.\]string\{(.*)\}\[s\]`).FindSubmatch(source)
	if m == nil {
		t.Fatal("no names of states in lane.go")
	}
	for name := range strings.SplitSeq(string(m[1]), ", ") {
		if waits[strings.Trim(name, `"`)] == "" {
			t.Errorf("nothing is said about %s", name)
		}
	}
}
