package admin

import (
	"net/http"
	"strings"
	"testing"

	"questdb-ilp-proxy/auth"
)

func TestDrain(t *testing.T) {
	const token = "0123456789abcdef"
	for title, c := range map[string]struct {
		method, token, host string
		open                bool // not loopback
		header, value       string
		status              int
	}{
		"loopback":                    {"POST", "", "localhost", false, "", "", 202},
		"GET":                         {"GET", "", "localhost", false, "", "", 405},
		"another name":                {"POST", "", "evil.example", false, "", "", 421},
		"a page of others":            {"POST", "", "localhost", false, "Sec-Fetch-Site", "cross-site", 403},
		"a page of others, older":     {"POST", "", "localhost", false, "Origin", "http://evil.example", 403},
		"no token anywhere":           {"POST", "", "proxy", true, "", "", 403},
		"a token where there is none": {"POST", "", "proxy", true, "Authorization", "Bearer ", 403},
		"token":                       {"POST", token, "proxy", true, "Authorization", "Bearer " + token, 202},
		"token on loopback":           {"POST", token, "localhost", false, "Authorization", "bearer " + token, 202},
		"without the token":           {"POST", token, "localhost", false, "", "", 401},
		"another token":               {"POST", token, "proxy", true, "Authorization", "Bearer x" + token, 401},
		"another scheme":              {"POST", token, "proxy", true, "Authorization", "Basic " + token, 401},
		"token, GET":                  {"GET", token, "proxy", true, "Authorization", "Bearer " + token, 405},
	} {
		t.Run(title, func(t *testing.T) {
			asked := 0
			opts := testOptions()
			opts.Drain, opts.Token = func() { asked++ }, auth.NewSecret(c.token)
			w := get(newHandler(opts, !c.open), "/drain", func(r *http.Request) {
				r.Method, r.Host = c.method, c.host
				if c.header != "" {
					r.Header.Set(c.header, c.value)
				}
			})
			if w.Code != c.status || (asked == 1) != (c.status == 202) || asked > 1 {
				t.Errorf("status %d, want %d; asked to end %d times", w.Code, c.status, asked)
			}
			if strings.Contains(w.Body.String(), token) {
				t.Errorf("the token is in %q", w.Body)
			}
		})
	}
}
