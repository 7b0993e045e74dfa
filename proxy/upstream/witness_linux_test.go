package upstream

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deafen has the kernel drop all packets that come for c, as if the server's
// machine, or the way to it, were gone.
func deafen(t *testing.T, c *Conn) {
	t.Helper()
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	if err := control(c.raw, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	}); err != nil {
		t.Fatal(err)
	}
}

func TestHalfOpenConnectionIsNoWitness(t *testing.T) {
	t.Parallel()
	for name, idle := range map[string]bool{"idle": true, "handed out": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p, _ := withServer(t, Options{MinIdle: 1, Max: 2})
			awaitIdle(t, p, 1)
			var c *Conn
			p.mu.Lock()
			for c = range p.all {
			}
			p.mu.Unlock()
			w := p.Witnesses(c.Addr(), nil)
			if !w.Alive(t.Context()) {
				t.Fatal("not alive to begin with")
			}
			if !idle {
				acquire(t, p)
			}
			deafen(t, c)
			start := time.Now()
			if w.Alive(t.Context()) {
				t.Error("a connection to nowhere was taken for alive")
			}
			if d := time.Since(start); d > aliveWait+time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// TestSecondAskerIsAnsweredInTime asks a witness whose LFs are used up while somebody
// else, who came before, still waits: by itself the kernel's next probe would come 15 s
// after the first.
func TestSecondAskerIsAnsweredInTime(t *testing.T) {
	t.Parallel()
	_, p, _ := withServer(t, Options{MinIdle: 1, Max: 2})
	awaitIdle(t, p, 1)
	w := p.Witnesses(p.Status().Addr, nil)
	defer w.Release()
	c := w.members[0]
	p.mu.Lock()
	c.pings = maxPings
	c.nudges++
	nudge(c.raw, true)
	p.mu.Unlock()
	for n := range 2 {
		if !w.Alive(t.Context()) {
			t.Errorf("probe %d was not answered in time", 1+n)
		}
	}
}

// The server's FIN counts from when it came, not from when our reader noticed.
func TestEndIsSeenInTheKernel(t *testing.T) {
	t.Parallel()
	client, server := tcpPair(t)
	p := &Pool{log: discardLog()}
	c := newConn(p, 1, "", client, 0) // and no reader
	if open, _, _ := answer(c.raw, time.Now()); !open || !openInKernel(c.raw) {
		t.Error("not open to begin with")
	}
	server.Close()
	for deadline := time.Now().Add(10 * time.Second); openInKernel(c.raw); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("open for ever")
		}
	}
	if open, _, _ := answer(c.raw, time.Now()); open {
		t.Error("answers although it has ended")
	}
}
