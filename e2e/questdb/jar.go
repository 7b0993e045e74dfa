package questdb

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultVersion is the server that tests use when they name none.
const DefaultVersion = "9.3.4"

// Versions returns every server version that pom.xml pins, newest first.
func Versions() []string { return []string{DefaultVersion, "8.2.0", "7.4.2"} }

//go:embed pom.xml
var pom []byte

// Jar returns the path of the server jar of that version. The first call on a
// machine fetches it with Maven into build/questdb under the module's root,
// where git ignores it; later calls, from whatever process, find it there. The
// error says what is missing and which command installs it.
func Jar(ctx context.Context, version string) (string, error) {
	if !slices.Contains(Versions(), version) {
		return "", fmt.Errorf("QuestDB %s is not one of those in e2e/questdb/pom.xml: %s",
			version, strings.Join(Versions(), ", "))
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", "questdb")
	jar := filepath.Join(dir, "questdb-"+version+".jar")
	if _, err := os.Stat(jar); err == nil {
		return jar, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the folder for QuestDB: %w", err)
	}

	// Packages are tested in parallel, each by a process of its own.
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(jar); err == nil {
		return jar, nil
	}
	if err := fetch(ctx, version, jar); err != nil {
		return "", fmt.Errorf("fetching QuestDB %s: %w", version, err)
	}
	return jar, nil
}

// Prepare makes sure that a server of that version can be started: Java is
// there, and the jar fetched. It names all that is missing at once.
func Prepare(ctx context.Context, version string) error {
	_, javaErr := findJava(ctx)
	_, jarErr := Jar(ctx, version)
	return errors.Join(javaErr, jarErr)
}

// fetch lets Maven copy the jar into a folder of its own and then renames it
// into place, so that an interrupted copy is never taken for the real thing.
func fetch(ctx context.Context, version, jar string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return errors.New("no Maven (mvn) here; on Debian or Ubuntu: apt-get install maven")
	}
	tmp, err := os.MkdirTemp(filepath.Dir(jar), ".fetch-")
	if err != nil {
		return fmt.Errorf("making a folder to fetch into: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), pom, 0o644); err != nil {
		return fmt.Errorf("writing the pom to fetch with: %w", err)
	}
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "-ntp", "dependency:copy@"+version, "-Djars="+tmp)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mvn: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(filepath.Join(tmp, filepath.Base(jar)), jar)
}

// moduleRoot is the nearest folder upwards that holds a go.mod: where tests
// run, and the demo too.
func moduleRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the module's root: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the module's root: no go.mod in %s or above it", wd)
		}
	}
}

// lockFile waits for the exclusive lock on path, which the kernel releases
// should this process die.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a lock: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
