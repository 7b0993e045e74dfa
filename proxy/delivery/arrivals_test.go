package delivery

import (
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestArrivals has a record come every 20 ms for an hour, and most of them be settled at times.
func TestArrivals(t *testing.T) {
	const (
		every = 20 * time.Millisecond
		exact = 4 * arrivalGap // as outages are short
	)
	var a arrivals
	start := time.Unix(1700000000, 0)
	when := func(n int) time.Time { return start.Add(time.Duration(n) * every) }
	kept := 0
	for n := range 180_000 {
		a.add(int64(10*n), when(n))
		if n%10_000 == 8_000 { // an outage is over
			kept = n - 50
			a.forget(int64(10 * kept))
		}
		if len(a.marks) > mostArrivals {
			t.Fatalf("%d times are kept", len(a.marks))
		}
		for _, k := range []int{kept, (kept + n) / 2, n} {
			for _, offset := range []int{10 * k, 10*k + 9} {
				if early := when(k).Sub(a.at(int64(offset))); early < 0 || early > exact {
					t.Fatalf("after %d records number %d is said to have come %v too early", n+1, k, early)
				}
			}
		}
	}
}

// TestArrivalsFromAnotherLane has records come that were accepted before those in front of them, and then more than
// are kept, every other one of which is older.
func TestArrivalsFromAnotherLane(t *testing.T) {
	now := time.Now()
	var a arrivals
	for offset, at := range []time.Time{now, now.Add(-time.Minute), now.Add(time.Second)} {
		a.add(int64(offset), at)
		if got := a.at(int64(offset)); !got.Equal(at) {
			t.Errorf("the record at %d came at %v, want %v", offset, got, at)
		}
	}
	if got := a.since(0); !got.Equal(now.Add(-time.Minute)) {
		t.Errorf("the oldest record came at %v, want a minute before %v", got, now)
	}
	var came []time.Time
	a = arrivals{}
	for n := range 4 * mostArrivals {
		at := now.Add(time.Duration(n) * time.Second)
		if n%2 == 1 {
			at = at.Add(-time.Hour)
		}
		a.add(int64(n), at)
		came = append(came, at)
	}
	for n, at := range came {
		if got := a.at(int64(n)); got.After(at) {
			t.Fatalf("record %d is said to have come %v later than it did", n, got.Sub(at))
		}
	}
}

// TestArrivalsAfterOutage has ten hours pass in which nothing is settled, and then all be settled within a second.
func TestArrivalsAfterOutage(t *testing.T) {
	const every = 100 * time.Millisecond
	var a arrivals
	when := time.Unix(1700000000, 0)
	n := int64(0)
	come := func() {
		a.add(n, when)
		n++
		when = when.Add(every)
	}
	for range 10 * time.Hour / every {
		come()
	}
	a.forget(n)
	for i := range 3000 {
		come()
		if i < 10 {
			continue
		}
		if age := when.Sub(a.at(n - 10)); age > 2*time.Second {
			t.Fatalf("a record that came a second ago is said to have come %v ago", age)
		}
		a.forget(n - 10)
	}
}

// TestOldest has writers that write little, whose block never fills, and looks at how old the oldest record that is
// not settled is said to be.
func TestOldest(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		stop := writeAlong(t, d, 1, 100*time.Millisecond, "cpu,host=server01 usage=0.5 1700000000000000000\n", 1)
		looks := func(over time.Duration) (most time.Duration) {
			for began := time.Now(); time.Since(began) < over; <-time.After(200 * time.Millisecond) {
				if at, ok := d.Oldest(); ok {
					most = max(most, time.Since(at))
				}
			}
			return most
		}
		if most := looks(10 * time.Minute); most > 4*time.Second {
			t.Errorf("the oldest record is said to be of %v ago, where all are settled within seconds", most)
		}
		s.change(func() { s.paused = true })
		if most := looks(10 * time.Minute); most < 9*time.Minute+50*time.Second || most > 10*time.Minute+5*time.Second {
			t.Errorf("after ten minutes without the server the oldest record is said to be of %v ago", most)
		}
		s.change(func() { s.paused = false })
		stop()
		drainAll(t, d)
		d.Close()
		if at, ok := d.Oldest(); ok {
			t.Errorf("nothing is left, and the oldest record of %v", at)
		}
		<-time.After(time.Minute) // what the server commits later
	})
}
