package questdb

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// home is the folder that holds all that a server writes, and the guard that
// removes it.
//
// The guard is a shell that waits for the end of its standard input, which
// comes when this process closes it or dies, however it dies: a test that runs
// into its time limit, or a SIGKILL, runs no cleanup. Then it kills the server
// that it was last told of and removes the folder.
type home struct {
	dir   string
	guard *exec.Cmd
	tell  io.WriteCloser
}

// A second rm, since a server just killed may still have been writing.
const guardScript = `
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -KILL -- "-$pid" 2>/dev/null
rm -rf -- "$1" 2>/dev/null || { sleep 0.2; rm -rf -- "$1"; }
`

func newHome() (*home, error) {
	dir, err := os.MkdirTemp("", "questdb-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for QuestDB: %w", err)
	}
	guard := exec.Command("/bin/sh", "-c", guardScript, "guard", dir)
	// Its own process group, so that Ctrl-C ends this process and not the guard.
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tell, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("starting the guard of QuestDB's folder: %w", err)
	}
	h := &home{dir: dir, guard: guard, tell: tell}
	// Native libraries and work files that a killed JVM leaves behind go here.
	if err := os.Mkdir(h.path("tmp"), 0o700); err != nil {
		h.close()
		return nil, fmt.Errorf("making a folder for QuestDB: %w", err)
	}
	return h, nil
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// running tells the guard which process group to kill; 0 for none.
func (h *home) running(pgid int) error {
	line := "\n"
	if pgid != 0 {
		line = fmt.Sprintf("%d\n", pgid)
	}
	if _, err := io.WriteString(h.tell, line); err != nil {
		return fmt.Errorf("telling the guard of QuestDB's folder: %w", err)
	}
	return nil
}

// close has the guard remove the folder and waits until it did.
func (h *home) close() error {
	h.tell.Close()
	if err := h.guard.Wait(); err != nil {
		return fmt.Errorf("removing QuestDB's folder %s: %w", h.dir, err)
	}
	return nil
}
