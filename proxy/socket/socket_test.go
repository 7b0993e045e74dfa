package socket

import (
	"errors"
	"syscall"
	"testing"
)

func TestPair(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	reader, writer := uintptr(fds[0]), uintptr(fds[1])
	p := make([]byte, 4)
	if n, err := Recv(reader, p); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("nothing there: %d, %v; want EAGAIN", n, err)
	}
	if n, err := Send(writer, []byte("abcdef")); n != 6 || err != nil {
		t.Errorf("sent %d, %v", n, err)
	}
	for _, want := range []string{"abcd", "ef"} {
		if n, err := Recv(reader, p); string(p[:n]) != want || err != nil {
			t.Errorf("received %q, %v; want %q", p[:n], err, want)
		}
	}
	for _, size := range []int{mostUntold, mostUntold + 1} {
		full, n := make([]byte, size), 0
		for err = nil; err == nil; {
			n, err = Send(writer, full)
		}
		if n != 0 || !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("%d bytes into a full socket: %d, %v; want EAGAIN", size, n, err)
		}
	}
	if err := syscall.Close(fds[0]); err != nil {
		t.Fatal(err)
	}
	if n, err := Send(writer, []byte("x")); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("nobody reads: %d, %v; want EPIPE", n, err)
	}
	if err := syscall.Close(fds[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := Recv(writer, p); !errors.Is(err, syscall.EBADF) {
		t.Errorf("closed: %v, want EBADF", err)
	}
}

func TestDoesNotAllocate(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	row, p := []byte("t v=1i\n"), make([]byte, 64)
	n := testing.AllocsPerRun(100, func() {
		_, _ = Send(uintptr(fds[1]), row)
		_, _ = Recv(uintptr(fds[0]), p)
		_, _ = Recv(uintptr(fds[0]), p) // nothing more
	})
	if n != 0 {
		t.Errorf("%v allocations for a row", n)
	}
}
