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
		made := s.made
		if p := d.paths.check(t.Context(), "sim:9009"); !p.hides() || s.made != made {
			t.Errorf("%v is known of the path at once, after %d connections", p, s.made-made)
		}
		<-time.After(hiddenAgain + time.Second)
		if p := d.paths.check(t.Context(), "sim:9009"); !p.resets {
			t.Errorf("%v is known of the path a minute later", p)
		}
		made = s.made
		<-time.After(2 * hiddenAgainMax)
		if d.paths.check(t.Context(), "sim:9009"); s.made != made {
			t.Error("that resets are seen is found out again")
		}
	})
}
