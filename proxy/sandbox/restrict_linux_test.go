package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// taskEnv has this test binary be a process that restricts itself, which cannot be
// undone, and then tries what it can.
const taskEnv = "SANDBOX_TEST_TASK"

// task is what that process is told.
type task struct {
	Dir         string
	Open, Other uint16     // ports; Open is allowed
	Abstract    bool       // Unix sockets without a file may be connected to
	Filter      unix.Errno // what a seccomp filter answers to Landlock's calls, 0: no filter
}

// answer is what it says: first what Restrict said, then what became of each try,
// empty if it could be done.
type answer struct {
	Result  Result
	Missing string
	Tried   map[string]string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(taskEnv); text != "" {
		var t task
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			panic(err)
		}
		t.run()
		return
	}
	os.Exit(m.Run())
}

func (t task) options() Options {
	return Options{
		Read: []string{t.Dir + "/keys/key.jwk"}, Append: []string{t.Dir + "/rejected/file.jsonl"},
		Remove: []string{t.Dir + "/run/ilp.sock"}, Connect: []uint16{t.Open}, Names: true, AbstractSockets: t.Abstract,
	}
}

func (t task) run() {
	if t.Filter != 0 {
		if err := filterLandlock(t.Filter); err != nil {
			panic(err)
		}
	}
	socket, err := net.Listen("unix", t.Dir+"/run/ilp.sock")
	if err != nil {
		panic(err)
	}
	// A thread that is there before: it is restricted as well.
	begin, old := make(chan bool), make(chan map[string]string)
	go func() {
		runtime.LockOSThread()
		<-begin
		old <- t.try()
	}()
	out := json.NewEncoder(os.Stdout)
	a := answer{Result: Restrict(t.options())}
	if a.Result.Missing != nil {
		a.Missing, a.Result.Missing = a.Result.Missing.Error(), nil
	}
	_ = out.Encode(a)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	a.Tried = t.try()
	close(begin)
	for what, err := range <-old {
		a.Tried["old thread: "+what] = err
	}
	a.Tried["remove the socket"] = text(socket.Close())
	if _, err := os.Lstat(t.Dir + "/run/ilp.sock"); err == nil {
		a.Tried["remove the socket"] = "it is there"
	}
	_ = out.Encode(a)
}

// abstract is the name of the test's Unix socket without a file.
func (t task) abstract() string { return "@" + t.Dir }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// try returns what became of each thing that can be tried.
func (t task) try() map[string]string {
	dial := func(port uint16) error {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	read := func(path string) error {
		_, err := os.ReadFile(path)
		return err
	}
	create := func(path string) error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			_, err = io.WriteString(f, "x\n")
			_ = f.Close()
		}
		return err
	}
	rotate := func() error {
		path := t.Dir + "/rejected/file.jsonl"
		if err := errors.Join(create(path), os.Truncate(path, 0), os.Rename(path, path+".1"), create(path)); err != nil {
			return err
		}
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return err
		}
		return errors.Join(dir.Sync(), dir.Close())
	}
	listen := func() error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false) // of which Landlock knows nothing
		l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	notify := func() error {
		conn, err := net.Dial("unixgram", t.abstract())
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	return map[string]string{
		"tell systemd":               text(notify()),
		"read the key":               text(read(t.Dir + "/keys/key.jwk")),
		"rotate the file":            text(rotate()),
		"read the nameservers":       text(read("/etc/resolv.conf")),
		"read its own state":         text(read("/proc/self/stat")),
		"list its own files":         text(func() error { _, err := os.ReadDir("/proc/self/fd"); return err }()),
		"connect to QuestDB":         text(dial(t.Open)),
		"no: connect elsewhere":      text(dial(t.Other)),
		"no: listen":                 text(listen()),
		"no: read another file":      text(read(t.Dir + "/other/secret")),
		"no: read it through a link": text(read(t.Dir + "/keys/out")),
		"no: read another's state":   text(read(fmt.Sprintf("/proc/%d/stat", os.Getppid()))),
		"no: write beside the key":   text(create(t.Dir + "/keys/new")),
		"no: write beside a socket":  text(create(t.Dir + "/run/new")),
		"no: remove the key":         text(os.Remove(t.Dir + "/keys/key.jwk")),
		"no: list a folder":          text(func() error { _, err := os.ReadDir(t.Dir); return err }()),
		"no: run a program":          text(exec.Command(os.Args[0], "-test.list=^$").Run()),
	}
}

// filterLandlock has the kernel answer Landlock's calls with errno, as one without it,
// or a container's seccomp filter, does.
func filterLandlock(errno unix.Errno) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: unix.SYS_LANDLOCK_CREATE_RULESET, Jf: 2},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: unix.SYS_LANDLOCK_RESTRICT_SELF, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if e != 0 {
		return e
	}
	return nil
}

// run has a process do t; between is called when it has restricted itself.
func run(t *testing.T, do task, between func()) (a answer) {
	t.Helper()
	data, err := json.Marshal(do)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), taskEnv+"="+string(data))
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	said := json.NewDecoder(out)
	if err := said.Decode(&a); err != nil {
		t.Fatalf("the process said nothing: %v", err)
	}
	between()
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	if err := said.Decode(&a); err != nil {
		t.Fatalf("the process ended early: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return a
}

// folders makes what the process works on, with a key as Kubernetes mounts one.
func folders(t *testing.T) (do task) {
	t.Helper()
	do.Dir = t.TempDir()
	var errs []error
	for _, dir := range []string{"keys/..1", "rejected", "run", "other"} {
		errs = append(errs, os.MkdirAll(filepath.Join(do.Dir, dir), 0o700))
	}
	errs = append(errs,
		os.WriteFile(do.Dir+"/keys/..1/key.jwk", []byte("first"), 0o600),
		os.WriteFile(do.Dir+"/other/secret", []byte("secret"), 0o600),
		os.Symlink("..1", do.Dir+"/keys/..data"),
		os.Symlink("..data/key.jwk", do.Dir+"/keys/key.jwk"),
		os.Symlink("../other/secret", do.Dir+"/keys/out"))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: do.abstract(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, port := range []*uint16{&do.Open, &do.Other} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		*port = uint16(l.Addr().(*net.TCPAddr).Port)
	}
	return do
}

// swap replaces the key as Kubernetes does.
func swap(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.Mkdir(dir+"/keys/..2", 0o700),
		os.WriteFile(dir+"/keys/..2/key.jwk", []byte("second"), 0o600),
		os.Symlink("..2", dir+"/keys/..new"),
		os.Rename(dir+"/keys/..new", dir+"/keys/..data"),
		os.RemoveAll(dir+"/keys/..1")); err != nil {
		t.Fatal(err)
	}
}

// TestRestrict has a process try what it needs, which works, and what it does not,
// which is denied on every thread.
func TestRestrict(t *testing.T) {
	t.Parallel()
	abi, err := ll.LandlockGetABIVersion()
	if err != nil {
		t.Skipf("NOT TESTED that the sandbox bites: this kernel has no Landlock (%v)", explain(err))
	}
	for name, abstract := range map[string]bool{"as systemd does": true, "otherwise": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRestrict(t, abi, abstract)
		})
	}
}

func testRestrict(t *testing.T, abi int, abstract bool) {
	do := folders(t)
	do.Abstract = abstract
	a := run(t, do, func() { swap(t, do.Dir) })
	if !a.Result.NewPrivileges || !a.Result.Files || a.Result.Ports != (abi >= portsABI) || (a.Missing == "") != (abi >= portsABI) {
		t.Errorf("%+v, missing %q", a.Result, a.Missing)
	}
	if len(a.Tried) < 30 {
		t.Errorf("only %d things were tried", len(a.Tried))
	}
	for what, err := range a.Tried {
		denied := strings.Contains(err, "permission denied")
		if strings.HasSuffix(what, "tell systemd") {
			// The library leaves it be where the kernel has a fault in what belongs to it.
			errata, _ := ll.LandlockGetErrata()
			if denies := !abstract && abi >= 6 && errata&2 != 0; (err != "") != denies {
				t.Errorf("%s: %q, denied should be %v", what, err, denies)
			}
			continue
		}
		switch must := strings.Contains(what, "no: "); {
		case abi < portsABI && (strings.HasSuffix(what, "listen") || strings.HasSuffix(what, "elsewhere")):
		case must && !denied:
			t.Errorf("%s: not denied: %q", what, err)
		case !must && err != "":
			t.Errorf("%s: %s", what, err)
		}
	}
}

// TestNoLandlock is on kernels that lack it, or seem to: all works as before, and the
// result says why.
func TestNoLandlock(t *testing.T) {
	t.Parallel()
	for errno, want := range map[unix.Errno]string{
		unix.ENOSYS:     "CONFIG_SECURITY_LANDLOCK",
		unix.EOPNOTSUPP: "lsm=",
		unix.EPERM:      "allow landlock_create_ruleset",
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			do := folders(t)
			do.Filter = errno
			a := run(t, do, func() { swap(t, do.Dir) })
			if !a.Result.NewPrivileges || a.Result.Files || a.Result.Ports || !strings.Contains(a.Missing, want) {
				t.Errorf("%+v, missing %q, want %q", a.Result, a.Missing, want)
			}
			for what, err := range a.Tried {
				if strings.Contains(err, "permission denied") {
					t.Errorf("%s: %s", what, err)
				}
			}
		})
	}
}
