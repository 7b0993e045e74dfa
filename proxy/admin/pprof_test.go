package admin

import (
	"net/http"
	"testing"

	"questdb-ilp-proxy/auth"
)

func TestPprofOnlyOnRequest(t *testing.T) {
	const token = "0123456789abcdef"
	for title, c := range map[string]struct {
		on, open      bool // open: not loopback
		token, bearer string
		host          string
		status        int
	}{
		"not asked for":   {false, false, "", "", "localhost", 404},
		"loopback":        {true, false, "", "", "localhost", 200},
		"another name":    {true, false, "", "", "evil.example", 421},
		"off loopback":    {true, true, "", "", "proxy", 403},
		"token":           {true, true, token, token, "proxy", 200},
		"token forgotten": {true, true, token, "", "proxy", 401},
	} {
		t.Run(title, func(t *testing.T) {
			opts := testOptions()
			opts.Pprof, opts.Token = c.on, auth.NewSecret(c.token)
			h := newHandler(opts, !c.open)
			for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/trace?seconds=0.01"} {
				w := get(h, path, func(r *http.Request) {
					r.Host = c.host
					if c.bearer != "" {
						r.Header.Set("Authorization", "Bearer "+c.bearer)
					}
				})
				if w.Code != c.status {
					t.Errorf("%s: status %d, want %d", path, w.Code, c.status)
				}
			}
		})
	}
}
