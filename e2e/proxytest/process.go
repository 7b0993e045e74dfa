package proxytest

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/secrets"
)

// startLimit is how long the proxy may take to listen, endLimit to be gone after
// a SIGKILL: far more than it needs.
const (
	startLimit = 30 * time.Second
	endLimit   = 10 * time.Second
)

// raceExit is the exit code with which the race detector replaces a process's
// own at its end if it found something.
const raceExit = 66

// Proxy is a running proxy that belongs to a test: what fails, fails the test.
// Its methods that can fail must be called from the test's own goroutine.
type Proxy struct {
	t     testing.TB
	env   Env
	cmd   *exec.Cmd
	out   *output
	log   *os.File // the end of the pipe that out is read from
	addr  string
	admin string
	ended chan struct{} // closed when the process ended and its output is read

	secrets secrets.Set // what it was given
}

// Options say how the process is run. The zero value has the race detector and
// no limits.
type Options struct {
	// Plain leaves out the race detector, for tests that look at memory or are
	// about very much of something.
	Plain bool
	// Namespace is the network namespace in which the process runs, "" for this
	// one's. It needs root.
	Namespace string
	// Under is a command that is given the proxy's path and arguments, and becomes it.
	Under []string
	// Files is how many files the process may have open, 0 for as many as this one.
	Files uint64
	// Pass are the sockets that the process gets as systemd passes them, by name.
	// They stay the test's.
	Pass []Passed
}

// Passed is a socket that the proxy inherits.
type Passed struct {
	Name string
	File *os.File
}

// Start runs a proxy for the duration of a test, and returns when it listens.
func Start(t testing.TB, env Env) *Proxy {
	t.Helper()
	return Options{}.Start(t, env)
}

// Launch is Start without waiting for the proxy to listen: for one that should
// not. Addr and Admin are not known then.
func Launch(t testing.TB, env Env, args ...string) *Proxy {
	t.Helper()
	return Options{}.Launch(t, env, args...)
}

// Start is [Start] with these options.
func (o Options) Start(t testing.TB, env Env) *Proxy {
	t.Helper()
	p := o.Launch(t, env)
	if p.env["ILP_ADMIN"] != "off" {
		p.admin = p.address("serving health and metrics")
	}
	if !strings.HasPrefix(p.env["ILP_LISTEN"], "udp://") {
		p.addr = p.address("listening for writers")
	}
	return p
}

// Launch is [Launch] with these options.
func (o Options) Launch(t testing.TB, env Env, args ...string) *Proxy {
	t.Helper()
	binary := raced
	if o.Plain {
		binary = plain
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if o.Files > 0 {
		args = append([]string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.FormatUint(o.Files, 10), path}, args...)
		path = "/bin/sh"
	}
	if len(o.Pass) > 0 {
		// Only the process itself knows the id that it has to be told.
		args = append([]string{"-c", `export LISTEN_PID=$$ && exec "$0" "$@"`, path}, args...)
		path = "/bin/sh"
	}
	if len(o.Under) > 0 {
		args = slices.Concat(o.Under[1:], []string{path}, args)
		path = o.Under[0]
	}
	if o.Namespace != "" {
		args = append([]string{"netns", "exec", o.Namespace, path}, args...) // becomes the proxy
		path = "ip"
	}
	p := &Proxy{t: t, env: env.complete(), cmd: exec.Command(path, args...), out: newOutput(), ended: make(chan struct{})}
	p.env.hide(&p.secrets) // now: files may change
	p.cmd.Env = p.env.list()
	p.cmd.Dir = t.TempDir()
	if len(o.Pass) > 0 {
		var names []string
		for _, socket := range o.Pass {
			names = append(names, socket.Name)
			p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, socket.File)
		}
		p.cmd.Env = append(p.cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	// Its own process group, so that Ctrl-C is no signal to it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		t.Fatalf("starting the proxy: %v", err)
	}
	t.Cleanup(p.cleanup)
	return p
}

// run starts the process and waits for its end, on one thread: the kernel sends
// Pdeathsig when the thread dies that started the process, which otherwise could
// be any of this process's threads, long before its end.
func (p *Proxy) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		started <- err
		return
	}
	defer r.Close()
	p.log = r
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	started <- err
	if err != nil {
		return
	}
	p.out.read(r) // to the end: of the process, since it has no children
	_ = p.cmd.Wait()
	close(p.ended)
}

// address waits for the log line msg and returns its address.
func (p *Proxy) address(msg string) string {
	p.t.Helper()
	line := p.WaitLog(`"msg":"`+msg+`"`, startLimit)
	var fields struct{ Address string }
	if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Address == "" {
		p.t.Fatalf("no address in the proxy's log line %s: %v", line, err)
	}
	return fields.Address
}

// cleanup ends the process and looks at what it left in its log.
func (p *Proxy) cleanup() {
	p.Kill()
	log := p.Log()
	if p.cmd.ProcessState.ExitCode() == raceExit || strings.Contains(log, "DATA RACE") {
		p.t.Error("the race detector found something in the proxy")
	}
	if line := panicked(log); line != "" {
		p.t.Errorf("the proxy panicked: %s", line)
	}
	if found := p.Secrets(log); len(found) > 0 {
		p.t.Errorf("secrets are in the proxy's output: %q", found)
	}
	if p.t.Failed() {
		p.t.Logf("the proxy's output:\n%s", tail(log, 8000))
	}
}

// panicked returns the line of a log that says that the process came to a bad end by
// itself, with those around it, "" if there is none. A test may end it by SIGABRT; what
// comes after that is no sign: where the signal finds a thread in the race detector's C
// code, Go fails to show that thread's stack, and says so as "panic during panic".
func panicked(log string) string {
	log, _, _ = strings.Cut(log, "\nSIGABRT: abort\n")
	lines := strings.Split(log, "\n")
	for i, line := range lines {
		if strings.Contains(line, "panic:") || strings.Contains(line, "fatal error:") {
			return strings.Join(lines[max(0, i-3):min(len(lines), i+10)], "\n")
		}
	}
	return ""
}

// Hide adds something that must not be in the proxy's output.
func (p *Proxy) Hide(add func(*secrets.Set)) { add(&p.secrets) }

// Secrets returns which secrets that the proxy was given are in text, and how they are
// written there. The log is looked through at the end of each test anyway.
func (p *Proxy) Secrets(text string) []string {
	p.env.hide(&p.secrets) // what is in the files by now
	return p.secrets.Find(text)
}

// HasSecret tells whether text holds a secret that the proxy was given.
func (p *Proxy) HasSecret(text string) bool { return len(p.Secrets(text)) > 0 }

// Addr is the address, host:port, at which writers connect.
func (p *Proxy) Addr() string { return p.addr }

// UDP is the address, host:port, that takes datagrams, where ILP_LISTEN has one.
func (p *Proxy) UDP() string {
	p.t.Helper()
	return p.address("listening for datagrams")
}

// Admin is the address of health and metrics.
func (p *Proxy) Admin() string { return p.admin }

// PID is the process's id.
func (p *Proxy) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process ended.
func (p *Proxy) Done() <-chan struct{} { return p.ended }

// Signal sends the process a signal. That it ended already is no failure.
func (p *Proxy) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("sending %v to the proxy: %v", s, err)
	}
}

// Wait returns the exit code of the process, -1 if a signal ended it, and fails
// the test if it has not ended within limit.
func (p *Proxy) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("the proxy has not ended within %v", limit)
		return -1
	}
}

// Stop ends the proxy politely (SIGTERM), within limit, and fails the test if its
// exit code is not 0.
func (p *Proxy) Stop(limit time.Duration) {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(limit); code != 0 {
		p.t.Errorf("exit code of the proxy: %d, want 0", code)
	}
}

// Kill ends the process by SIGKILL, if it has not ended, and returns when it has.
func (p *Proxy) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.Wait(endLimit)
}

// CloseLog goes away as the reader of the proxy's log: what it writes from now on
// is an error to it.
func (p *Proxy) CloseLog() {
	p.t.Helper()
	if err := p.log.Close(); err != nil {
		p.t.Fatalf("closing the proxy's log: %v", err)
	}
}

// Log is all that the process wrote to its standard error and output.
func (p *Proxy) Log() string {
	lines, _ := p.out.look()
	return strings.Join(lines, "\n")
}

// LogLines returns the lines of the log that contain every one of the texts.
func (p *Proxy) LogLines(texts ...string) []string {
	lines, _ := p.out.look()
	return slices.DeleteFunc(lines, func(line string) bool {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
}

// WaitLog returns the first line of the log that contains text, as soon as there
// is one, and fails the test if there is none within limit.
func (p *Proxy) WaitLog(text string, limit time.Duration) string {
	p.t.Helper()
	return p.WaitLogN(1, text, limit)
}

// WaitLogN is WaitLog for the nth such line.
func (p *Proxy) WaitLogN(n int, text string, limit time.Duration) string {
	p.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		_, more := p.out.look()
		if lines := p.LogLines(text); len(lines) >= n {
			return lines[n-1]
		}
		select {
		case <-more:
		case <-p.ended:
			if lines := p.LogLines(text); len(lines) >= n {
				return lines[n-1]
			}
			p.t.Fatalf("the proxy ended (%v) and did not say %q %d times", p.cmd.ProcessState, text, n)
		case <-timeout.C:
			p.t.Fatalf("the proxy did not say %q %d times within %v", text, n, limit)
		}
	}
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
