package admin

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// get is one request to h as it would arrive for localhost, unless change makes it another.
func get(h http.Handler, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "localhost:9090"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func testOptions() Options {
	reg := NewRegistry()
	RegisterBuildInfo(reg, "v1.2.3", "abcdef")
	return Options{Gatherer: reg, Logger: slog.New(slog.DiscardHandler)}
}

func TestRoutes(t *testing.T) {
	notReady := testOptions()
	notReady.Ready = func() error { return errors.New("no upstream connection: 10.0.0.1:9009 refuses the key") }

	tests := []struct {
		name, method, path string
		opts               Options
		status             int
		body               string // what the body contains
	}{
		{"livez", "GET", "/livez", testOptions(), 200, "ok"},
		{"livez does not depend on readiness", "GET", "/livez", notReady, 200, "ok"},
		{"readyz", "GET", "/readyz", testOptions(), 200, "ready"},
		{"readyz with a reason", "GET", "/readyz", notReady, 503, "no upstream connection: 10.0.0.1:9009 refuses the key"},
		{"metrics: build info", "GET", "/metrics", testOptions(), 200, `questdb_ilp_proxy_build_info{commit="abcdef",goversion="go`},
		{"metrics: Go runtime", "GET", "/metrics", testOptions(), 200, "go_goroutines"},
		{"metrics: process", "GET", "/metrics", testOptions(), 200, "process_open_fds"},
		{"index", "GET", "/", testOptions(), 200, "/readyz"},
		{"unknown", "GET", "/livez/x", testOptions(), 404, ""},
		{"HEAD", "HEAD", "/readyz", notReady, 503, ""},
		{"POST livez", "POST", "/livez", testOptions(), 405, ""},
		{"POST index", "POST", "/", testOptions(), 405, ""},
		{"PUT metrics", "PUT", "/metrics", testOptions(), 405, ""},
		{"DELETE readyz", "DELETE", "/readyz", testOptions(), 405, ""},
		{"OPTIONS", "OPTIONS", "/readyz", testOptions(), 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := get(newHandler(tt.opts, true), tt.path, func(r *http.Request) { r.Method = tt.method })
			if w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			if !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("body %q does not contain %q", w.Body, tt.body)
			}
			if allow := w.Header().Get("Allow"); tt.status == 405 && allow != "GET, HEAD" {
				t.Errorf("Allow is %q, want GET, HEAD", allow)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if ct := w.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain;") {
				t.Errorf("Content-Type is %q, want text/plain", ct)
			}
		})
	}
}

func TestReadinessFlips(t *testing.T) {
	var reason error
	opts := testOptions()
	opts.Ready = func() error { return reason }
	RegisterReady(opts.Gatherer.(*prometheus.Registry), opts.Ready)
	h := newHandler(opts, true)
	for _, reason = range []error{errors.New("starting"), nil, errors.New("shutting down"), nil} {
		want, text, metric := 200, "ready\n", "questdb_ilp_proxy_ready 1\n"
		if reason != nil {
			want, text, metric = 503, reason.Error()+"\n", "questdb_ilp_proxy_ready 0\n"
		}
		if w := get(h, "/metrics", nil); !strings.Contains(w.Body.String(), metric) {
			t.Errorf("with %v: /metrics lacks %q", reason, metric)
		}
		if w := get(h, "/readyz", nil); w.Code != want || w.Body.String() != text {
			t.Errorf("with %v: %d %q, want %d %q", reason, w.Code, w.Body, want, text)
		}
	}
}

func TestHost(t *testing.T) {
	tests := []struct {
		host     string
		ok, open bool // on loopback; elsewhere
	}{
		{"localhost", true, true},
		{"localhost:9090", true, true},
		{"LocalHost:1", true, true},
		{"127.0.0.1", true, true},
		{"127.0.0.1:9090", true, true},
		{"127.1.2.3:9090", true, true},
		{"[::1]", true, true},
		{"[::1]:9090", true, true},
		{"[::ffff:127.0.0.1]:9090", true, true},
		{"", true, true}, // HTTP/1.0 without a Host: no browser
		{"192.168.1.1", false, true},
		{"192.168.1.1:9090", false, true}, // Prometheus by a pod's address
		{"[fd00::7]:9090", false, true},
		{"0.0.0.0:9090", false, true},
		{"[::]:9090", false, true},
		{"proxy:9090", false, true}, // nobody owns a name without a dot
		{"Ilp_proxy-2", false, true},
		{"2130706433", false, true}, // 127.0.0.1 as browsers may write it; they send it normalized
		{":9090", false, false},
		{"evil.example", false, false},
		{"evil.example:9090", false, false},
		{"evil.", false, false},
		{"localhost.evil.example", false, false},
		{"127.0.0.1.evil.example:9090", false, false},
		{"evil.example:localhost", false, false},
		{"proxy.monitoring.svc:9090", false, false},
		{"evil\u3002example", false, false},
		{"ev%69l", false, false},
		{"proxy:evil.example", false, false},
		{"[::1", false, false},
		{"[evil.example]", false, false},
	}
	loopback, open := newHandler(testOptions(), true), newHandler(testOptions(), false)
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			for _, path := range []string{"/", "/livez", "/readyz", "/metrics", "/none"} {
				setHost := func(r *http.Request) { r.Host = tt.host }
				for where, c := range map[string]struct {
					h  http.Handler
					ok bool
				}{"on loopback": {loopback, tt.ok}, "off loopback": {open, tt.open}} {
					w := get(c.h, path, setHost)
					if refused := w.Code == http.StatusMisdirectedRequest; refused == c.ok {
						t.Errorf("%s %s: status %d, answered should be %v", path, where, w.Code, c.ok)
					}
					if !c.ok && (!strings.Contains(w.Body.String(), "localhost") || !strings.Contains(w.Body.String(), "ILP_ADMIN_HOSTS")) {
						t.Errorf("%s %s: the refusal %q does not say what would be answered", path, where, w.Body)
					}
				}
			}
		})
	}
}

// The names of the address itself, and of the machine, are its own, with a dot or without.
func TestOwnNames(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	opts := testOptions()
	opts.Addr, opts.Hosts = "Metrics.Corp.example:9090", []string{"other"}
	for host, want := range map[string]int{
		"metrics.corp.example:1234": 200, machine: 200, machine + ":9090": 200, "other": 200, "plain": 421, "x.corp.example": 421,
	} {
		if w := get(newHandler(opts, false), "/metrics", func(r *http.Request) { r.Host = host }); w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestHostsThatAreNamed(t *testing.T) {
	opts := testOptions()
	opts.Hosts = []string{"proxy.monitoring.svc", "proxy"}
	for host, want := range map[string]struct{ loopback, open int }{
		"proxy":                     {200, 200},
		"Proxy.Monitoring.svc:9090": {200, 200},
		"localhost:9090":            {200, 200},
		"[::1]":                     {200, 200},
		"":                          {200, 200},
		"10.0.0.7:9090":             {421, 200}, // a probe of Kubernetes
		"[fd00::7]:9090":            {421, 200},
		"evil.example:9090":         {421, 421},
		"proxy.evil.example":        {421, 421},
		"10.0.0.7.evil.example":     {421, 421},
		"[proxy":                    {421, 421},
		":9090":                     {421, 421},
	} {
		setHost := func(r *http.Request) { r.Host = host }
		if w := get(newHandler(opts, true), "/metrics", setHost); w.Code != want.loopback {
			t.Errorf("%q on loopback: status %d, want %d", host, w.Code, want.loopback)
		}
		if w := get(newHandler(opts, false), "/metrics", setHost); w.Code != want.open {
			t.Errorf("%q off loopback: status %d, want %d", host, w.Code, want.open)
		}
	}
}

func TestPanicIsA500(t *testing.T) {
	var log bytes.Buffer
	opts := testOptions()
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	opts.Ready = func() error { panic("broken here") }
	h := newHandler(opts, true)
	w := get(h, "/readyz", nil)
	if w.Code != 500 || strings.Contains(w.Body.String(), "broken here") {
		t.Errorf("%d %q, want 500 without the panic's text", w.Code, w.Body)
	}
	for _, want := range []string{"level=ERROR", "broken here", `pattern="GET /readyz"`, "handler_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log does not contain %q: %s", want, log.String())
		}
	}
	if w := get(h, "/livez", nil); w.Code != 200 {
		t.Errorf("after the panic /livez is %d, want 200", w.Code)
	}
}

func TestPanicAfterTheAnswerBeganBreaksItOff(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		logged  bool
	}{
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("oops") }, true},
		{"asked for", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			h := recoverPanics(slog.New(slog.NewTextHandler(&log, nil)), tt.handler)
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("panicked with %v, want http.ErrAbortHandler", v)
				}
				if logged := log.Len() > 0; logged != tt.logged {
					t.Errorf("log is %q", log.String())
				}
			}()
			get(h, "/", nil)
		})
	}
}

// A collector in trouble costs its own metrics only, and is reported.
func TestBrokenCollector(t *testing.T) {
	var log bytes.Buffer
	reg := NewRegistry()
	RegisterBuildInfo(reg, "v1", "c")
	reg.MustRegister(brokenCollector{})
	h := newHandler(Options{Gatherer: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))}, true)
	w := get(h, "/metrics", nil)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "questdb_ilp_proxy_build_info{") {
		t.Errorf("%d, without the metrics that are well", w.Code)
	}
	if !strings.Contains(log.String(), "can't collect") {
		t.Errorf("log does not tell why: %q", log.String())
	}
}

// A client that goes away while it gets the metrics is no trouble of the proxy's: it could fill the log with it.
func TestClientThatGoesAwayIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	h := newHandler(Options{Gatherer: NewRegistry(), Logger: slog.New(slog.NewTextHandler(&log, nil))}, true)
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Host = "localhost"
	w := &goneWriter{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(w, r)
	if w.writes == 0 {
		t.Fatal("nothing was written")
	}
	if log.Len() > 0 {
		t.Errorf("logged %q", log.String())
	}
}

// goneWriter fails as a connection does that was reset.
type goneWriter struct {
	*httptest.ResponseRecorder
	writes int
}

func (w *goneWriter) Write([]byte) (int, error) {
	w.writes++
	return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
}

type brokenCollector struct{}

func (brokenCollector) Describe(chan<- *prometheus.Desc) {}
func (brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "Broken.", nil, nil), errors.New("can't collect"))
}

// The status page is at / and /status, behind the same checks as everything else, and may have a policy of its own.
func TestStatusPage(t *testing.T) {
	opts := testOptions()
	opts.Status = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Content-Security-Policy", "own")
		}
		writeText(w, http.StatusOK, "page at "+r.URL.Path)
	})
	h := newHandler(opts, true)
	for _, path := range []string{"/", "/status"} {
		w := get(h, path, nil)
		if w.Code != 200 || w.Body.String() != "page at "+path {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); (csp == "own") != (path == "/") || csp == "" {
			t.Errorf("%s: policy %q", path, csp)
		}
		if w := get(h, path, func(r *http.Request) { r.Host = "evil.example" }); w.Code != http.StatusMisdirectedRequest {
			t.Errorf("%s for another name: %d", path, w.Code)
		}
		if w := get(h, path, func(r *http.Request) { r.Method = http.MethodPost }); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	if w := get(h, "/other", nil); w.Code != http.StatusNotFound {
		t.Errorf("/other: %d", w.Code)
	}
}
