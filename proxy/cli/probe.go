package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/config"
)

// ending is what /readyz says of a proxy that was told to end.
const ending = "ending"

const (
	// probeEvery is how often wait and drain ask.
	probeEvery = 100 * time.Millisecond
	// probeTimeout bounds one of their questions; a proxy answers in a millisecond.
	probeTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 16 << 10
)

func (p *program) probeCommands() []*cobra.Command {
	const asks = `It asks the admin port that ILP_ADMIN of this environment names, so run it beside
the proxy, with the same environment. It needs no shell and no curl.`
	health := p.probeCommand("health", "Ask the running proxy whether it is alive", `Ask the running proxy whether it is alive (/livez): exit code 0 if it answers, 1 if
not, 2 if ILP_ADMIN is wrong or off. That QuestDB is away does not make it fail.
`+asks, `  HEALTHCHECK CMD ["/questdb-ilp-proxy", "health"]`, 3*time.Second, func(ctx context.Context, a *adminClient) error {
		return a.probe(ctx, "/livez")
	})
	ready := p.probeCommand("ready", "Ask the running proxy whether it can deliver", `Ask the running proxy whether it can deliver records (/readyz): exit code 0 if so, 1
with the reason if not or if it does not answer, 2 if ILP_ADMIN is wrong or off.
`+asks, `  questdb-ilp-proxy ready --timeout 1s`, 3*time.Second, func(ctx context.Context, a *adminClient) error {
		return a.probe(ctx, "/readyz")
	})
	wait := p.probeCommand("wait", "Wait until the running proxy can deliver", `Wait until the running proxy can deliver records, whether it is there yet or not: exit code 0 then,
1 with the last reason when --timeout is over, 2 if ILP_ADMIN is wrong or off.
`+asks, `  questdb-ilp-proxy wait --timeout 30s && ./writer`, time.Minute, func(ctx context.Context, a *adminClient) error {
		return a.wait(ctx)
	})
	return []*cobra.Command{health, ready, wait, p.drainCommand()}
}

func (p *program) drainCommand() *cobra.Command {
	noWait := false
	cmd := p.probeCommand("drain", "Ask the running proxy to deliver what is left, and end", `Ask the running proxy to end as by SIGTERM: no more writers, deliver what is left.
It waits until the proxy has ended: exit code 0 then, 1 if it cannot be asked or has
not ended when --timeout is over, 2 if ILP_ADMIN is wrong or off. Whether all was
delivered is in the exit code and the log of the proxy.

It asks the admin port that ILP_ADMIN of this environment names, with the token of
ILP_ADMIN_TOKEN or ILP_ADMIN_TOKEN_FILE if there is one. If ILP_ADMIN is not
loopback, the proxy demands one.`, `  ./job; questdb-ilp-proxy drain
  questdb-ilp-proxy drain --no-wait`, 2*time.Minute, func(ctx context.Context, a *adminClient) error {
		return a.drain(ctx, !noWait)
	})
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return as soon as the proxy was asked")
	return cmd
}

func (p *program) probeCommand(use, short, long, example string, timeout time.Duration, ask func(context.Context, *adminClient) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: cobra.NoArgs}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "longest wait")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if timeout <= 0 {
			return &ExitError{ExitUsage, fmt.Errorf("--timeout: %s is not positive; should be like 3s", timeout)}
		}
		addr, token, err := config.AdminClient(p.environ)
		if err != nil {
			return p.configError(err)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		return failure(ask(ctx, &adminClient{addr: addr, token: token}))
	}
	return cmd
}

// adminClient asks the admin port of a proxy on this machine.
type adminClient struct {
	addr  string
	token auth.Secret
}

// do makes one request, on a connection of its own and through no HTTP proxy.
func (a *adminClient) do(ctx context.Context, method, path string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.addr+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = "localhost" // whatever the address is called, it is this machine
	if method == http.MethodPost && !a.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return 0, "", fmt.Errorf("no answer from the proxy at %s in time; it is stuck or stopped, or something else is there: %w", a.addr, err)
	}
	if err != nil {
		return 0, "", fmt.Errorf("ask the proxy at %s: %w; check that it runs, and with the same ILP_ADMIN", a.addr, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, "", fmt.Errorf("read the answer of the proxy at %s: %w", a.addr, err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body)), nil
}

// probe asks once; anything but 200 is an error that has the proxy's words.
func (a *adminClient) probe(ctx context.Context, path string) error {
	status, answer, err := a.do(ctx, http.MethodGet, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the proxy at %s says %d: %s", a.addr, status, answer)
	}
	return err
}

// wait returns when the proxy is ready.
func (a *adminClient) wait(ctx context.Context) error {
	last := fmt.Errorf("no answer from the proxy at %s", a.addr)
	if poll(ctx, func(ctx context.Context) bool {
		err := a.probe(ctx, "/readyz")
		if err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
			last = err // and not that the time was over meanwhile
		}
		return err == nil
	}) {
		return nil
	}
	return fmt.Errorf("--timeout is over: %w", last)
}

// drain asks the proxy to end, and waits until it has if it is to.
func (a *adminClient) drain(ctx context.Context, wait bool) error {
	status, answer, err := a.do(ctx, http.MethodPost, "/drain")
	if err == nil && status != http.StatusAccepted {
		err = fmt.Errorf("the proxy at %s says %d: %s", a.addr, status, answer)
	}
	if err != nil || !wait {
		return err
	}
	if !poll(ctx, func(ctx context.Context) bool {
		status, answer, err := a.do(ctx, http.MethodGet, "/readyz")
		// Another answer is that of another proxy, which was started since.
		return errors.Is(err, syscall.ECONNREFUSED) ||
			err == nil && !(status == http.StatusServiceUnavailable && answer == ending)
	}) {
		return errors.New("--timeout is over, and the proxy was asked to end but still delivers; give it more, or see ILP_DRAIN_TIMEOUT")
	}
	return nil
}

// poll asks until the answer is yes, and returns false if ctx ends before.
func poll(ctx context.Context, ask func(context.Context) bool) bool {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, probeTimeout)
		yes := ask(one)
		cancel()
		if yes {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}
