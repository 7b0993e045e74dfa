package questdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"questdb-ilp-proxy/auth"
)

// Options say which server to run and how. The zero value is a server of
// [DefaultVersion] that demands authentication and knows no key.
type Options struct {
	// Version is one of [Versions]; "" is [DefaultVersion].
	Version string

	// Keys may authenticate on the ILP port.
	Keys []*auth.Key
	// AuthLines are further lines for auth.txt, taken as they are.
	AuthLines []string
	// NoAuth leaves the ILP port open to everyone.
	NoAuth bool

	// AllAddresses has the ILP port listen on all addresses of the machine.
	AllAddresses bool

	// Conf are further settings for server.conf; they win over this package's.
	Conf map[string]string
	// JavaOpts are further options for the JVM. By default it has a 256 MiB heap,
	// the serial collector and the quick compiler alone, which starts fast and
	// leaves CPU to others; to measure throughput, give -XX:TieredStopAtLevel=4.
	JavaOpts []string

	// Root is the server's root folder, which then is the caller's to remove; ""
	// makes one that is removed with the server.
	Root string
	// Limits bound what the server may use.
	Limits Limits
	// Later leaves the first start to the caller: the server has its ports, where
	// nothing answers yet.
	Later bool

	// Logf is told of starts and ends; nil is silent.
	Logf func(format string, args ...any)
}

// Limits are resource limits of a server process.
type Limits struct {
	// NoFile is the number of files the server may have open (ulimit -n); 0 means
	// 1,048,576, or as many as this process may give.
	NoFile uint64
}

// Process is one server: its folder, its ports and, while it runs, its process.
// Its methods are not for concurrent use, except Query, Count and the addresses.
type Process struct {
	opts          Options
	java, jar     string
	ilp, http, pg *reservation
	home          *home
	root          string

	pid   int
	ended chan struct{} // closed when the process pid ended; nil before the first start
	state error         // how it ended; valid once ended is closed
}

// Run prepares a server, starts it, and returns when it answers on all its
// ports; with Options.Later it only prepares it. The caller must Close it.
func Run(ctx context.Context, o Options) (_ *Process, err error) {
	if o.Version == "" {
		o.Version = DefaultVersion
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	p := &Process{opts: o}
	p.java, err = findJava(ctx)
	var jarErr error
	p.jar, jarErr = Jar(ctx, o.Version)
	if err := errors.Join(err, jarErr); err != nil { // all that is missing at once
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for r, everywhere := range map[**reservation]bool{&p.ilp: o.AllAddresses, &p.http: false, &p.pg: false} {
		if *r, err = reservePort(everywhere); err != nil {
			return nil, err
		}
	}
	if p.home, err = newHome(); err != nil {
		return nil, err
	}
	if p.root = o.Root; p.root == "" {
		p.root = p.home.path("root")
	}
	if err := p.SetKeys(o.Keys...); err != nil {
		return nil, err
	}
	if o.Later {
		return p, nil
	}
	return p, p.Start(ctx)
}

// ILP is the address, host:port, of the ILP/TCP port. All addresses stay the
// same over restarts.
func (p *Process) ILP() string { return p.ilp.addr }

// bindILP is what the ILP port listens on.
func (p *Process) bindILP() string {
	if p.opts.AllAddresses {
		return net.JoinHostPort("0.0.0.0", strconv.Itoa(p.ilp.port))
	}
	return p.ilp.addr
}

// HTTP is the address of the HTTP server. That of 7.x rarely answers.
func (p *Process) HTTP() string { return p.http.addr }

// PG is the address of the PostgreSQL wire: user admin, password quest,
// database qdb.
func (p *Process) PG() string { return p.pg.addr }

// Root is the server's root folder.
func (p *Process) Root() string { return p.root }

// Version is the server's version.
func (p *Process) Version() string { return p.opts.Version }

// PID is the id of the server's process and process group, of the last one if
// it is not running.
func (p *Process) PID() int { return p.pid }

// SetKeys rewrites auth.txt: from its next start on, the server knows these
// keys and the options' AuthLines.
func (p *Process) SetKeys(keys ...*auth.Key) error {
	lines := make([]string, 0, len(keys)+len(p.opts.AuthLines))
	for _, k := range keys {
		lines = append(lines, k.AuthLine())
	}
	return p.writeAuth(append(lines, p.opts.AuthLines...))
}

// SetConf changes settings of server.conf from the next start on.
func (p *Process) SetConf(conf map[string]string) {
	merged := make(map[string]string, len(p.opts.Conf)+len(conf))
	for _, m := range []map[string]string{p.opts.Conf, conf} {
		for k, v := range m {
			merged[k] = v
		}
	}
	p.opts.Conf = merged
}

// Log is all that the server wrote to its log, over all its starts.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.home.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Done is closed when the running server ends.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Running tells whether the server's process is there, paused or not.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return p.ended != nil
	}
}

// Start starts a server that is not running, on its data and its ports, and
// returns when it answers.
func (p *Process) Start(ctx context.Context) error {
	begun := time.Now()
	if err := p.Launch(); err != nil {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return errors.Join(err, p.Kill())
	}
	p.opts.Logf("QuestDB %s answers after %d ms: ilp %s, http %s, pg %s",
		p.opts.Version, time.Since(begun).Milliseconds(), p.ILP(), p.HTTP(), p.PG())
	return nil
}

// The limit is set by the shell that then becomes the server, so that it holds
// from the first instruction. $1 is the limit, "" for as many as there can be.
const launchScript = `
if [ -n "$1" ]; then ulimit -n "$1" || exit; else ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -Hn)"; fi
shift
exec "$@"
`

// Launch is Start without waiting for the server to answer.
func (p *Process) Launch() error {
	if p.Running() {
		return errors.New("starting QuestDB: it is running")
	}
	if err := p.writeConf(); err != nil {
		return err
	}
	log, err := os.OpenFile(p.home.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening QuestDB's log: %w", err)
	}
	defer log.Close()

	limit := ""
	if n := p.opts.Limits.NoFile; n != 0 {
		limit = strconv.FormatUint(n, 10)
	}
	args := []string{"-c", launchScript, "questdb", limit, p.java,
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-XX:-UsePerfData", // else a file in /tmp
		"-Djava.io.tmpdir=" + p.home.path("tmp"),
	}
	args = append(args, p.opts.JavaOpts...)
	args = append(args, "-p", p.jar, "-m", "io.questdb/io.questdb.ServerMain", "-d", p.root)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir = p.home.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	ended := make(chan struct{})
	go p.run(cmd, started, ended)
	if err := <-started; err != nil {
		return fmt.Errorf("starting QuestDB: %w", err)
	}
	p.pid, p.ended = cmd.Process.Pid, ended
	if err := p.home.running(p.pid); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

// run starts cmd and waits for its end, on one thread: the kernel sends
// Pdeathsig when the thread dies that started the process, which otherwise could
// be any of this process's threads, long before its end.
func (p *Process) run(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.state = cmd.Wait()
	close(ended)
}

// stopLimit bounds a polite stop; a server with much to commit takes seconds.
const stopLimit = 60 * time.Second

// Stop ends the server politely (SIGTERM) and returns when it has ended. One
// that does not within a minute is killed, and that is an error.
func (p *Process) Stop() error {
	if !p.Running() {
		return nil
	}
	begun := time.Now()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	// A paused server would never see it.
	if err := p.signal(syscall.SIGCONT); err != nil {
		return err
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		return errors.Join(fmt.Errorf("stopping QuestDB: still there %v after SIGTERM, so killed", stopLimit), p.Kill())
	}
	p.opts.Logf("QuestDB %s stopped within %d ms: %v", p.opts.Version, time.Since(begun).Milliseconds(), p.state)
	return p.home.running(0)
}

// Kill ends the server by SIGKILL and returns when it has ended.
func (p *Process) Kill() error {
	if !p.Running() {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	p.opts.Logf("QuestDB %s killed: %v", p.opts.Version, p.state)
	return p.home.running(0)
}

// Pause stops the server in its tracks (SIGSTOP), its connections open, and
// returns when all its threads stand still.
func (p *Process) Pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for p.Running() {
		stopped, err := p.stopped()
		if stopped || err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // the kernel tells nobody
	}
	return errors.New("pausing QuestDB: it ended")
}

// Resume lets a paused server go on (SIGCONT).
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// Restart starts the server again on its data and its ports, after a polite
// stop if it is running, and returns when it answers.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.Start(ctx)
}

// Close kills the server if it is running, frees its ports and removes its
// folder, apart from a Root that the options named.
func (p *Process) Close() error {
	var errs []error
	if p.home != nil {
		errs = append(errs, p.Kill(), p.home.close())
		p.home = nil
	}
	for _, r := range []**reservation{&p.ilp, &p.http, &p.pg} {
		if *r != nil {
			(*r).close()
			*r = nil
		}
	}
	return errors.Join(errs...)
}

func (p *Process) signal(s syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("sending %v to QuestDB: it is not running", s)
	}
	// The whole group. The process may have ended just now, that is no error.
	if err := syscall.Kill(-p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %v to QuestDB: %w", s, err)
	}
	return nil
}

// stopped tells whether every thread is in the state T.
func (p *Process) stopped() (bool, error) {
	dir := fmt.Sprintf("/proc/%d/task", p.pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("looking whether QuestDB stands still: %w", err)
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(dir + "/" + task.Name() + "/stat")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread that ended meanwhile
		}
		if err != nil {
			return false, fmt.Errorf("looking whether QuestDB stands still: %w", err)
		}
		// The state follows the name, which is in parentheses and may hold anything.
		_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), ") ")
		if !strings.HasPrefix(rest, "T") {
			return false, nil
		}
	}
	return true, nil
}
