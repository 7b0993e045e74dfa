package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"questdb-ilp-proxy/config"
)

// runIn runs a command in an environment.
func runIn(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Main(t.Context(), append([]string{name}, args...), environ, strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func TestConfigCommand(t *testing.T) {
	environ := []string{"ILP_UPSTREAM=a", "ILP_AUTH_JWK=" + docJWK, "ILP_POOL_MAX=300", "ILP_REJECTED_FILE=/tmp/a\x1b[2J"}
	got := runIn(t, environ, "config")
	if got.code != ExitOK || !strings.Contains(got.stderr, "ILP_POOL_MAX: 300 is more than the 256") {
		t.Errorf("got %+v", got)
	}
	lines := map[string]string{}
	for line := range strings.Lines(got.stdout) {
		if name, rest, ok := strings.Cut(line, " "); ok {
			lines[name] = strings.Join(strings.Fields(rest), " ")
		}
	}
	for name, want := range map[string]string{
		"VARIABLE": "VALUE SOURCE", "ILP_UPSTREAM": "a environment", "ILP_POOL_MIN_IDLE": "2 default", "ILP_ALLOW": "- not set", "ILP_AUTH_JWK": "[redacted] environment",
		"ILP_AUTH_KEY_ID": "testUser1 ILP_AUTH_JWK", "ILP_REJECTED_FILE": `"/tmp/a\x1b[2J" environment`, "testUser1": strings.TrimPrefix(strings.TrimSpace(docLine), "testUser1 "),
	} {
		if lines[name] != want {
			t.Errorf("%s: %q, want %q", name, lines[name], want)
		}
	}

	var parsed struct {
		Settings []config.Setting
		AuthLine string `json:"auth_line"`
		Warnings []string
	}
	asJSON := runIn(t, environ, "config", "--json")
	if err := json.Unmarshal([]byte(asJSON.stdout), &parsed); err != nil || len(parsed.Settings) != len(config.Variables()) ||
		parsed.AuthLine+"\n" != docLine || len(parsed.Warnings) != 1 || asJSON.stderr != "" {
		t.Errorf("got %+v, %v", asJSON, err)
	}
	if got := runIn(t, nil, "config", "--example"); got != (result{ExitOK, config.Example(), ""}) {
		t.Errorf("got %+v", got)
	}
	for _, args := range [][]string{{"config", "ILP_AUTH_JWK=" + docJWK}, {"config", "--example", "--json"}} {
		if got := runIn(t, environ, args...); got.code != ExitUsage || got.stdout != "" || strings.Contains(got.stderr, "5UjEMuA0") {
			t.Errorf("%s: got %+v", args, got)
		}
	}
}

// TestConfigCommandErrors sees that it says of a wrong configuration what serve says.
func TestConfigCommandErrors(t *testing.T) {
	environ := []string{"ILP_UPSTREAM=a:b", "ILP_BUFFER=x", "ILP_AUTH_KEY=" + docJWK, "ILP_NOTHING=1"}
	serve, shown, checked := runIn(t, environ, "serve"), runIn(t, environ, "config"), runIn(t, environ, "check")
	if shown.code != ExitUsage || strings.Count(shown.stderr, "\n") < 4 || shown != serve || checked != serve {
		t.Errorf("serve: %+v\nconfig: %+v\ncheck: %+v", serve, shown, checked)
	}
	var report struct {
		ExitCode int `json:"exit_code"`
		Findings []struct{ Kind, About, Do string }
	}
	asJSON := runIn(t, environ, "check", "--json")
	if err := json.Unmarshal([]byte(asJSON.stdout), &report); err != nil || asJSON.code != ExitUsage || report.ExitCode != ExitUsage ||
		len(report.Findings) != strings.Count(serve.stderr, "\n") || report.Findings[0].Kind != "configuration" || report.Findings[0].Do == "" {
		t.Errorf("got %+v, %v", asJSON, err)
	}
}
