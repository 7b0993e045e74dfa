package observe

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A selector is one in a query: a series' name, and what its labels have to be.
type selector struct {
	name   string
	labels map[string]string
}

var (
	series = regexp.MustCompile(`\b(?:questdb_ilp_proxy|process|go)_[a-z_]+\b(?:\{[^}]*\})?|\bup\b`)
	label  = regexp.MustCompile(`([a-z_]+)(?:=~|!=|!~|=)"([^"]*)"`)
)

// selectors returns those of a query that choose series of the proxy's.
func selectors(query string) (found []selector) {
	for _, text := range series.FindAllString(query, -1) {
		name, rest, _ := strings.Cut(text, "{")
		s := selector{name: name, labels: map[string]string{}}
		for _, m := range label.FindAllStringSubmatch(rest, -1) {
			s.labels[m[1]] = m[2]
		}
		found = append(found, s)
	}
	return found
}

// A scrape is what the proxy answers to Prometheus: for each name the labels of
// its series.
type scrape map[string][]map[string]string

func readScrape(t *testing.T, text string) scrape {
	t.Helper()
	s := scrape{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, rest, _ := strings.Cut(line[:strings.LastIndex(strings.TrimSpace(line), " ")], "{")
		labels := map[string]string{}
		for _, m := range label.FindAllStringSubmatch(rest, -1) {
			labels[m[1]] = m[2]
		}
		s[name] = append(s[name], labels)
	}
	return s
}

// has reports whether there is a series that sel chooses. Labels that come from
// Prometheus, and what a variable stands for, are not looked at.
func (s scrape) has(sel selector) bool {
	return slices.ContainsFunc(s[sel.name], func(labels map[string]string) bool {
		for name, want := range sel.labels {
			if !strings.HasPrefix(want, "$") && !slices.Contains(strings.Split(want, "|"), labels[name]) {
				return false
			}
		}
		return true
	})
}

func TestSelectors(t *testing.T) {
	got := selectors(`sum by (le) (rate(questdb_ilp_proxy_a_bucket{x="1|2",pod=~"$pod"}[5m])) / questdb_ilp_proxy_b and on (job) up == 0`)
	if len(got) != 3 || got[0].name != "questdb_ilp_proxy_a_bucket" || got[0].labels["pod"] != "$pod" || got[1].name != "questdb_ilp_proxy_b" || got[2].name != "up" {
		t.Fatalf("%+v", got)
	}
	s := readScrape(t, "# HELP x y\nquestdb_ilp_proxy_a_bucket{x=\"2\",le=\"+Inf\"} 3\nquestdb_ilp_proxy_b 1\n")
	if !s.has(got[0]) || !s.has(got[1]) || s.has(got[2]) || s.has(selector{"questdb_ilp_proxy_a_bucket", map[string]string{"x": "3"}}) {
		t.Errorf("%v", s)
	}
}
