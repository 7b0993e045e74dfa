package observe

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"questdb-ilp-proxy/e2e/markdown"
)

// A rule is an alert.
type rule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []rule }
	}
	readYAML(t, rulesFile, &file)
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("only %d alerts", len(rules))
	}
	return rules
}

func readYAML(t *testing.T, name string, to any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(alertsFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestPromtool has Prometheus's own tool check the rules, and run their tests.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := program(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", rulesFile},
		{"test", "rules", testsFile},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = alertsFolder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// TestAlerts checks that each alert is seen to fire and not to fire in a test, says
// what it has to, and has a runbook.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var tests struct {
		Tests []struct {
			Checks []struct {
				Alertname string
				Fires     []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, testsFile, &tests)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Checks {
			if len(c.Fires) > 0 {
				fires[c.Alertname] = true
			} else {
				quiet[c.Alertname] = true
			}
		}
	}
	const troubleshooting = "docs/troubleshooting.md"
	text, err := os.ReadFile(filepath.Join("../..", troubleshooting))
	if err != nil {
		t.Fatal(err)
	}
	anchors := markdown.Anchors(string(text))
	names := map[string]bool{}
	for _, r := range readRules(t) {
		if names[r.Alert] || !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: twice: %v; a test has it fire: %v, and not fire: %v", r.Alert, names[r.Alert], fires[r.Alert], quiet[r.Alert])
		}
		names[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: no summary or no description", r.Alert)
		}
		file, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "#")
		if file != troubleshooting || !anchors[anchor] {
			t.Errorf("%s: no section for its runbook_url %q", r.Alert, r.Annotations["runbook_url"])
		}
	}
}
