package admin

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
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
