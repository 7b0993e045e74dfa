package delivery

import (
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestPaddingFillsAGrownBuffer: a refusal shows only if LFs remain unread, so there must
// be as many as the server reads at once. 9.3.4's buffer of 128 KiB grows fourfold until
// a record fits; 8.x's does not grow, and it refuses more LFs than fill it.
func TestPaddingFillsAGrownBuffer(t *testing.T) {
	p := path{pad: 128 << 10, resets: true}
	for _, record := range []int{0, 128 << 10, 128<<10 + 1, 150 << 10, 300 << 10, 512<<10 + 1, 1 << 20} {
		buffer := 128 << 10
		for buffer < record {
			buffer *= 4
		}
		if n := p.padding(&sinkConn{}, record, 0); n < buffer {
			t.Errorf("%d LFs behind a record of %d bytes, fewer than the %d that the server reads at once", n, record, buffer)
		}
	}
	p.pad = exactPadding
	if n := p.padding(&sinkConn{}, 1<<20, 3); n != exactPadding-3 {
		t.Errorf("%d LFs for 8.x behind three others, want %d", n, exactPadding-3)
	}
}

// TestHiddenIsFoundOutAgain has a relay that goes away, the server staying.
func TestHiddenIsFoundOutAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.relay = true
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		defer d.Close()
		if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() {
			t.Fatalf("a relay is not seen: %v", p)
		}
		s.change(func() { s.relay = false })
		made := s.connections()
		if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() || s.connections() != made {
			t.Errorf("%v is known of the path at once, after %d connections", p, s.connections()-made)
		}
		<-time.After(hiddenAgain + time.Second)
		if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() {
			t.Errorf("%v is known of the path a minute later, before it was looked at", p)
		}
		<-time.After(checkLimit)
		if p := d.paths.check(t.Context(), "sim:9009"); !p.resets {
			t.Errorf("%v is known of the path a minute later", p)
		}
		made = s.connections()
		<-time.After(2 * hiddenAgainMax)
		if d.paths.check(t.Context(), "sim:9009"); s.connections() != made {
			t.Error("that resets are seen is found out again")
		}
	})
}

// TestSlowServerSkipsNothing has a server behind a relay become so slow that it takes seconds
// to close on a malformed record, while its path is looked at again.
func TestSlowServerSkipsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.relay = true
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		defer d.Close()
		d.paths.check(t.Context(), "sim:9009")
		s.change(func() { s.reading = 1500 * time.Millisecond })
		made := s.connections()
		<-time.After(hiddenAgain + time.Second)
		d.paths.check(t.Context(), "sim:9009")
		<-time.After(checkLimit + time.Second)
		if s.connections() == made {
			t.Fatal("it was not looked at")
		}
		if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() {
			t.Errorf("the path is %v", p)
		}
	})
}

// TestDrainLeavesAPathCheck: what only helps later records is not waited for.
func TestDrainLeavesAPathCheck(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.relay = true
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		d.paths.check(t.Context(), "sim:9009")
		s.change(func() { s.reading = 1500 * time.Millisecond }) // so it takes seconds
		<-time.After(hiddenAgain + time.Second)
		made := s.connections()
		d.paths.check(t.Context(), "sim:9009")
		<-time.After(quietTime)
		if s.connections() == made {
			t.Fatal("it is not looked at again")
		}
		began := time.Now()
		drainAll(t, d)
		if took := time.Since(began); took > quietTime {
			t.Errorf("a drain with nothing to do took %v", took)
		}
		<-time.After(checkLimit) // the server is still at it
	})
}

// TestSkipperIsFoundOutAgain has a server that no longer goes on after a malformed record.
func TestSkipperIsFoundOutAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.skips = true
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		defer d.Close()
		if p := d.paths.check(t.Context(), "sim:9009"); !p.skips {
			t.Fatalf("the path is %v", p)
		}
		s.change(func() { s.skips = false })
		<-time.After(hiddenAgain + time.Second)
		d.paths.check(t.Context(), "sim:9009")
		<-time.After(checkLimit)
		if p := d.paths.check(t.Context(), "sim:9009"); !p.resets {
			t.Errorf("the path is %v", p)
		}
	})
}

// TestFailedCheckIsPutOff has a server that takes so long to close that its path is not found
// out in time: the lanes must not wait for that each time.
func TestFailedCheckIsPutOff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.busy = 6 * time.Second
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		defer d.Close()
		checks, waited := 0, time.Duration(0)
		for range 600 {
			made, began := s.connections(), time.Now()
			if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() {
				t.Fatalf("the path is %v", p)
			}
			waited += time.Since(began)
			if s.connections() > made {
				checks++
			}
			<-time.After(time.Second)
		}
		if t.Logf("%d checks, %v", checks, waited); checks < 2 || checks > 8 {
			t.Errorf("the path was looked at %d times in ten minutes", checks)
		}
	})
}

// TestRelayComes has a relay come between at the same address, which breaks all connections,
// and a server that stays.
func TestRelayComes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		d := newDispatcher(t, s, Options{Lanes: 2, ConfirmInterval: time.Second})
		stop := writeAlong(t, d, 2, 100*time.Millisecond, "t n=1i\n", 1)
		<-time.After(2 * hiddenAgain)
		if p := d.paths.check(t.Context(), "sim:9009"); !p.resets {
			t.Fatalf("the path is %v", p)
		}
		s.change(func() {
			s.relay, s.alone = true, true
			for c := range s.conns {
				c.over(errReset)
			}
		})
		<-time.After(time.Second)
		s.change(func() { s.alone = false })
		<-time.After(30 * time.Second)
		if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() {
			t.Errorf("the path is %v", p)
		}
		stop()
		drainAll(t, d)
		d.Close()
		<-time.After(time.Minute) // what the server commits later
	})
}
