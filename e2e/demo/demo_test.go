// Package demo tests the demo as somebody would run it.
package demo

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// demo is a demo.sh that runs in its own process group and temporary folder.
type demo struct {
	cmd  *exec.Cmd
	tmp  string
	out  *bufio.Reader
	seen bytes.Buffer
}

func start(t *testing.T) *demo {
	t.Helper()
	d := &demo{tmp: t.TempDir()}
	d.cmd = exec.CommandContext(t.Context(), "./demo.sh")
	// What the surroundings configure must not disturb it.
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp, "ILP_LISTEN=nonsense", "QDB_CLIENT_CONF=nonsense")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout // in the order of a terminal
	d.out = bufio.NewReader(io.TeeReader(out, &d.seen))
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// until reads the output up to the line that begins with prefix.
func (d *demo) until(t *testing.T, prefix string) {
	t.Helper()
	for {
		line, err := d.out.ReadString('\n')
		if err != nil {
			t.Fatalf("the demo ended before %q: %v\n%s", prefix, err, d.seen.String())
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
	}
}

// wait returns the exit code, and fails the test if anything is left.
func (d *demo) wait(t *testing.T) int {
	t.Helper()
	if _, err := io.Copy(io.Discard, d.out); err != nil { // ends when no process holds the pipe any more
		t.Error(err)
	}
	d.cmd.Wait() // the exit code tells
	if left, err := os.ReadDir(d.tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := syscall.Kill(-d.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("looking for processes left behind: %v, want none", err)
	}
	return d.cmd.ProcessState.ExitCode()
}

// TestTwiceAtOnce runs it to its end, twice at the same time.
func TestTwiceAtOnce(t *testing.T) {
	demos := []*demo{start(t), start(t)}
	for _, d := range demos {
		code := d.wait(t)
		out := d.seen.String()
		for _, want := range []string{"Refused", "SOL-USD  buy   188.22", "exit code 0"} {
			if !strings.Contains(out, want) {
				t.Errorf("the output lacks %q", want)
			}
		}
		if code != 0 || t.Failed() {
			t.Errorf("exit code %d\n%s", code, out)
		}
	}
}

// TestInterrupted interrupts it as Ctrl-C does, while QuestDB starts and while the
// proxy runs.
func TestInterrupted(t *testing.T) {
	for _, step := range []string{"3.", "6."} {
		t.Run("step "+step, func(t *testing.T) {
			d := start(t)
			d.until(t, step)
			if err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if code := d.wait(t); code != 130 {
				t.Errorf("exit code %d, want 130\n%s", code, d.seen.String())
			}
		})
	}
}
