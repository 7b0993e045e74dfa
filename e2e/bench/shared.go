package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

func add(p *int64, n int64) int64 { return atomic.AddInt64(p, n) }
func store(p *int64, n int64)     { atomic.StoreInt64(p, n) }
func isSet(p *uint32) bool        { return atomic.LoadUint32(p) != 0 }

// sink is the generator's view of the sink's process.
type sink struct {
	c           *counters
	plain, auth string // addresses: without a handshake, with one
	cmd         *exec.Cmd
}

func startSink(ctx context.Context, counterFile string) (*sink, error) {
	f, err := os.OpenFile(counterFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &sink{}
	if s.c, err = mapCounters(f); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s.cmd = exec.Command(self, "sink")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.ExtraFiles = []*os.File{f}
	for _, addr := range []*string{&s.plain, &s.auth} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		*addr = l.Addr().String()
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, file)
	}
	return s, s.cmd.Start()
}

func (s *sink) close() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed, as it should be
}

func (s *sink) bytes() int64 { return atomic.LoadInt64(&s.c.Bytes) }
func (s *sink) open() int64  { return atomic.LoadInt64(&s.c.Open) }

// timed has the sink note the rows' ages, or not.
func (s *sink) timed(on bool) {
	if on {
		atomic.StoreUint32(&s.c.Timed, 1)
	} else {
		atomic.StoreUint32(&s.c.Timed, 0)
	}
}

// forget has ages begin anew.
func (s *sink) forget() { store(&s.c.N, 0) }

// ages returns a copy of the rows' ages so far.
func (s *sink) ages() []int64 {
	n := min(atomic.LoadInt64(&s.c.N), maxSamples)
	ages := make([]int64, n)
	for i := range ages {
		ages[i] = atomic.LoadInt64(&s.c.Samples[i])
	}
	return ages
}

// patience is how long anything that should come soon is waited for.
const patience = 20 * time.Second

var errPatience = errors.New("gave up waiting")

// await polls: the other process has no way to tell.
func await(ctx context.Context, what string, pause time.Duration, ok func() bool) error {
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%w after %v for %s", errPatience, patience, what)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle waits until nothing more arrives at the sink: what one measurement left
// on its way must not reach into the next.
func (s *sink) settle(ctx context.Context) error {
	last := int64(-1)
	return await(ctx, "the sink to have everything", 60*time.Millisecond, func() bool {
		n := s.bytes()
		still := n == last
		last = n
		return still
	})
}
