package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdminClient(t *testing.T) {
	const token = "0123456789abcdef"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for title, c := range map[string]struct{ environ, addr, token, problem string }{
		"default":         {"", "127.0.0.1:9090", "", ""},
		"all interfaces":  {"ILP_ADMIN=0.0.0.0:1 ILP_BUFFER=no", "127.0.0.1:1", "", ""},
		"IPv6":            {"ILP_ADMIN=[::]:1", "[::1]:1", "", ""},
		"token":           {"ILP_ADMIN_TOKEN=" + token, "127.0.0.1:9090", token, ""},
		"token in a file": {"ILP_ADMIN_TOKEN_FILE=" + file, "127.0.0.1:9090", token, ""},
		"off":             {"ILP_ADMIN=off", "", "", "ILP_ADMIN: it is off, so nothing can be asked; should be as the proxy has it, like 127.0.0.1:9090"},
		"kernel's port":   {"ILP_ADMIN=127.0.0.1:0", "", "", "ILP_ADMIN: "},
		"short token":     {"ILP_ADMIN_TOKEN=0123456789abcde", "", "", "ILP_ADMIN_TOKEN: the token is too short"},
		"odd token":       {"ILP_ADMIN_TOKEN=" + token + "\u00e9", "", "", "ILP_ADMIN_TOKEN: the token is too short"},
		"two tokens":      {"ILP_ADMIN_TOKEN=" + token + " ILP_ADMIN_TOKEN_FILE=" + file, "", "", "ILP_ADMIN_TOKEN_FILE: ILP_ADMIN_TOKEN is set too"},
		"no file":         {"ILP_ADMIN_TOKEN_FILE=" + file + "x", "", "", "ILP_ADMIN_TOKEN_FILE: cannot open"},
	} {
		t.Run(title, func(t *testing.T) {
			addr, secret, err := AdminClient(strings.Fields(c.environ))
			if (err != nil) != (c.problem != "") || err != nil && !strings.HasPrefix(err.Error(), c.problem) {
				t.Fatalf("got %v, want %q", err, c.problem)
			}
			if err != nil && strings.Contains(err.Error(), token[:8]) {
				t.Errorf("the token is in %v", err)
			}
			if addr != c.addr || secret.Reveal() != c.token {
				t.Errorf("got %s, want %s; token as wanted: %v", addr, c.addr, secret.Reveal() == c.token)
			}
			if c.problem == "" && strings.Contains(c.environ, "TOKEN") {
				cfg, err := Load(with(strings.Fields(c.environ)...))
				if err != nil || cfg.AdminToken.Reveal() != c.token {
					t.Errorf("Load: %v, or another token", err)
				}
			}
		})
	}
}

func TestAdminHosts(t *testing.T) {
	cfg, err := Load(with("ILP_ADMIN_HOSTS=Proxy, proxy.monitoring.svc"))
	if err != nil || strings.Join(cfg.AdminHosts, " ") != "proxy proxy.monitoring.svc" {
		t.Errorf("got %v, %v", cfg, err)
	}
	for _, wrong := range []string{"proxy:9090", "http://proxy", "a,,b", "*"} {
		if _, err := Load(with("ILP_ADMIN_HOSTS=" + wrong)); err == nil || !strings.HasPrefix(err.Error(), "ILP_ADMIN_HOSTS: ") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
