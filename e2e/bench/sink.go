package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sink is a process that takes bytes and throws them away, as cheaply as the
// kernel can: MSG_TRUNC has it drop them without a copy. What it counts stands in
// memory that it shares with the load generator, so that looking costs nothing.

const (
	maxSamples = 1 << 16
	sinkRead   = 1 << 20 // bytes dropped at a time
	// timestampSize is the length of a row's timestamp, with zeros in front.
	timestampSize = 19
)

// counters is the memory that both processes share.
type counters struct {
	// Timed is set by the generator: rows carry the time at which they were sent.
	Timed uint32
	_     uint32
	Bytes int64 // what came, without handshakes
	Conns int64 // connections that were accepted
	Open  int64
	// Samples[:N] are the rows' ages on arrival in nanoseconds; the generator sets
	// N to 0.
	N       int64
	Samples [maxSamples]int64
}

func mapCounters(f *os.File) (*counters, error) {
	size := int(unsafe.Sizeof(counters{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	p, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*counters)(unsafe.Pointer(&p[0])), nil
}

// monotonic is the clock that both processes share.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // it cannot fail with a valid clock
	}
	return t.Nano()
}

// serveSink is the sink's process. Files 3, 4 and 5 are the counters, the
// listener without a handshake and the one with it.
func serveSink(args []string) error {
	if len(args) != 0 {
		return errors.New("sink takes no arguments")
	}
	raiseFileLimit()
	c, err := mapCounters(os.NewFile(3, "counters"))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		l, err := net.FileListener(os.NewFile(uintptr(4+i), "listener"))
		if err != nil {
			return err
		}
		wg.Go(func() { errs[i] = acceptAll(l, c, i == 1) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func acceptAll(l net.Listener, c *counters, challenge bool) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		add(&c.Conns, 1)
		add(&c.Open, 1)
		go func() {
			defer add(&c.Open, -1)
			defer conn.Close()
			if challenge && !answer(conn, c) {
				return
			}
			drop(conn.(*net.TCPConn), c)
		}()
	}
}

// challengeLine need not be random here.
var challengeLine = append(bytes.Repeat([]byte("c"), 512), '\n')

// answer does the server's half of the handshake, without the cryptography: the
// sink is to be cheap, and believes everyone.
func answer(conn net.Conn, c *counters) bool {
	for i := range 2 {
		if i == 1 {
			if _, err := conn.Write(challengeLine); err != nil {
				return false
			}
		}
		var buf [512]byte
		for n := 0; ; {
			m, err := conn.Read(buf[n:])
			n += m
			if end := bytes.IndexByte(buf[:n], '\n'); end >= 0 {
				if i == 1 {
					add(&c.Bytes, int64(n-end-1))
				}
				break
			}
			if err != nil || n == len(buf) {
				return false
			}
		}
	}
	return true
}

// dropped is where nothing is written to, although the kernel is told so.
var dropped [sinkRead]byte

// drop reads until the end.
func drop(conn *net.TCPConn, c *counters) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var buf, rest []byte
	over := false
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, errno := 0, syscall.Errno(0)
			if isSet(&c.Timed) {
				if buf == nil {
					buf = make([]byte, 64<<10)
				}
				if n, err = syscall.Read(int(fd), buf); err != nil {
					n = 0
					errors.As(err, &errno)
				}
				rest = c.sample(append(rest, buf[:n]...))
			} else {
				r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&dropped)), sinkRead, unix.MSG_TRUNC, 0, 0)
				if n, errno = int(r), e; e != 0 {
					n = 0
				}
			}
			switch {
			case n > 0:
				add(&c.Bytes, int64(n))
			case errno == unix.EINTR:
			case errno == unix.EAGAIN:
				return false
			default:
				over = true
				return true
			}
		}
	})
	_ = err == nil && over // however it ended, it is over
}

// sample notes the age of each whole row in p and returns the rest.
func (c *counters) sample(p []byte) []byte {
	now := monotonic()
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			return p
		}
		if end > timestampSize {
			if sent, err := strconv.ParseInt(string(p[end-timestampSize:end]), 10, 64); err == nil {
				if i := add(&c.N, 1) - 1; i < maxSamples {
					store(&c.Samples[i], now-sent)
				}
			}
		}
		p = p[end+1:]
	}
}
