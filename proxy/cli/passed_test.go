package cli

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// FuzzListenFDs lets nothing but the files that are there be taken, whatever
// LISTEN_FDS says.
func FuzzListenFDs(f *testing.F) {
	for _, seed := range []string{"1", "3", "4", "-1", "", "0x3", "9223372036854775807", "1000000", " 2", "+2", "二"} {
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, fds string, there uint8) {
		looked := 0
		err := checkPassed(fds, func(fd int) bool {
			looked++
			return fd >= firstPassed && fd < firstPassed+int(there)
		})
		n, numErr := strconv.Atoi(fds)
		if takes := numErr == nil && n > int(there); (err != nil) != takes {
			t.Errorf("%q with %d files there: %v", fds, there, err)
		}
		if looked > int(there)+1 {
			t.Errorf("%q: looked at %d files", fds, looked)
		}
	})
}

func TestPassable(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !isPassable(int(w.Fd())) {
		t.Error("a file that is open was none")
	}
	_ = w.Close()
	if isPassable(1 << 20) {
		t.Error("a file that is not open was one")
	}
}

// TestTooManyPassed has LISTEN_FDS claim files that systemd did not pass: not one is
// taken over.
func TestTooManyPassed(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "1000000")
	files, err := passedFiles()
	if err == nil || len(files) > 0 || !strings.Contains(err.Error(), "LISTEN_FDS") {
		t.Errorf("%d files, %v", len(files), err)
	}
	t.Setenv("LISTEN_PID", "1") // for another process: that is no fault
	if files, err := passedFiles(); err != nil || len(files) > 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
