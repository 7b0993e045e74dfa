package config

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"questdb-ilp-proxy/auth"
)

func TestEffective(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	jwk, d, token := file("jwk", docJWK), file("d", docD), file("token", "0123456789abcdef")
	const none, redacted = SourceNone, auth.Redacted
	for name, c := range map[string]struct {
		environ []string
		want    map[string][2]string // value and source
	}{
		"variables": {with("ILP_POOL_MAX=8", "ILP_ADMIN_TOKEN=0123456789abcdef"), map[string][2]string{
			"ILP_POOL_MAX": {"8", "environment"}, "ILP_POOL_MIN_IDLE": {"2", "default"}, "ILP_ALLOW": {"", none}, "ILP_AUTH_KEY": {redacted, "environment"},
			"ILP_AUTH_KEY_ID": {"testUser1", "environment"}, "ILP_ADMIN_TOKEN": {redacted, "environment"}, "ILP_CONFIRM_BYTES": {"16MiB", "a quarter of ILP_BUFFER"}}},
		"large buffer": {with("ILP_BUFFER=256MiB"), map[string][2]string{"ILP_CONFIRM_BYTES": {"64MiB", "default"}}},
		"small buffer": {with("ILP_BUFFER=4MiB"), map[string][2]string{"ILP_CONFIRM_BYTES": {"1MiB", "a quarter of ILP_BUFFER"}}},
		"JWK":          {[]string{minimal[0], "ILP_AUTH_JWK=" + docJWK}, map[string][2]string{"ILP_AUTH_JWK": {redacted, "environment"}, "ILP_AUTH_KEY_ID": {"testUser1", "ILP_AUTH_JWK"}, "ILP_AUTH_KEY": {"", none}}},
		"JWK's file": {[]string{minimal[0], "ILP_AUTH_JWK_FILE=" + jwk}, map[string][2]string{
			"ILP_AUTH_JWK": {redacted, "file " + jwk}, "ILP_AUTH_JWK_FILE": {jwk, "environment"}, "ILP_AUTH_KEY_ID": {"testUser1", "file " + jwk}}},
		"scalar's file": {[]string{minimal[0], minimal[1], "ILP_AUTH_KEY_FILE=" + d, "ILP_ADMIN_TOKEN_FILE=" + token}, map[string][2]string{
			"ILP_AUTH_KEY": {redacted, "file " + d}, "ILP_AUTH_KEY_ID": {"testUser1", "environment"}, "ILP_ADMIN_TOKEN": {redacted, "file " + token}}},
		"client's string": {[]string{"QDB_CLIENT_CONF=tcps::addr=a;addr=b:1;username=testUser1;token=" + docD + ";token_x=" + docX + ";token_y=" + docY + ";auth_timeout=1500;tls_verify=unsafe_off;"}, map[string][2]string{
			"QDB_CLIENT_CONF": {"tcps::addr=a;addr=b:1;username=testUser1;token=" + redacted + ";token_x=" + docX + ";token_y=" + docY + ";auth_timeout=1500;tls_verify=unsafe_off;", "environment"},
			"ILP_UPSTREAM":    {"tcps://a:9009,tcps://b:1", "QDB_CLIENT_CONF"}, "ILP_AUTH_KEY": {redacted, "QDB_CLIENT_CONF"}, "ILP_AUTH_KEY_ID": {"testUser1", "QDB_CLIENT_CONF"},
			"ILP_AUTH_TIMEOUT": {"1.5s", "QDB_CLIENT_CONF"}, "ILP_TLS_UNSAFE_SKIP_VERIFY": {"true", "QDB_CLIENT_CONF"}}},
		"address from one, key from another": {[]string{"QDB_CLIENT_CONF=tcp::addr=a", minimal[1], minimal[2]}, map[string][2]string{
			"ILP_UPSTREAM": {"a:9009", "QDB_CLIENT_CONF"}, "ILP_AUTH_KEY_ID": {"testUser1", "environment"}, "ILP_AUTH_TIMEOUT": {"15s", "default"}}},
		"key in the wrong place": {with("ILP_REJECTED_FILE=/tmp/" + docX), map[string][2]string{"ILP_REJECTED_FILE": {hiddenValue, "environment"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, settings, err := Effective(c.environ)
			if err != nil || len(settings) != len(Variables()) {
				t.Fatalf("%d settings, %v", len(settings), err)
			}
			got := map[string][2]string{}
			for _, s := range settings {
				got[s.Name] = [2]string{s.Value, s.Source}
			}
			for name, want := range c.want {
				if got[name] != want {
					t.Errorf("%s is %q, want %q", name, got[name], want)
				}
			}
			if text := fmt.Sprint(settings); strings.Contains(text, docD) || strings.Contains(text, "0123456789abcdef") {
				t.Errorf("a secret is in %s", text)
			}
		})
	}
	if _, _, err := Effective([]string{"ILP_POOL_MAX=x", "ILP_BUFFER=x"}); err == nil || !strings.Contains(err.Error(), "ILP_POOL_MAX") || !strings.Contains(err.Error(), "ILP_BUFFER") {
		t.Errorf("two errors: got %v", err)
	}
}

func TestRedactClientConf(t *testing.T) {
	for text, want := range map[string]string{
		"tcp::addr=a;password=hid;;den;pass=hidden;new_key=hidden": "tcp::addr=a;password=[redacted];pass=[redacted];new_key=[redacted];",
		"tcps::tls_roots=/a;;b;tls_roots_password=hidden;":         "tcps::tls_roots=/a;;b;tls_roots_password=[redacted];",
		"tcp::addr=" + docD: "tcp::addr=" + hiddenValue + ";",
		"tcp::hidden":       "[redacted]",
	} {
		if got := redactClientConf(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestExample loads the example as it is, and with every default set, and compares
// with the defaults.
func TestExample(t *testing.T) {
	var described bool
	var names, asIs, all []string
	lines := bufio.NewScanner(strings.NewReader(Example()))
	for lines.Scan() {
		line := lines.Text()
		entry, commented := strings.CutPrefix(line, "#")
		name, value, found := strings.Cut(entry, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "# "):
			described = line != ""
			continue
		case !found || !described:
			t.Fatalf("not a variable behind its description: %q", line)
		case !commented:
			asIs = append(asIs, entry)
		}
		names = append(names, name)
		if value != "" {
			all = append(all, entry)
		}
		described = false
	}
	var want []string
	for _, v := range Variables() {
		want = append(want, v.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("got the variables\n%s\nwant\n%s", names, want)
	}
	if len(all) < len(want)/2 {
		t.Errorf("only %d defaults", len(all))
	}
	for title, upstream := range map[string]string{"without TLS": "tcp://questdb", "with TLS": "tcps://questdb"} {
		least := []string{"ILP_UPSTREAM=" + upstream, minimal[1], minimal[2]}
		defaults := load(t, least)
		for which, environ := range map[string][]string{"as it is": asIs, "all set": all} {
			got := load(t, slices.Concat(environ, least))
			for field := range fields() {
				g, w := reflect.ValueOf(*got).FieldByName(field.Name).Interface(), reflect.ValueOf(*defaults).FieldByName(field.Name).Interface()
				if field.Type != reflect.TypeFor[auth.Secret]() && !reflect.DeepEqual(g, w) {
					t.Errorf("%s, %s: %s is %v, want %v", title, which, field.Name, g, w)
				}
			}
		}
	}
}

func load(t *testing.T, environ []string) *Config {
	t.Helper()
	c, err := Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
