package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"questdb-ilp-proxy/proxy/status"
)

// adminSays is the admin port of a proxy that answers to the nth question, from 0.
func adminSays(t *testing.T, answer func(n int) status.Report) (addr string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answer(int(asked.Add(1)) - 1))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), asked
}

// TestReplaySettled waits for a record that is settled at the fourth look after it
// was sent: until then it is as old as the question.
func TestReplaySettled(t *testing.T) {
	t.Parallel()
	began := time.Now()
	admin, asked := adminSays(t, func(n int) (r status.Report) {
		if n > 0 && time.Since(began) < time.Second {
			r.Behind.OldestSeconds = time.Since(began).Seconds()
		} else if n > 0 {
			r.Behind.OldestSeconds = 0.01 // that of someone who writes on
		}
		return r
	})
	to, got := sinkProxy(t)
	out := runWith(t.Context(), nil, mixed, "replay", "--to", to, "--settled", "--admin", admin, "--reason", "malformed", "-")
	if out.code != 0 || !strings.Contains(out.stdout, "; settled") {
		t.Errorf("exit code %d, want 0 and that it is settled\n%s%s", out.code, out.stdout, out.stderr)
	}
	if sent := <-got; sent != "a v=1\n" {
		t.Errorf("sent %q", sent)
	}
	if since := time.Since(began); since < time.Second || asked.Load() < 3 {
		t.Errorf("returned after %s and %d questions; it was settled after 1s", since, asked.Load())
	}
}

// TestReplayNotSettled has each reason why it cannot say that all is well.
func TestReplayNotSettled(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		answer func(n int) status.Report
		want   string
	}{
		"never settled": {func(n int) (r status.Report) { r.Behind.OldestSeconds = 3600; return r }, "has waited for 1h"},
		"rejected":      {func(n int) (r status.Report) { r.Total.Rejected = float64(7 + min(n, 1)); return r }, "1 record rejected meanwhile"},
		"uncertain":     {func(n int) (r status.Report) { r.Total.Uncertain = float64(2 * n); return r }, "may be lost"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			admin, _ := adminSays(t, c.answer)
			to, _ := sinkProxy(t)
			out := runWith(t.Context(), nil, mixed, "replay", "--to", to, "--settled", "--admin", admin, "--timeout", "2s", "--reason", "malformed", "-")
			if out.code != 1 || !strings.Contains(out.stderr, c.want) {
				t.Errorf("exit code %d, want 1 and %q\n%s%s", out.code, c.want, out.stdout, out.stderr)
			}
		})
	}
}

// TestReplayAsksFirst sends nothing if it cannot find out what becomes of it.
func TestReplayAsksFirst(t *testing.T) {
	to, got := sinkProxy(t)
	out := runWith(t.Context(), nil, mixed, "replay", "--to", to, "--settled", "--admin", "127.0.0.1:1", "-")
	if out.code != 1 || !strings.Contains(out.stderr, "--admin is its ILP_ADMIN") {
		t.Errorf("exit code %d\n%s", out.code, out.stderr)
	}
	select {
	case sent := <-got:
		t.Errorf("sent %q", sent)
	default:
	}
	if out := runWith(t.Context(), nil, mixed, "replay", "--admin", "127.0.0.1:1", "-"); out.code != ExitUsage {
		t.Errorf("--admin without --settled: exit code %d, want %d", out.code, ExitUsage)
	}
}
