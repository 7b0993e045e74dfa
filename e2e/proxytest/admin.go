package proxytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	askLimit = 10 * time.Second
	// askEvery is the pause between two looks at health or metrics, which give no
	// sign of having changed.
	askEvery = 10 * time.Millisecond
	// prefix is that of the proxy's own metrics.
	prefix = "questdb_ilp_proxy_"
)

// Get asks the admin port.
func (p *Proxy) Get(path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return 0, "", err
	}
	// Its own transport: an idle connection kept for later would hold goroutines.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Ready asks /readyz.
func (p *Proxy) Ready() (status int, body string) {
	p.t.Helper()
	status, body, err := p.Get("/readyz")
	if err != nil {
		p.t.Fatal(err)
	}
	return status, body
}

// WaitReady returns when /readyz says 200, and fails the test if it does not
// within limit.
func (p *Proxy) WaitReady(limit time.Duration) {
	p.t.Helper()
	p.waitReadyz("says 200", limit, func(status int, _ string) bool { return status == http.StatusOK })
}

// WaitNotReady returns what /readyz says besides 503, as soon as text is in it,
// and fails the test if that takes longer than limit.
func (p *Proxy) WaitNotReady(text string, limit time.Duration) string {
	p.t.Helper()
	return p.waitReadyz("says 503 and "+strconv.Quote(text), limit, func(status int, body string) bool {
		return status == http.StatusServiceUnavailable && strings.Contains(body, text)
	})
}

func (p *Proxy) waitReadyz(what string, limit time.Duration, enough func(status int, body string) bool) string {
	p.t.Helper()
	timeout := time.After(limit)
	for {
		status, body, err := p.Get("/readyz")
		if err == nil && enough(status, body) {
			return body
		}
		select {
		case <-time.After(askEvery):
		case <-p.ended:
			p.t.Fatalf("the proxy ended before /readyz %s", what)
		case <-timeout:
			p.t.Fatalf("within %v, /readyz never %s: %d %q, %v", limit, what, status, body, err)
		}
	}
}

// Metric returns the value of a series: the sum of those with that name whose
// labels, given as name, value, name, value, are these among others. The prefix
// questdb_ilp_proxy_ may be left out. A series that does not exist fails the test.
func (p *Proxy) Metric(name string, labels ...string) float64 {
	p.t.Helper()
	v, err := p.TryMetric(name, labels...)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// TryMetric is Metric for other goroutines than the test's, and for a proxy that
// may be gone.
func (p *Proxy) TryMetric(name string, labels ...string) (float64, error) {
	status, text, err := p.Get("/metrics")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("/metrics: %d %s", status, text)
	}
	return sum(text, name, labels...)
}

// WaitMetric returns when a series is enough, and fails the test if it is not
// within limit.
func (p *Proxy) WaitMetric(limit time.Duration, enough func(float64) bool, name string, labels ...string) float64 {
	p.t.Helper()
	timeout := time.After(limit)
	for {
		v, err := p.TryMetric(name, labels...)
		if err == nil && enough(v) {
			return v
		}
		select {
		case <-time.After(askEvery):
		case <-p.ended:
			p.t.Fatalf("the proxy ended; %s %q was last %v (%v)", name, labels, v, err)
		case <-timeout:
			p.t.Fatalf("after %v, %s %q is %v (%v)", limit, name, labels, v, err)
		}
	}
}

// AtLeast is a condition for WaitMetric.
func AtLeast(n float64) func(float64) bool { return func(v float64) bool { return v >= n } }

// Equal is a condition for WaitMetric.
func Equal(n float64) func(float64) bool { return func(v float64) bool { return v == n } }

// sum adds up the matching series in Prometheus's text format.
func sum(text, name string, labels ...string) (total float64, err error) {
	found := false
	for line := range strings.Lines(text) {
		series, value, ok := cutLast(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		metric, set, _ := strings.Cut(series, "{")
		if metric != name && metric != prefix+name || !hasLabels(set, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("/metrics: %s: %w", strings.TrimSpace(line), err)
		}
		total += v
		found = true
	}
	if !found {
		return 0, fmt.Errorf("/metrics has no %s with the labels %q", name, labels)
	}
	return total, nil
}

// hasLabels looks at set, the rest of a series behind its {.
func hasLabels(set string, labels []string) bool {
	set = "," + set
	for i := 0; i < len(labels); i += 2 {
		if !strings.Contains(set, fmt.Sprintf(",%s=%q", labels[i], labels[i+1])) {
			return false
		}
	}
	return true
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// RSS is the process's resident memory in bytes. The race detector's own is in
// it: several times what the proxy would need without.
func (p *Proxy) RSS() int64 { p.t.Helper(); return p.memory("VmRSS") }

// PeakRSS is the largest that RSS ever was.
func (p *Proxy) PeakRSS() int64 { p.t.Helper(); return p.memory("VmHWM") }

func (p *Proxy) memory(field string) int64 {
	p.t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field+":" && f[2] == "kB" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	p.t.Fatal(errors.New("no " + field + " in the process's status"))
	return 0
}
