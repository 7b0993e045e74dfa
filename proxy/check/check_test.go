package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/config"
)

func TestReport(t *testing.T) {
	finding := func(kind Kind) Finding { return Finding{Kind: kind, About: "x", Text: "y"} }
	for _, c := range []struct {
		findings []Finding
		code     int
	}{
		{nil, 0},
		{[]Finding{finding(OK), finding(Note)}, 0},
		{[]Finding{finding(OK), finding(Refused), finding(Connect)}, 9},
		{[]Finding{finding(Promise)}, 11},
		{[]Finding{finding(Promise), finding(HTTP)}, 10},
	} {
		if got := NewReport(c.findings...).ExitCode; got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.findings, got, c.code)
		}
	}
	seen := map[string]bool{}
	for i, f := range Failures() {
		if f.Code != i+1 || seen[string(f.Kind)] || seen[f.Meaning] {
			t.Errorf("%+v is not a failure of its own", f)
		}
		seen[string(f.Kind)], seen[f.Meaning] = true, true
	}
}

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"http://h:9000": "http://h:9000", "https://u:hidden@h/": "https://h", "http://h/questdb/exec": "http://h/questdb", "http://hidden@h:1/exec/": "http://h:1",
	} {
		e, err := ParseEndpoint(text)
		if err != nil || e.String() != want || strings.Contains(fmt.Sprintf("%v %+v", e, *e), "u:hidden") {
			t.Errorf("%s: %v, %v", text, e, err)
		}
	}
	for _, text := range []string{"", "h:9000", "ftp://u:hidden@h", "http://", "http://u:hidden@h:port", "http://h?token=hidden", "http://h#hidden", "http://u:hidden@h/%zz"} {
		if _, err := ParseEndpoint(text); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// questdb answers like QuestDB's HTTP server: tables as name, walEnabled, o3MaxLag.
func questdb(t *testing.T, tables [][]any, suspended []string, settings map[string]string) *httptest.Server {
	t.Helper()
	reply := func(columns string, rows any) string {
		data, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		var named []string
		for column := range strings.FieldsSeq(columns) {
			named = append(named, fmt.Sprintf(`{"name":%q,"type":"STRING"}`, column))
		}
		return fmt.Sprintf(`{"query":"q","columns":[%s],"dataset":%s,"count":1}`, strings.Join(named, ","), data)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch query := r.FormValue("query"); {
		case query == "tables()":
			fmt.Fprint(w, reply("table_name walEnabled o3MaxLag", tables))
		case query == "wal_tables()":
			var rows [][]any
			for _, name := range suspended {
				rows = append(rows, []any{true, name})
			}
			fmt.Fprint(w, reply("suspended name", rows))
		case settings == nil:
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"query":"q","error":"access denied","position":0}`)
		default:
			var rows [][]any
			for name, value := range settings {
				rows = append(rows, []any{name, value})
			}
			fmt.Fprint(w, reply("property_path value", rows))
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func ask(t *testing.T, url string, c *config.Config) (report Report, said string) {
	t.Helper()
	e, err := ParseEndpoint(url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, context.DeadlineExceeded)
	defer cancel()
	report = NewReport(e.ask(ctx, c)...)
	var b strings.Builder
	if err := report.Write(&b); err != nil {
		t.Fatal(err)
	}
	return report, b.String()
}

func TestTables(t *testing.T) {
	many := make([][]any, 25)
	for i := range many {
		many[i] = []any{fmt.Sprintf("t%02d", i), false, 600e6}
	}
	quick, slow := &config.Config{PoolMax: 16, Settle: 500 * time.Millisecond}, &config.Config{PoolMax: 16, Settle: 3 * time.Second}
	for name, c := range map[string]struct {
		config    *config.Config
		tables    [][]any
		suspended []string
		settings  map[string]string
		code      int
		want      []string
	}{
		"none":              {quick, nil, nil, map[string]string{}, 0, []string{"no table bypasses WAL, of 0"}},
		"settings unknown":  {quick, nil, nil, nil, 0, []string{"does not tell its settings"}},
		"QuestDB's own":     {quick, [][]any{{"telemetry", false, 1.0}, {"sys.text_import_log", false, 1.0}, {"w", true, 1.0}}, nil, nil, 0, []string{"of 1"}},
		"lag and settle":    {quick, [][]any{{"a", false, 1.0}, {"b", false, 0.0}}, nil, nil, 11, []string{`2 tables bypass WAL ("a", "b"), of 2`, `1 of them without o3MaxLag=0 ("a")`, "ILP_SETTLE=3s"}},
		"lag alone":         {slow, [][]any{{"a", false, 1.0}}, nil, nil, 11, []string{`ALTER TABLE "a" SET PARAM o3MaxLag = 0s`}},
		"lag unknown":       {slow, [][]any{{"a", false, nil}}, nil, nil, 11, []string{"without o3MaxLag=0"}},
		"as they should be": {slow, [][]any{{"a", false, 0.0}}, nil, nil, 0, []string{"what the promise needs"}},
		"many":              {quick, many, nil, nil, 11, []string{`"t19" and 5 more)`}},
		"suspended":         {quick, nil, []string{"b", "a"}, nil, 11, []string{`2 suspended tables ("a", "b")`, `ALTER TABLE "a" RESUME WAL`}},
		"control character": {quick, [][]any{{"a\x1b[2J", false, 1.0}}, nil, nil, 11, []string{`"a\x1b[2J"`}},
		"new tables":        {quick, nil, nil, map[string]string{"cairo.wal.enabled.default": "false", "cairo.o3.max.lag": "600000"}, 11, []string{"cairo.wal.enabled.default=false: tables that QuestDB makes"}},
		"new ones, ready":   {slow, nil, nil, map[string]string{"line.default.partition.by": "none", "cairo.o3.max.lag": "0"}, 0, []string{"line.default.partition.by=NONE"}},
		"read-only":         {quick, nil, nil, map[string]string{"readonly": "true"}, 11, []string{"readonly=true"}},
		"few connections":   {quick, nil, nil, map[string]string{"line.tcp.net.connection.limit": "15"}, 11, []string{"ILP_POOL_MAX is 16, and QuestDB allows 15"}},
		"as many":           {quick, nil, nil, map[string]string{"line.tcp.net.connection.limit": "16"}, 0, nil},
		"power cut":         {quick, nil, nil, map[string]string{"cairo.commit.mode": "nosync"}, 0, []string{"power cut"}},
	} {
		t.Run(name, func(t *testing.T) {
			report, said := ask(t, questdb(t, c.tables, c.suspended, c.settings).URL, c.config)
			if report.ExitCode != c.code {
				t.Errorf("exit code %d, want %d", report.ExitCode, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not said", want)
				}
			}
			if t.Failed() || strings.ContainsRune(said, '\x1b') {
				t.Errorf("said: %q", said)
			}
		})
	}
}

func TestHTTPTrouble(t *testing.T) {
	elsewhere := questdb(t, nil, nil, nil)
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"user":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "demands a user and password"},
		"rubbish":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "not JSON"},
		"other":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"columns":[{"name":"a"}]}`) }, "no column table_name"},
		"error":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"error":"no"}`) }, `refuses to say: "no"`},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "HTTP 302"},
		"cut off":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			url := strings.Replace(server.URL, "://", "://me:hidden@", 1)
			report, said := ask(t, url, &config.Config{})
			if report.ExitCode != 10 || !strings.Contains(said, c.want) || strings.Contains(said, "hidden") {
				t.Errorf("exit code %d, said: %s", report.ExitCode, said)
			}
		})
	}
}

// TestHTTPS says of a certificate that is not trusted what can be done about that; one of
// the authority that is trusted for ILP is.
func TestHTTPS(t *testing.T) {
	server := httptest.NewUnstartedServer(questdb(t, nil, nil, nil).Config.Handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the client that goes away
	server.StartTLS()
	defer server.Close()
	if report, said := ask(t, server.URL, &config.Config{}); report.ExitCode != 10 || !strings.Contains(said, "is not trusted") || !strings.Contains(said, "SSL_CERT_FILE") {
		t.Errorf("exit code %d, said: %s", report.ExitCode, said)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if report, said := ask(t, server.URL, &config.Config{TLS: &tls.Config{RootCAs: roots}}); report.ExitCode != 0 {
		t.Errorf("exit code %d, said: %s", report.ExitCode, said)
	}
}

// TestHTTPUser sees that user and password are sent.
func TestHTTPUser(t *testing.T) {
	back := questdb(t, nil, nil, nil)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "hid:den" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		back.Config.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	if report, said := ask(t, strings.Replace(front.URL, "://", "://me:hid%3Aden@", 1), &config.Config{}); report.ExitCode != 0 {
		t.Errorf("said: %s", said)
	}
}
