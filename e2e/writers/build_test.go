package writers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A workshop is build/writers/NAME: what a writer needs, fetched or built once on
// this machine and in this clone. It is locked until the test ends that opened it.
type workshop struct {
	*testing.T
	dir string
}

// workshop opens one. Inputs are files of e2e/writers/NAME that pin versions: when
// they or the command change, the folder is emptied and the command run there.
func (s *setup) workshop(name string, inputs []string, command ...string) *workshop {
	s.Helper()
	dir, err := filepath.Abs("../../build/writers/" + name)
	if err != nil {
		s.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		s.Fatal(err)
	}
	// Another `go test` may be about to do the same.
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { lock.Close() })
	for errors.Is(err, unix.EINTR) || err == nil {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); err == nil {
			break
		}
	}
	if err != nil {
		s.Fatalf("locking %s: %v", dir, err)
	}
	w := &workshop{s.T, dir}
	sum := sha256.New()
	texts := map[string][]byte{}
	for _, input := range inputs {
		text, err := os.ReadFile(filepath.Join(name, input))
		if err != nil {
			s.Fatal(err)
		}
		texts[input] = text
		fmt.Fprintf(sum, "%s %d\n%s", input, len(text), text)
	}
	fmt.Fprint(sum, command)
	want := []byte(hex.EncodeToString(sum.Sum(nil)))
	stamp := filepath.Join(dir, ".made-of")
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, want) {
		return w
	}
	if err := os.RemoveAll(dir); err != nil {
		s.Fatal(err)
	}
	for _, input := range inputs {
		w.write(input, string(texts[input]))
	}
	if len(inputs) == 0 {
		w.write(".keep", "")
	}
	w.run(nil, command...)
	w.write(".made-of", string(want))
	return w
}

// write puts a file into the workshop.
func (w *workshop) write(name, text string) {
	w.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.Fatal(err)
	}
}

// run runs a command in the workshop, with more in its environment.
func (w *workshop) run(env []string, command ...string) {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}
