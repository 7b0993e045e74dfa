package delivery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestSlowServerBehindARelay has a server that, when a segment ends, has more to read than
// it comes to in a quarter of a second, and refuses a record of that. What hides its resets
// hides this end too: all that is behind the record must come again.
func TestSlowServerBehindARelay(t *testing.T) {
	for _, reading := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond} {
		t.Run(reading.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSimServer(1)
				s.relay, s.window = true, 2<<20
				s.refuse = func(record []byte) bool { return strings.HasPrefix(string(record), "bad") }
				rejects := &memoryRejects{}
				d := newDispatcher(t, s, Options{Lanes: 1, Rejects: rejects, ConfirmInterval: 100 * time.Millisecond})
				w := d.NewWriter("w", nil)
				settled := d.lanes[0].progress.wait()
				put(t, w, "other n=0i\n")
				<-settled // and the path is known
				s.change(func() { s.reading = reading })
				good := 0
				for n := range 300 {
					for range 40 {
						put(t, w, fmt.Sprintf("t n=%di,s=\"%100d\"\n", good, 0))
						good++
					}
					if n == 150 {
						put(t, w, "bad n=1i\n")
					}
				}
				stop := writeAlong(t, d, 1, time.Second, "other n=1i\n", 1) // for the evidence
				for limit := time.After(10 * time.Minute); len(rejects.all()) == 0; {
					select {
					case <-limit:
						t.Fatal("no record is set aside")
					case <-time.After(time.Second):
					}
				}
				stop()
				drainAll(t, d)
				d.Close()
				<-time.After(time.Minute) // what the server commits later
				s.mu.Lock()
				defer s.mu.Unlock()
				there := map[string]bool{}
				for _, r := range s.committed {
					if strings.HasPrefix(string(r), "t ") {
						there[string(r)] = true
					}
				}
				if len(there) != good || len(rejects.all()) != 1 {
					t.Errorf("%d of %d records are there, %d set aside", len(there), good, len(rejects.all()))
				}
			})
		})
	}
}

// TestPaceConverges has servers that take longer than before to close, once, always, or each time by another while:
// a FIN that is not as usual proves nothing, but not for ever.
func TestPaceConverges(t *testing.T) {
	hidden := path{pad: exactPadding}
	for name, c := range map[string]struct {
		took func(n int) time.Duration
		late int // of a hundred, at most
	}{
		"always as fast": {func(int) time.Duration { return 2 * time.Millisecond }, 0},
		"tables once": {func(n int) time.Duration {
			if n == 50 {
				return 30 * time.Second
			}
			return 5 * time.Millisecond
		}, 1},
		"slower from now on": {func(n int) time.Duration { return time.Duration(1+n/50*999) * time.Millisecond }, 4},
		"very slow":          {func(n int) time.Duration { return time.Duration(1+n/50*59999) * time.Millisecond }, 6},
		"faster again":       {func(n int) time.Duration { return time.Duration(7000-n/50*6998) * time.Millisecond }, 1},
		"far away":           {func(n int) time.Duration { return time.Duration(300+n*37%60) * time.Millisecond }, 1},
		"uneven":             {func(n int) time.Duration { return time.Duration(5+n*37%90) * time.Millisecond }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := paths{paces: map[carried]pace{}}
			segment, trial := carried{addr: "x"}, carried{"x", ofTrials}
			if err := p.ended(trial, path{resets: true}, c.took(0), p.pace(trial)); err != nil || p.pace(trial).usual != c.took(0) {
				t.Errorf("the path check learns %v from padding alone, which took %v: %v", p.pace(trial).usual, c.took(0), err)
			}
			late := 0
			var quiet time.Duration
			for n := range 100 {
				was := p.pace(segment)
				quiet = max(quiet, was.quiet)
				if n == 90 && was.quiet > 4*c.took(n)+2*time.Second {
					t.Errorf("still quiet for %v, where an end takes %v", was.quiet, c.took(n))
				}
				if p.ended(segment, hidden, c.took(n), was) != nil {
					late++
				}
			}
			t.Logf("%d late, quiet for at most %v and in the end %v", late, quiet, p.pace(segment).quiet)
			if late > c.late || late == 0 && c.late > 1 {
				t.Errorf("%d of 100 ends prove nothing, want %d at most", late, c.late)
			}
		})
	}
}

// TestRefusalIsSooner has a server that always takes as long for the padding; a FIN that comes
// sooner is no answer to ours, even if the server was quiet for long beside what it took.
func TestRefusalIsSooner(t *testing.T) {
	for _, took := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond} {
		p := paths{paces: map[carried]pace{}}
		segment := carried{addr: "x"}
		for range 10 {
			if err := p.ended(segment, path{}, 136*time.Millisecond, p.pace(segment)); err != nil {
				t.Fatal(err)
			}
		}
		if p.ended(segment, path{}, took, p.pace(segment)) == nil {
			t.Errorf("a FIN after %v is as usual", took)
		}
		if err := p.ended(segment, path{}, took, p.pace(segment)); err != nil {
			t.Errorf("the server is not believed to be faster after a long quiet time: %v", err)
		}
	}
}

// TestFasterThanThePathCheck has a server that was slow, as on a busy machine, when its path was
// found out: that it is faster afterwards is no reason to send anything again.
func TestFasterThanThePathCheck(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.relay, s.busy = true, 200*time.Millisecond
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		d.paths.check(t.Context(), "sim:9009")
		s.change(func() { s.busy = 0 })
		w := d.NewWriter("w", nil)
		for n := range 20 {
			put(t, w, fmt.Sprintf("t n=%di\n", n))
			<-time.After(time.Second)
		}
		drainAll(t, d)
		d.Close()
		if n := testutil.ToFloat64(d.m.replayed); n > 0 {
			t.Errorf("%v records were sent again", n)
		}
	})
}

// TestRelayEndsWhatIsQuiet has a relay that ends a connection on which nothing came for some
// seconds, and a server that is slow to close for a while: the quiet time gets longer for that,
// and must not become as long as what the relay allows.
func TestRelayEndsWhatIsQuiet(t *testing.T) {
	for _, idle := range []time.Duration{3 * time.Second, 5 * time.Second} {
		t.Run(idle.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSimServer(1)
				s.relay, s.idle = true, idle
				s.refuse = func(record []byte) bool { return strings.HasPrefix(string(record), "bad") }
				rejects := &memoryRejects{}
				d := newDispatcher(t, s, Options{Lanes: 2, Rejects: rejects, ConfirmInterval: time.Second})
				stop := writeAlong(t, d, 2, 500*time.Millisecond, "other n=1i\n", 1)
				<-time.After(20 * time.Second)
				s.change(func() { s.busy = 2 * time.Second })
				w := d.NewWriter("w", nil)
				for n := range 40 {
					put(t, w, fmt.Sprintf("good n=%di\n", n))
					if n%10 == 5 {
						put(t, w, fmt.Sprintf("bad n=%di\n", n))
					}
					<-time.After(100 * time.Millisecond)
				}
				s.change(func() { s.busy = 0 })
				<-time.After(5 * time.Minute)
				if at, ok := d.Oldest(); ok && time.Since(at) > 10*time.Second {
					t.Errorf("the oldest record that is not settled came %v ago", time.Since(at))
				}
				stop()
				drainAll(t, d)
				d.Close()
				<-time.After(time.Minute) // what the server commits later
				for _, r := range rejects.all() {
					if !s.refuse(r.Bytes) {
						t.Errorf("%q was set aside (%s)", r.Bytes, r.Reason)
					}
				}
				if n := len(rejects.all()); n != 4 {
					t.Errorf("%d records were set aside, want 4", n)
				}
			})
		})
	}
}

// TestDrainAfterTables has a server that made tables, and so closed late once, before the proxy has to end.
func TestDrainAfterTables(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		s.relay = true
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		w := d.NewWriter("w", nil)
		settled := d.lanes[0].progress.wait()
		put(t, w, "t n=0i\n")
		<-settled // and the path is known
		s.change(func() { s.busy = 30 * time.Second })
		put(t, w, "new n=1i\n")
		for d.lanesIn(laneBackoff) == 0 {
			<-time.After(10 * time.Millisecond)
		}
		s.change(func() { s.busy = 0 })
		put(t, w, "t n=2i\n")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if left, _ := d.Drain(ctx); left > 0 {
			t.Errorf("%d records left", left)
		}
		d.Close()
		<-time.After(time.Minute) // what the server commits later
	})
}
