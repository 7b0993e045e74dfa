package check

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/config"
)

// maxAnswer bounds what is read of an answer, in bytes: that is a hundred thousand tables.
const maxAnswer = 32 << 20

// Endpoint is QuestDB's HTTP server. It prints without user and password.
type Endpoint struct {
	url      string // without them, up to /exec
	user     string
	password auth.Secret
}

// ParseEndpoint reads http://[user:password@]host[:port][/path]. Its errors do not
// quote text.
func ParseEndpoint(text string) (*Endpoint, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // it quotes the password
		return nil, errors.New("not a URL; should be like http://questdb:9000")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("not a URL of HTTP; should be like http://questdb:9000, or https://")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("it has a query; should be like http://questdb:9000")
	}
	e := &Endpoint{user: u.User.Username()}
	if password, ok := u.User.Password(); ok {
		e.password = auth.NewSecret(password)
	}
	u.User = nil
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/exec")
	u.RawPath = ""
	e.url = u.String()
	return e, nil
}

// String returns the URL without user and password.
func (e *Endpoint) String() string { return e.url }

// table is the answer to a query.
type table struct {
	Columns []struct{ Name string } `json:"columns"`
	Dataset [][]any                 `json:"dataset"`
	Error   string                  `json:"error"`
}

// column returns the index of the column of that name, -1 without one: their order
// and number differ from version to version.
func (t *table) column(name string) int {
	for i, c := range t.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

// cell returns a value, nil where there is none.
func (t *table) cell(row []any, name string) any {
	if i := t.column(name); i >= 0 && i < len(row) {
		return row[i]
	}
	return nil
}

// answerError is an answer that is none, and what can be done.
type answerError struct{ text, do string }

func (e *answerError) Error() string { return e.text }

// client makes each request on a connection of its own, through no HTTP proxy, and
// follows nobody elsewhere. An authority that is trusted for ILP is trusted here.
func client(c *config.Config) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	if c.TLS != nil && c.TLS.RootCAs != nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.TLS.RootCAs}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// query asks for the result of one SQL statement.
func (e *Endpoint) query(ctx context.Context, client *http.Client, sql string) (*table, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/exec?query="+url.QueryEscape(sql), nil)
	if err != nil {
		return nil, &answerError{"not a URL that can be asked", "correct --http"}
	}
	if e.user != "" || !e.password.IsZero() {
		req.SetBasicAuth(e.user, e.password.Reveal())
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, e.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, &answerError{fmt.Sprintf("it demands a user and password, or refuses those given (HTTP %d)", resp.StatusCode),
			"give those of http.user and http.password, or of a user who may read: http://USER:PASSWORD@HOST:PORT"}
	case http.StatusOK, http.StatusBadRequest: // with an error in it
	default:
		return nil, &answerError{fmt.Sprintf("it answers HTTP %d, which QuestDB does not", resp.StatusCode), "use the address of QuestDB's http.bind.to (9000 by default)"}
	}
	var t table
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&t); err != nil {
		if ctx.Err() != nil {
			return nil, e.unreachable(ctx, err)
		}
		return nil, &answerError{"its answer is not JSON, as QuestDB's is", "use the address of QuestDB's http.bind.to (9000 by default)"}
	}
	if t.Error != "" {
		return nil, &answerError{fmt.Sprintf("QuestDB refuses to say: %.200q", t.Error), "let the user of --http read it"}
	}
	return &t, nil
}

// unreachable says why there is no answer, without the request's URL.
func (e *Endpoint) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &answerError{"no answer: " + context.Cause(ctx).Error(), "look whether QuestDB's HTTP server works, or allow more with --timeout"}
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return &answerError{fmt.Sprintf("its certificate is not trusted: %.300v", untrusted.Err),
			"use the name that the certificate is for; its authority has to be among the system's (SSL_CERT_FILE names another file of them), or where ILP_TLS_CA is set with tcps://, in that"}
	}
	return &answerError{fmt.Sprintf("no answer: %v", rootCause(err)), "check the address (QuestDB's http.bind.to, 9000 by default), and that QuestDB runs"}
}

// ask asks what the delivery promise depends on.
func (e *Endpoint) ask(ctx context.Context, c *config.Config) []Finding {
	client := client(c)
	var s state
	for _, q := range []struct {
		sql      string
		columns  []string
		into     **table
		optional bool // older versions, or users without rights, cannot answer
	}{
		{"tables()", []string{"table_name", "walEnabled"}, &s.tables, false},
		{"wal_tables()", []string{"name", "suspended"}, &s.wal, true},
		{"(show parameters) where property_path in ('" + strings.Join(settings, "','") + "')", []string{"property_path", "value"}, &s.settings, true},
	} {
		t, err := e.query(ctx, client, q.sql)
		if err == nil {
			for _, name := range q.columns {
				if err == nil && t.column(name) < 0 {
					err = &answerError{fmt.Sprintf("its answer to %.20s has no column %s, as QuestDB's has", q.sql, name), "use the address of QuestDB's http.bind.to (9000 by default)"}
				}
			}
		}
		var wrong *answerError
		switch {
		case err == nil:
			*q.into = t
		case q.optional && ctx.Err() == nil:
		case errors.As(err, &wrong):
			return []Finding{{HTTP, e.String(), wrong.text, wrong.do}}
		}
	}
	return s.judge(e.String(), c)
}

// bypassSettle is the ILP_SETTLE that tables which bypass WAL need: their rows are
// committed every half second or so, and were safe after 600 ms.
const bypassSettle = 3 * time.Second
