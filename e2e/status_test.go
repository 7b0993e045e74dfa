package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/browser"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/status"
)

var pictures = flag.String("pictures", "", "folder for pictures of the status page")

// hostileTable, whose name QuestDB accepts, would run a script if the page let it.
const hostileTable = `<svg\ onload\=document.title\=1>`

// TestStatusPage looks at the status page in a real browser: under load, light, dark, on a phone, without JavaScript; with a
// writer whose table names are HTML; when QuestDB goes away.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()).With("ILP_REJECTED_FILE", filepath.Join(t.TempDir(), "rejected.jsonl")))
	p.WaitReady(arrive)
	url := "http://" + p.Admin() + "/"

	stop := writeAway(t, p.Addr(), 6)
	p.WaitMetric(arrive, proxytest.AtLeast(1000), "records_settled_total")
	p.Send(hostileTable + " private=1i 1\n")
	db.WaitCount("<svg onload=document.title=1>", 1, arrive)
	p.Send(hostileTable + " private=\"secretive\" 2\nbad/name v=1\n")
	waitStatus(t, p, "two rejected records", func(r *status.Report) bool { return len(r.Rejected) > 1 })
	page := browser.Open(t)
	for name, v := range map[string]browser.View{
		"light": {Width: 1200, Height: 900},
		"dark":  {Width: 1200, Height: 900, Dark: true},
		"phone": {Width: 390, Height: 844, Phone: true},
	} {
		t.Run(name, func(t *testing.T) {
			page.Show(url, v)
			page.WaitTrue("Number(document.documentElement.dataset.live) >= 1", arrive) // it renews itself
			text := page.Text()
			for _, want := range []string{"Delivering", "rejected", db.ILP(), "accepted", "malformed", "refused", "table <svg onload=document.title=1>", "connected to QuestDB"} {
				if !strings.Contains(text, want) {
					t.Errorf("the page does not show %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "secretive") {
				t.Errorf("the page shows what a record contains:\n%s", text)
			}
			var wide bool
			if page.Eval("document.documentElement.scrollWidth > innerWidth", &wide); wide {
				t.Error("the page is wider than the window")
			}
			var cut int // tables with something to scroll to
			if page.Eval(`[...document.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth).length`, &cut); cut > 0 {
				t.Errorf("%d tables are wider than the page", cut)
			}
			var background string
			page.Eval("getComputedStyle(document.body).backgroundColor", &background)
			if dark := background == "rgb(17, 20, 24)"; dark != v.Dark {
				t.Errorf("the background is %s", background)
			}
			looked(t, page, name)
			if problems := page.Problems(); problems != "" {
				t.Errorf("the browser complained: %s", problems)
			}
		})
	}
	t.Run("without JavaScript", func(t *testing.T) {
		page.Show(url, browser.View{Width: 1200, Height: 900, NoScript: true})
		page.WaitLoad() // it loads itself again
		if text := page.Text(); !strings.Contains(text, "Delivering") {
			t.Errorf("the page has\n%s", text)
		}
	})

	page.Show(url, browser.View{Width: 1200, Height: 900})
	db.Kill()
	page.WaitTrue(`document.querySelector("h1").innerText == "Not delivering"`, arrive)
	page.WaitTrue(`document.body.innerText.includes("dial failed")`, arrive)
	looked(t, page, "outage")
	_, raw, _ := p.Get("/status")
	if p.HasSecret(raw) || strings.Contains(raw, "secretive") {
		t.Errorf("/status tells what it must not:\n%s", raw)
	}
	stop()
	p.Kill()
	page.WaitTrue(`!document.getElementById("lost").hidden`, arrive)
}

// writeAway has writers write until stop, or the end of the test.
func writeAway(t *testing.T, addr string, writers int) (stop func()) {
	t.Helper()
	var conns []net.Conn
	for w := range writers {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		go func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				var b strings.Builder
				for i := range 20 * (w + 1) {
					fmt.Fprintf(&b, "load,writer=w%d n=%di %d\n", w, i, 1+n*1000+i)
				}
				if _, err := conn.Write([]byte(b.String())); err != nil {
					return // closed
				}
				<-tick.C // a rate, not a wait
			}
		}()
	}
	stop = func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	t.Cleanup(stop)
	return stop
}

// waitStatus waits until /status is enough.
func waitStatus(t *testing.T, p *proxytest.Proxy, what string, enough func(*status.Report) bool) *status.Report {
	t.Helper()
	timeout := time.After(arrive)
	for {
		code, raw, err := p.Get("/status")
		var r status.Report
		if err == nil && code == http.StatusOK {
			if err := json.Unmarshal([]byte(raw), &r); err != nil {
				t.Fatalf("/status is no JSON: %v\n%s", err, raw)
			}
			if enough(&r) {
				return &r
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-timeout:
			t.Fatalf("/status never had %s: %d, %v\n%s", what, code, err, raw)
		}
	}
}

// looked keeps a picture of the page for whoever asked for it.
func looked(t *testing.T, page *browser.Page, name string) {
	t.Helper()
	if *pictures == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*pictures, name+".png"), page.Picture(), 0o644); err != nil {
		t.Fatal(err)
	}
}
