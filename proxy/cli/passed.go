package cli

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// firstPassed is the number of the first file that systemd passes.
const firstPassed = 3

// passedFiles returns the files that systemd passed to this process, and forgets
// them: they are not for children.
func passedFiles() ([]*os.File, error) {
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		if err := checkPassed(os.Getenv("LISTEN_FDS"), isPassable); err != nil {
			return nil, err
		}
	}
	return activation.Files(true), nil
}

// checkPassed returns an error if what LISTEN_FDS says cannot be: files are taken
// over by their numbers alone, and one too many would be one of the proxy's own.
func checkPassed(fds string, passable func(fd int) bool) error {
	n, err := strconv.Atoi(fds)
	if err != nil {
		return nil // none then
	}
	for i := range n {
		if fd := firstPassed + i; !passable(fd) {
			return fmt.Errorf("LISTEN_FDS is %.20q, and file %d is none that systemd passed; it is for systemd to set, with LISTEN_PID, when it starts the proxy", fds, fd)
		}
	}
	return nil
}

// isPassable reports whether a file is open, and not one of those without a type by
// which the runtime waits.
func isPassable(fd int) bool {
	var info syscall.Stat_t
	return syscall.Fstat(fd, &info) == nil && info.Mode&syscall.S_IFMT != 0
}
