package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"sync"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// MaxAge is how old an answer is at most: one serves everybody for so long, and who asks all the time costs no more.
const MaxAge = 250 * time.Millisecond

// Options are what a Page needs; Look, Count, Events and Rejections must be set.
type Options struct {
	Version string
	// Look tells how the proxy is, Count what was counted. They must not block. Look is called at most four times a second.
	Look  func() Snapshot
	Count func() Counts
	// Usual is how long a record takes to be settled when all is well.
	Usual      time.Duration
	Events     *Events
	Rejections *Rejections
}

// Page answers GET / with a page and GET /status with the same as JSON.
type Page struct {
	o       Options
	started time.Time
	rates   rates
	tmpl    *template.Template
	csp     string

	mu     sync.Mutex
	latest *Report
}

// New returns a Page. Run must run for it to know rates.
func New(o Options) *Page {
	p := &Page{o: o, started: time.Now()}
	p.tmpl = template.Must(template.New("page").Funcs(functions).Parse(pageHTML))
	// Only what is in the binary runs, and looks like this; nothing is loaded but the page itself, again. The picture is the empty
	// icon in the page, so that browsers ask for none.
	p.csp = "default-src 'none'; style-src " + hash(pageCSS) + "; script-src " + hash(pageJS) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return p
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Run looks at the counters once a second, until ctx ends.
func (p *Page) Run(ctx context.Context) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		p.rates.add(time.Now(), p.o.Count())
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// current returns a report that is not older than MaxAge.
func (p *Page) current() *Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.latest == nil || now.Sub(p.latest.Time) >= MaxAge {
		p.latest = p.report(now)
	}
	return p.latest
}

// ServeHTTP implements [http.Handler].
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer // an answer is whole, or an error
	contentType, err := "text/html; charset=utf-8", error(nil)
	if r.URL.Path == "/status" {
		contentType = "application/json"
		e := json.NewEncoder(&body)
		e.SetIndent("", "  ")
		err = e.Encode(p.current())
	} else {
		w.Header().Set("Content-Security-Policy", p.csp)
		err = p.tmpl.Execute(&body, view{p.current(), template.CSS(pageCSS), template.JS(pageJS)})
	}
	if err != nil {
		panic(fmt.Errorf("status page: %w", err)) // a bug; the admin server logs it
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(body.Bytes()) // a client that is gone needs no answer
}

// view is what the template shows.
type view struct {
	*Report
	CSS template.CSS
	JS  template.JS
}
