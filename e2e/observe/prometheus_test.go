package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/questdb"
)

const (
	// patience is how long anything may take, on a machine that has much else to do.
	patience = 90 * time.Second
	// scrapeEvery is how often Prometheus asks the proxy. Grafana's $__rate_interval is
	// four times as long.
	scrapeEvery = time.Second
	// pollEvery is the pause between two questions to Prometheus, which gives no sign
	// of knowing more.
	pollEvery = 200 * time.Millisecond
)

// A server is a running Prometheus.
type server struct {
	t   *testing.T
	url string
	log *strings.Builder // of use when ended is closed
	end chan struct{}
}

// startPrometheus runs a Prometheus for the duration of the test, that scrapes what is
// at target and has the alerts.
func startPrometheus(t *testing.T, target string) *server {
	t.Helper()
	path := program(t, "prometheus")
	ports, release, err := questdb.ReservePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	rules, err := filepath.Abs(filepath.Join(alertsFolder, rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: %v, scrape_timeout: %v, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs:\n  - job_name: questdb-ilp-proxy\n    static_configs: [{targets: [%q]}]\n", scrapeEvery, scrapeEvery, rules, target)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + strconv.Itoa(ports[0])
	s := &server{t: t, url: "http://" + address, log: &strings.Builder{}, end: make(chan struct{})}
	cmd := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = s.log, s.log
	// Its own process group, so that Ctrl-C is no signal to it; and gone with this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread dies that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(s.end)
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting Prometheus: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.end
		if t.Failed() {
			t.Logf("Prometheus's output:\n%s", s.log)
		}
	})
	s.wait("to be ready", func() (bool, string) {
		_, err := s.get("/-/ready", nil)
		return err == nil, fmt.Sprint(err)
	})
	return s
}

// wait returns when enough is true, and fails the test with what that says
// otherwise if it takes too long.
func (s *server) wait(what string, enough func() (bool, string)) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		ok, why := enough()
		if ok {
			return
		}
		select {
		case <-time.After(pollEvery):
		case <-s.end:
			s.t.Fatal("Prometheus has ended")
		case <-timeout:
			s.t.Fatalf("waited %v for Prometheus %s: %s", patience, what, why)
		}
	}
}

func (s *server) get(path string, values url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path+"?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	// Its own transport: an idle connection kept for later would hold goroutines.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// ask asks the API and leaves the answer's data in to.
func (s *server) ask(path string, values url.Values, to any) error {
	body, err := s.get("/api/v1/"+path, values)
	if err != nil {
		return err
	}
	answer := struct {
		Data     any
		Warnings []string
	}{Data: to}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if len(answer.Warnings) > 0 {
		return fmt.Errorf("warnings: %q", answer.Warnings)
	}
	return nil
}

// A line is one series that a query returned: its labels, its last value and its
// largest.
type line struct {
	labels      map[string]string
	value, most float64
}

// lookBack is the time that a dashboard shows.
const lookBack = 20 * time.Second

// query does what Grafana does with a panel's query, all proxies chosen. Series
// without a number are left out.
func (s *server) query(q target) (lines []line, err error) {
	expr := strings.NewReplacer("$namespace", ".*", "$pod", ".*", "$instance", ".*",
		"$__rate_interval", (4 * scrapeEvery).String(), "$__range", lookBack.String()).Replace(q.Expr)
	now := time.Now()
	path, values := "query", url.Values{"query": {expr}, "time": {stamp(now)}}
	if q.Range {
		path = "query_range"
		values = url.Values{"query": {expr}, "start": {stamp(now.Add(-lookBack))}, "end": {stamp(now)}, "step": {"1"}}
	}
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  []any
			Values [][]any
		}
	}
	if err := s.ask(path, values, &data); err != nil {
		return nil, err
	}
	for _, r := range data.Result {
		values := r.Values
		if r.Value != nil {
			values = append(values, r.Value)
		}
		l := line{labels: r.Metric, value: math.NaN(), most: math.Inf(-1)}
		for _, v := range values {
			text, _ := v[1].(string)
			if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(n) {
				l.value, l.most = n, max(l.most, n)
			}
		}
		if !math.IsNaN(l.value) {
			lines = append(lines, l)
		}
	}
	return lines, nil
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// alerts returns the state of each alert that is pending or firing, by its name.
func (s *server) alerts() (map[string]string, error) {
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	if err := s.ask("alerts", nil, &data); err != nil {
		return nil, err
	}
	states := map[string]string{}
	for _, a := range data.Alerts {
		states[a.Labels["alertname"]] = a.State
	}
	return states, nil
}
