package upstream

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func userTimeoutOf(t *testing.T, c *Conn) time.Duration {
	t.Helper()
	var ms int
	if err := control(c.raw, func(fd int) (err error) {
		ms, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ms) * time.Millisecond
}

// Since Linux 5.11 the user timeout ends connections to a server that is stopped,
// which is backpressure and no failure.
func TestUserTimeoutIsSuspendedWhileTheServerTakesNothing(t *testing.T) {
	t.Parallel()
	s, p, _ := withServer(t, Options{MinIdle: 0, Max: 1})
	c := acquire(t, p)
	var sock sockState // the pool's upkeep has c.sock
	sock.tune(c.raw)
	if d := userTimeoutOf(t, c); d != userTimeout {
		t.Errorf("user timeout %v, want %v", d, userTimeout)
	}
	s.Stall()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = '\n'
	}
	total := 0
	for deadline := time.Now().Add(20 * time.Second); userTimeoutOf(t, c) != 0; time.Sleep(10 * time.Millisecond) {
		n, err := c.TryWrite(block)
		if err != nil {
			t.Fatal(err)
		}
		total += n
		sock.tune(c.raw)
		if time.Now().After(deadline) {
			t.Fatal("not suspended")
		}
	}
	// The kernel would end the connection after this, if it were set.
	if err := setUserTimeout(c.raw, time.Second); err != nil {
		t.Fatal(err)
	}
	sock.suspended = false
	sock.tune(c.raw)
	select {
	case <-c.Done():
		t.Fatalf("ended: %+v", c.End())
	case <-time.After(2500 * time.Millisecond):
	}
	s.Resume()
	for deadline := time.Now().Add(20 * time.Second); userTimeoutOf(t, c) != userTimeout; time.Sleep(10 * time.Millisecond) {
		sock.tune(c.raw)
		if time.Now().After(deadline) {
			t.Fatal("not set again")
		}
	}
}

func TestSocketOptions(t *testing.T) {
	_, p, _ := withServer(t, Options{MinIdle: 0, Max: 1})
	c := acquire(t, p)
	for _, o := range []struct {
		name       string
		level, opt int
		want       int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60000},
	} {
		if err := control(c.raw, func(fd int) error {
			got, err := unix.GetsockoptInt(fd, o.level, o.opt)
			if got != o.want {
				t.Errorf("%s is %d, want %d", o.name, got, o.want)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}
