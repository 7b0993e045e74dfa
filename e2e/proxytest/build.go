package proxytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"questdb-ilp-proxy/proxy/cli"
)

// proxyMain is the proxy itself: what `go test` remembers of a run is only right until
// the test's binary changes, and an import alone has nothing of the proxy in that.
var proxyMain = cli.Main

// raced is the proxy's binary with the race detector, plain the one that people
// run, which is static. Each is built once per test process; if nothing changed since an earlier
// run that is quick.
var (
	raced = sync.OnceValues(func() (string, error) { return build("questdb-ilp-proxy", "-race", "CGO_ENABLED=1") })
	plain = sync.OnceValues(func() (string, error) { return build("questdb-ilp-proxy-plain", "-race=false", "CGO_ENABLED=0") })
)

// build builds the proxy and returns the path of the binary.
func build(name, flag, env string) (string, error) {
	if proxyMain == nil {
		return "", errors.New("there is no proxy to build")
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", "e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the folder for the proxy's binary: %w", err)
	}
	// Packages are tested in parallel, each by a process of its own.
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, name)
	cmd := exec.CommandContext(context.Background(), "go", "build", flag, "-buildvcs=false", "-o", path, ".")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the proxy: %w\n%s", err, out)
	}
	return path, nil
}

// moduleRoot is the folder of go.mod: tests run in their package's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for go.mod: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("looking for go.mod: it is in no folder above")
		}
		dir = parent
	}
}

// lock waits until this process alone holds the lock of the file at path.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a lock file: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
	}
}
