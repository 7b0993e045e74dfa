package questdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// readyLimit bounds a start; one takes 1-3 s on an idle machine.
	readyLimit = 60 * time.Second
	// askLimit bounds one question to a server that may be starting.
	askLimit = 2 * time.Second
	// askEvery is the pause between two. A server that starts gives no sign of
	// being ready on which one could wait instead.
	askEvery = 20 * time.Millisecond
)

// Wait returns when the server answers on all its ports: with a challenge on
// ILP, with a row over PG, and over HTTP where its version can. An error shows
// the end of the server's log.
func (p *Process) Wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	asks := []func(context.Context) error{p.askILP, p.askPG}
	if !strings.HasPrefix(p.opts.Version, "7.") {
		asks = append(asks, p.askHTTP)
	}
	for _, ask := range asks {
		if err := p.poll(ctx, ask); err != nil {
			return fmt.Errorf("waiting for QuestDB %s to answer: %w; the end of its log:\n%s",
				p.opts.Version, err, tail(p.Log(), 2000))
		}
	}
	return nil
}

func (p *Process) poll(ctx context.Context, ask func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, askLimit)
		err := ask(once)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %w", errors.Join(p.state, err))
		case <-ctx.Done():
			return err
		case <-time.After(askEvery):
		}
	}
}

// askILP reads a challenge, which the server sends for any key id, and leaves.
// Without authentication there is nothing to read: the connect must do.
func (p *Process) askILP(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.ILP())
	if err != nil {
		return err
	}
	defer conn.Close()
	if p.opts.NoAuth {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, "are-you-ready\n"); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 513))
	return err
}

func (p *Process) askPG(ctx context.Context) error {
	_, err := p.Query(ctx, "select 1")
	return err
}

func (p *Process) askHTTP(ctx context.Context) error {
	u := url.URL{Scheme: "http", Host: p.HTTP(), Path: "/exec", RawQuery: "query=select+1"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	// Its own transport: an idle connection kept for later would hold goroutines.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// One that has http.user answers too, if not us.
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusUnauthorized || p.opts.Conf["http.user"] == "") {
		return fmt.Errorf("http: %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// tail returns the last n bytes of s or less, from the beginning of a line.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	if _, rest, ok := strings.Cut(s, "\n"); ok {
		return rest
	}
	return s
}
