package writers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// A scene is the QuestDB and the proxy that all writers share. The test is the
// one that ends when all writers have played.
type scene struct {
	*testing.T
	db    *questdb.Server
	proxy *proxytest.Proxy
	env   proxytest.Env
	// port and socket are where the proxy listens; port is for UDP too.
	port, socket string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	ports, release, err := questdb.ReservePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	dir, err := os.MkdirTemp("", "ilp") // a test's own is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sc := &scene{T: t, port: strconv.Itoa(ports[0]), socket: filepath.Join(dir, "ilp.sock")}
	sc.db = questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	listen := fmt.Sprintf("tcp://localhost:%s,udp://localhost:%[1]s,unix://%s", sc.port, sc.socket)
	sc.env = proxytest.EnvFor(key, sc.db.ILP()).With("ILP_LISTEN", listen, "ILP_RETRY_MAX", "1s")
	sc.startProxy()
	return sc
}

func (sc *scene) startProxy() {
	sc.Helper()
	sc.proxy = proxytest.Start(sc.T, sc.env)
}

func (sc *scene) stopProxy() {
	sc.Helper()
	sc.proxy.Stop(arrive)
}

// settled returns when the proxy holds no records.
func (sc *scene) settled() {
	sc.Helper()
	sc.proxy.WaitMetric(arrive, proxytest.Equal(0), "journal_records")
}

// accepted returns when the proxy holds so many records.
func (sc *scene) accepted(n int) {
	sc.Helper()
	sc.proxy.WaitMetric(arrive, proxytest.AtLeast(float64(n)), "journal_records")
}

// wait returns when as many different rows of w are in QuestDB, and fails the test if
// there are more.
func (sc *scene) wait(t *testing.T, w writer, least, most int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), arrive)
	defer cancel()
	for {
		got, err := sc.db.Query(ctx, w.rows)
		if err == nil {
			n, err := strconv.Atoi(got[0][0])
			if err != nil || n > most {
				t.Fatalf("%s: %v, want %d at most", w.rows, got, most)
			}
			if n >= least {
				return
			}
		}
		select {
		case <-time.After(50 * time.Millisecond): // SQL has no way to be told of new rows
		case <-ctx.Done():
			t.Fatalf("%s: %v after %v, want %d (%v)", w.rows, got, arrive, least, err)
		}
	}
}

// A setup is what a writer needs to start. Its test is the one in which that
// happens: a writer goes on until the scene's ends.
type setup struct {
	*testing.T
	sc   *scene
	dir  string
	page map[string]string
	writer
	*process // what run started, if anything
}

func (sc *scene) setup(t *testing.T, w writer) *setup {
	t.Helper()
	return &setup{T: t, sc: sc, dir: sc.TempDir(), page: files(t, w.page), writer: w}
}

var port = regexp.MustCompile(`\b9009\b`)

// file writes a file of the page to the writer's folder and returns its path.
// Replace are texts that are on the page and what comes in their place.
func (s *setup) file(name string, replace ...string) string {
	s.Helper()
	text, ok := s.page[name]
	if !ok {
		s.Fatalf("%s.md has no %s", s.writer.page, name)
	}
	text = port.ReplaceAllString(text, s.sc.port)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			s.Fatalf("%s of %s.md has no %s", name, s.writer.page, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return s.write(name, text, 0o755)
}

// write writes a file that is not on the page.
func (s *setup) write(name, text string, mode os.FileMode) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.Fatal(err)
	}
	return path
}

// run has cmd go on until the scene ends, or the test's process. What it says is
// shown if the scene's test failed.
func (s *setup) run(cmd *exec.Cmd) {
	s.Helper()
	p := &process{cmd: cmd, said: &output{}}
	if err := p.start(); err != nil {
		s.Fatal(err)
	}
	s.process = p
	name := s.name
	s.sc.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if s.sc.Failed() {
			s.sc.Logf("%s said:\n%s", name, p.said)
		}
	})
}

// A process is a writer that goes on.
type process struct {
	cmd   *exec.Cmd
	said  *output
	ended chan struct{} // closed when it ended
}

func (p *process) start() error {
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // a signal ends it
			close(p.ended)
		}
	}()
	return <-started
}

// end has the process and its children end by a signal, and returns when it has.
func (p *process) end(sig syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, sig) // it may have ended
	<-p.ended
}

// again ends the process as systemd does, and starts it again.
func (p *process) again() error {
	p.end(syscall.SIGTERM)
	cmd := exec.Command(p.cmd.Path)
	cmd.Args, cmd.Env, cmd.Dir = p.cmd.Args, p.cmd.Env, p.cmd.Dir
	p.cmd = cmd
	return p.start()
}

// output is what a process says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// lines starts a program that writes a row for each line of its input, and
// returns how to give it some: "NAME NUMBER".
func (s *setup) lines(cmd *exec.Cmd) write {
	s.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	s.run(cmd)
	name := s.name
	return func(_ context.Context, from, to int) error {
		for n := from; n < to; n++ {
			if _, err := fmt.Fprintf(in, "%s %d\n", name, n); err != nil {
				return fmt.Errorf("giving it a line: %w", err)
			}
			<-time.After(pace)
		}
		return nil
	}
}

// to gives a program its rows by a Unix socket, and returns how. That works again
// when the program was started again.
func (s *setup) to(path string, row func(n int) string) write {
	p := s.process
	return func(ctx context.Context, from, to int) error {
		ctx, cancel := context.WithTimeout(ctx, arrive)
		defer cancel()
		conn, err := p.dial(ctx, path)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(arrive))
		for n := from; n < to; n++ {
			if _, err := fmt.Fprint(conn, row(n)); err != nil {
				return fmt.Errorf("giving it a row: %w", err)
			}
			<-time.After(pace)
		}
		if err := conn.CloseWrite(); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn) // it has read all, and some answer
		return err
	}
}

// dial connects to a socket of the process, as soon as it listens.
func (p *process) dial(ctx context.Context, path string) (*net.UnixConn, error) {
	for {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			return conn, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.ended:
			return nil, fmt.Errorf("it ended:\n%s", p.said)
		case <-ctx.Done():
			return nil, fmt.Errorf("it does not listen: %w\n%s", err, p.said)
		}
	}
}

// tool returns the path of a program, or fails with how to install it.
func (s *setup) tool(name, install string) string {
	s.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		s.Fatalf("no %s here: %s", name, install)
	}
	return path
}

// socketIn returns a path for a Unix socket on which a writer is given its rows.
func (s *setup) socketIn() string {
	return filepath.Join(filepath.Dir(s.sc.socket), s.name)
}

// daemon returns the path of a program that is not installed, because it would
// become this machine's own: from the folder root into which unpack.sh puts its
// Debian package, if need be now. Where the machine has it all the same root may be "".
func (s *setup) daemon(pkg, name string) (path, root string) {
	s.Helper()
	root, err := filepath.Abs("../../build/writers/" + pkg)
	if err != nil {
		s.Fatal(err)
	}
	for _, root := range []string{root, ""} {
		if _, err := os.Stat(root + "/usr/sbin/" + name); err == nil {
			return root + "/usr/sbin/" + name, root
		}
	}
	if out, err := exec.CommandContext(s.Context(), "./unpack.sh", pkg).CombinedOutput(); err != nil {
		s.Fatalf("no %s here, and e2e/writers/unpack.sh does not get it: %v\n%s", name, err, out)
	}
	return root + "/usr/sbin/" + name, root
}

// libraries is the environment in which programs under root find their libraries,
// those in more folders too.
func libraries(root string, more ...string) []string {
	return append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(append(multiarch(root, ""), more...), ":"))
}

// multiarch returns the folders of that name in the libraries' folders under root.
func multiarch(root, name string) []string {
	var found []string
	for _, dir := range []string{"/usr/lib/*-linux-*", "/lib/*-linux-*"} {
		some, _ := filepath.Glob(filepath.Join(root+dir, name)) // the pattern is right
		found = append(found, some...)
	}
	return found
}

// trades is the query for those whose rows are trades of a symbol of their name.
func trades(name string) string {
	return fmt.Sprintf("select count_distinct(price) from trades where symbol = '%s'", name)
}
