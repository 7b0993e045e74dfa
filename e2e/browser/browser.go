// Package browser drives a headless Chromium for tests, over the DevTools protocol on a pair of pipes: only so much of it as is
// needed to open a page, ask what it shows, and take its picture.
package browser

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit is how long one command may take, on a machine that has much else to do.
const limit = 60 * time.Second

// View is how a page is looked at.
type View struct {
	Width, Height int
	Dark          bool
	Phone         bool
	NoScript      bool
}

// Page is an open page. Its methods are for the test's own goroutine.
type Page struct {
	t       testing.TB
	in      *os.File
	session string

	mu       sync.Mutex
	id       int
	pending  map[int]chan message
	loaded   chan struct{} // an element for each page that was loaded
	problems []string      // what Chromium has to say: blocked by the policy, errors of scripts
	ended    chan struct{} // closed when Chromium has closed its pipe
}

type message struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
	SessionID string `json:"sessionId,omitempty"`
}

// Open starts a Chromium for the duration of the test, with an empty page.
func Open(t testing.TB) *Page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no chromium here: apt-get install chromium")
	}
	p := start(t, path)
	var target struct{ TargetID, SessionID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	p.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	p.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(domain+".enable", nil, nil)
	}
	return p
}

// Show goes to url and returns when it was loaded.
func (p *Page) Show(url string, v View) {
	p.t.Helper()
	for len(p.loaded) > 0 {
		<-p.loaded // of what was shown before
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": v.Width, "height": v.Height, "deviceScaleFactor": 1, "mobile": v.Phone}, nil)
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": v.NoScript}, nil)
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	p.WaitLoad()
}

// start runs Chromium, whose protocol is on its files 3 and 4.
func start(t testing.TB, path string) *Page {
	t.Helper()
	toRead, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromRead, fromWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-extensions", "--disable-background-networking", "--disable-component-update",
		"--user-data-dir="+home, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{toRead, fromWrite}
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	toRead.Close()
	fromWrite.Close()
	p := &Page{t: t, in: toWrite, pending: map[int]chan message{}, loaded: make(chan struct{}, 100), ended: make(chan struct{})}
	go p.read(fromRead)
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group: all of its processes
		_ = cmd.Wait()
		toWrite.Close()
		<-p.ended
	})
	return p
}

func (p *Page) read(from *os.File) {
	defer close(p.ended)
	defer from.Close()
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		p.take(m)
	}
}

func (p *Page) take(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "":
		if answer := p.pending[m.ID]; answer != nil {
			delete(p.pending, m.ID)
			answer <- m
		}
	case "Page.loadEventFired":
		select {
		case p.loaded <- struct{}{}:
		default: // nobody waits for so many
		}
	case "Runtime.exceptionThrown", "Log.entryAdded":
		if len(p.problems) < 100 {
			p.problems = append(p.problems, string(m.Params))
		}
	}
}

// call sends a command and waits for its answer, which is left in result unless that is nil.
func (p *Page) call(method string, params map[string]any, result any) {
	p.t.Helper()
	if err := p.try(method, params, result); err != nil {
		p.t.Fatalf("chromium: %s: %v", method, err)
	}
}

func (p *Page) try(method string, params map[string]any, result any) error {
	answer := make(chan message, 1)
	p.mu.Lock()
	p.id++
	id := p.id
	p.pending[id] = answer
	p.mu.Unlock()
	if params == nil {
		params = map[string]any{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	text, err := json.Marshal(message{ID: id, Method: method, Params: raw, SessionID: p.session})
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(text, 0)); err != nil {
		return err
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-p.ended:
		return errors.New("it has ended")
	case <-time.After(limit):
		return fmt.Errorf("no answer within %v", limit)
	}
}

// WaitLoad returns when the page was loaded, once more each time.
func (p *Page) WaitLoad() {
	p.t.Helper()
	select {
	case <-p.loaded:
	case <-p.ended:
		p.t.Fatal("chromium has ended")
	case <-time.After(limit):
		p.t.Fatalf("the page was not loaded within %v", limit)
	}
}

// Eval returns what a JavaScript expression is, promises resolved, in result. Also where the page's own scripts do not run.
func (p *Page) Eval(expression string, result any) {
	p.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if answer.ExceptionDetails != nil {
		p.t.Fatalf("chromium: %s: %s", expression, answer.ExceptionDetails)
	}
	if err := json.Unmarshal(answer.Result.Value, result); err != nil {
		p.t.Fatalf("chromium: %s is %s: %v", expression, answer.Result.Value, err)
	}
}

// Text is what the page shows.
func (p *Page) Text() (text string) {
	p.t.Helper()
	p.Eval("document.body.innerText", &text)
	return text
}

// WaitTrue returns when an expression, which gives no sign of having changed, is true.
func (p *Page) WaitTrue(expression string, within time.Duration) {
	p.t.Helper()
	timeout := time.After(within)
	for {
		var ok bool
		if p.Eval(expression, &ok); ok {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-timeout:
			p.t.Fatalf("within %v, %s never was true; the page has:\n%s", within, expression, p.Text())
		}
	}
}

// Picture is the page, all of it, as a PNG.
func (p *Page) Picture() []byte {
	p.t.Helper()
	var answer struct{ Data string }
	p.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// Problems are what Chromium complained about so far: what the page's policy blocked, errors of its scripts.
func (p *Page) Problems() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.problems, "\n")
}
