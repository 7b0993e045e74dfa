package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/status"
)

// maxStatus bounds what is read of a /status, in bytes: hundreds of lanes and
// writers.
const maxStatus = 8 << 20

// settledWatch finds out by the admin port whether what was sent is known to be in
// QuestDB. It may be that of several proxies behind one name, of which one got it:
// then all have to say so.
type settledWatch struct {
	host, port string
	before     lost
}

// lost is what some proxies together did not deliver, or may not have.
type lost struct{ rejected, uncertain float64 }

// newSettledWatch asks once, so that a wrong address shows before anything is sent.
// An empty addr is the one that ILP_ADMIN names.
func (p *program) newSettledWatch(ctx context.Context, addr string) (*settledWatch, error) {
	if addr == "" {
		own, _, err := config.AdminClient(p.environ)
		if err != nil {
			return nil, p.configError(err)
		}
		addr = own
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &ExitError{ExitUsage, fmt.Errorf("--admin: %w; should be like 127.0.0.1:9090", err)}
	}
	w := &settledWatch{host: host, port: port}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, w.before, err = w.look(ctx)
	return w, err
}

// wait returns when everything that the proxies had accepted at the time sent is
// settled, or with an error when the time is over. What was rejected meanwhile is
// an error: it may be what was sent.
func (w *settledWatch) wait(ctx context.Context, sent time.Time, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := errors.New("the proxy was not asked")
	if !poll(ctx, func(ctx context.Context) bool {
		// An answer may be a little older than the question.
		age := time.Since(sent) - status.MaxAge
		oldest, now, err := w.look(ctx)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				last = err
			}
			return false
		case oldest >= age:
			last = fmt.Errorf("the oldest record that is not settled has waited for %s; the status page and the log say what for", oldest.Round(time.Millisecond))
			return false
		}
		last = nil
		if n := now.rejected - w.before.rejected; n > 0 {
			last = fmt.Errorf("%s rejected meanwhile: see the proxy's ILP_REJECTED_FILE or log", count(int64(n), "record"))
		} else if n := now.uncertain - w.before.uncertain; n > 0 {
			last = fmt.Errorf("%s may be lost, with ILP_DELIVERY=at-most-once", count(int64(n), "record"))
		}
		return true
	}) {
		return fmt.Errorf("wait until the records are in QuestDB: %s were not enough: %w", timeout, last)
	}
	return last
}

// look asks every proxy. It returns the age of the oldest record that one of them
// has not settled, 0 for none.
func (w *settledWatch) look(ctx context.Context) (oldest time.Duration, l lost, err error) {
	addrs, err := net.DefaultResolver.LookupHost(ctx, w.host)
	if err != nil {
		return 0, l, fmt.Errorf("ask the proxy: %w; check --admin", err)
	}
	answered, unreachable := 0, error(nil)
	for _, addr := range addrs {
		r, err := w.ask(ctx, net.JoinHostPort(addr, w.port))
		var refused *net.OpError
		switch {
		case w.host == "localhost" && errors.As(err, &refused):
			unreachable = err // on one of its two addresses it need not listen
			continue
		case err != nil:
			return 0, l, err
		}
		answered++
		oldest = max(oldest, time.Duration(r.Behind.OldestSeconds*float64(time.Second)))
		l.rejected += r.Total.Rejected
		l.uncertain += r.Total.Uncertain
	}
	if answered == 0 {
		return 0, l, unreachable
	}
	return oldest, l, nil
}

// ask gets the status of one proxy. By an address rather than by a name, since
// names may be refused.
func (w *settledWatch) ask(ctx context.Context, addr string) (r status.Report, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/status", nil)
	if err != nil {
		return r, fmt.Errorf("ask the proxy at %s: %w", addr, err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return r, fmt.Errorf("ask the proxy at %s: %w; check that it runs, and that --admin is its ILP_ADMIN", addr, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("the proxy at %s says %d to /status", addr, resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&r); err != nil {
		return r, fmt.Errorf("read the status of the proxy at %s: %w", addr, err)
	}
	return r, nil
}
