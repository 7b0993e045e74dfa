package admin

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"questdb-ilp-proxy/auth"
)

// Whatever arrives, the answer is one of those that are meant, and only the names of this machine get content.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /readyz HTTP/1.1\r\nHost: [::1]:9090\r\n\r\n",
		"HEAD / HTTP/1.0\r\n\r\n",
		"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET //evil.example/..%2f HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
		"POST /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nAccept: application/openmetrics-text\r\n\r\n",
		"POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
		"trades,s=A p=1 1\n",
	} {
		f.Add([]byte(seed))
	}
	opts := testOptions()
	opts.Gatherer = nil
	opts.Drain = func() {}
	h := newHandler(newServer(opts, defaultLimits).opts, true)

	f.Fuzz(func(t *testing.T, raw []byte) {
		client, server := net.Pipe()
		go func() {
			_, _ = client.Write(raw)
			_ = client.Close()
		}()
		defer server.Close() // also ends the writer, if the request needed less than raw
		req, err := http.ReadRequest(bufio.NewReader(server))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)

		switch w.Code {
		case 200, 202, 301, 307, 308, 400, 403, 404, 405, 421:
		default: // 500 above all: a panic
			t.Errorf("status %d for %q", w.Code, raw)
		}
		if w.Code != http.StatusMisdirectedRequest && req.Host != "" && !isLoopbackName(req.Host) {
			t.Errorf("status %d for Host %q", w.Code, req.Host)
		}
		if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("X-Content-Type-Options is %q for %q", got, raw)
		}
		// The answer can be sent, and read again: no header was made of the request's bytes that breaks it.
		var wire bytes.Buffer
		if err := w.Result().Write(&wire); err != nil {
			t.Fatalf("answer to %q can't be written: %v", raw, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(&wire), req)
		if err != nil {
			t.Fatalf("answer to %q can't be read: %v", raw, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	})
}

// FuzzHost asks for names, on loopback and elsewhere. A browser sends as Host what is in the page's address: a name with a dot
// that nobody listed gets no answer.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"localhost:9090", "evil.example", "127.0.0.1.evil.example:80", "[::1]:9090", "[evil.example]", "10.0.0.1", "proxy", "a:b:c",
		"evil.example.", "[::1%25evil.example]", "0x7f.1", "listed.example:1", "\u3002", "LISTED.example", "a:X.0"} {
		f.Add(seed)
	}
	type server struct {
		h                http.Handler
		loopback, listed bool
	}
	var servers []server
	for _, loopback := range []bool{true, false} {
		for _, listed := range []bool{true, false} {
			opts := testOptions()
			opts.Addr = "own.example:9090"
			if listed {
				opts.Hosts = []string{"listed.example"}
			}
			servers = append(servers, server{newHandler(opts, loopback), loopback, listed})
		}
	}
	machine, _ := os.Hostname()
	f.Fuzz(func(t *testing.T, host string) {
		if host == "" {
			return // no browser
		}
		u, err := url.Parse("http://" + host)
		if err != nil || u.Host != host {
			return // no page has such an address
		}
		name := u.Hostname()
		ip := net.ParseIP(strings.Split(name, "%")[0])
		for _, s := range servers {
			w := get(s.h, "/livez", func(r *http.Request) { r.Host = host })
			if w.Code != http.StatusOK && w.Code != http.StatusMisdirectedRequest {
				t.Fatalf("%q: %d", host, w.Code)
			}
			may := strings.EqualFold(name, "localhost") || strings.EqualFold(name, "own.example")
			switch {
			case ip != nil:
				may = may || !s.loopback || ip.IsLoopback()
			case s.listed:
				may = may || strings.EqualFold(name, "listed.example") || !s.loopback && strings.EqualFold(name, machine)
			case !s.loopback:
				may = may || !strings.Contains(name, ".") || strings.EqualFold(name, machine)
			}
			if w.Code == http.StatusOK && !may {
				t.Errorf("%q is answered (%+v)", host, s)
			}
		}
	})
}

// FuzzAuthorization ends the proxy only for who has the token, and reads no profile without.
func FuzzAuthorization(f *testing.F) {
	const token = "0123456789abcdef"
	for _, seed := range []string{"Bearer " + token, "bearer " + token, "Bearer  " + token, "Bearer " + token + " ", "Bearer", token, "Basic " + token, "", "Bearer " + token[1:], "Bearer\t" + token} {
		f.Add(seed)
	}
	opts := testOptions()
	opts.Token, opts.Pprof = auth.NewSecret(token), true
	var drained int
	opts.Drain = func() { drained++ }
	loopback, open := newHandler(opts, true), newHandler(opts, false)
	f.Fuzz(func(t *testing.T, header string) {
		scheme, rest, _ := strings.Cut(header, " ")
		may := strings.EqualFold(scheme, "Bearer") && rest == token
		for _, h := range []http.Handler{loopback, open} {
			drained = 0
			w := get(h, "/drain", func(r *http.Request) {
				r.Method = http.MethodPost
				r.Header["Authorization"] = []string{header}
			})
			if want := map[bool]int{true: http.StatusAccepted, false: http.StatusUnauthorized}[may]; w.Code != want || (drained == 1) != may {
				t.Errorf("%q: %d, asked to end %d times", header, w.Code, drained)
			}
			w = get(h, "/debug/pprof/cmdline", func(r *http.Request) { r.Header["Authorization"] = []string{header} })
			if (w.Code == http.StatusOK) != may {
				t.Errorf("%q: profiles are %d", header, w.Code)
			}
		}
	})
}
