package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
	"questdb-ilp-proxy/proxy/rejected"
)

// TestTableIsClosedForWhoSendsWhatIsRefused has a writer send nothing but refused records of
// a table that another one of the same lane writes to as well. They are set aside in bulk in
// the end; the other one's never are, and do not wait until each of them was tried.
func TestTableIsClosedForWhoSendsWhatIsRefused(t *testing.T) {
	for _, behind := range []string{"", "t n=2i\n"} {
		t.Run(fmt.Sprintf("%q", behind), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSimServer(1)
				s.refuse = func(record []byte) bool { return strings.HasSuffix(string(record), ",x=1i\n") }
				rejects := &memoryRejects{}
				d := newDispatcher(t, s, Options{Lanes: 2, Rejects: rejects, ConfirmInterval: time.Second})
				defer d.Close()
				good := d.NewWriter("good", nil)
				stop := writeAlong(t, d, 1, 20*time.Millisecond, "other n=1i\n", 1) // there is something to compare with
				put(t, good, "t n=1i\n")
				enemy := d.NewWriter("enemy", nil)
				if enemy.lane != good.lane {
					t.Fatal("they are on different lanes")
				}
				const all = 300
				var records []string
				for n := range all {
					records = append(records, fmt.Sprintf("t n=%di,x=1i\n", n))
				}
				put(t, enemy, records...)
				if behind != "" {
					put(t, good, behind)
				}
				began := time.Now()
				for len(rejects.all()) < all && time.Since(began) < time.Hour {
					<-time.After(100 * time.Millisecond)
					if reason, _ := good.Check([]byte("t n=3i\n")); good.Suspect() && reason != "" {
						t.Fatalf("after %v a good record is set aside (%s)", time.Since(began), reason)
					}
				}
				bulk := 0
				for _, r := range rejects.all() {
					if r.Remote == "good" {
						t.Errorf("%q is set aside (%s)", r.Bytes, r.Reason)
					}
					if r.Reason == rejected.ReasonTableRefused {
						bulk++
					}
				}
				if bulk < all*3/4 {
					t.Errorf("%d of %d records are set aside in bulk", bulk, all)
				}
				stop()
				drainAll(t, d)
			})
		})
	}
}

// TestQuarantineForgets has a thousand writers come and go, one refused record each: there is room for those who come later, and
// in the end nobody's records are looked at any more.
func TestQuarantineForgets(t *testing.T) {
	var q quarantine
	at := time.Unix(1700000000, 0)
	for n := range mostTables {
		q.refused(&Writer{remote: fmt.Sprint(n)}, fmt.Sprint("t", n%10), at)
		at = at.Add(100 * time.Millisecond)
	}
	w := &Writer{remote: "w"}
	var suspicious []suspicion
	for range inARow {
		suspicious = q.refused(w, "u", at)
	}
	if len(suspicious) != 2 {
		t.Errorf("%d sources are suspicious, want the table and the writer's part of it", len(suspicious))
	}
	if !q.suspects(w) || q.suspects(&Writer{remote: "x"}) {
		t.Error("only the host of which record after record was refused is suspected")
	}
	for _, s := range suspicious {
		q.close(s, at)
	}
	for range 10 { // as long as there are records, it stays
		at = at.Add(forgetSource - time.Second)
		if held, _ := q.holds(w, "u", at); !held {
			t.Fatal("forgotten while records come")
		}
	}
	at = at.Add(forgetSource + probeEvery)
	if held, _ := q.holds(&Writer{remote: "v"}, "v", at); held {
		t.Error("holds what was never refused")
	}
	if q.watching() || len(q.tables) > 0 || q.suspects(w) || len(q.notorious) > 0 {
		t.Errorf("%d are watched, %d known, %d hosts suspected", q.watched.Load(), len(q.tables), len(q.notorious))
	}
}

// TestForgottenIsNotCountedAgain has two writers with a refused record every six minutes.
func TestForgottenIsNotCountedAgain(t *testing.T) {
	var q quarantine
	at := time.Unix(1700000000, 0)
	writers := []*Writer{{remote: "10.0.0.1:1"}, {remote: "10.0.0.2:1"}}
	var all suspicion
	for n := range 2 * wideAfter {
		if some := q.refused(writers[n%2], "t", at); len(some) > 0 {
			all = some[0]
		}
		at = at.Add(3 * time.Minute)
	}
	q.close(all, at)
	if !q.closedForAll("t") {
		t.Fatal("it is not closed")
	}
	if held, _ := q.holds(&Writer{remote: "10.9.9.9:1"}, "t", at); held {
		t.Error("records of two writers were refused, and a stranger's are held")
	}
}

// TestAcceptedMeanwhile has a record accepted while samples of its source are tried.
func TestAcceptedMeanwhile(t *testing.T) {
	var q quarantine
	at := time.Unix(1700000000, 0)
	w := &Writer{remote: "10.0.0.1:1"}
	var some []suspicion
	for range inARow {
		some = q.refused(w, "t", at)
	}
	q.accepted("t", at.Add(time.Second), at.Add(time.Second), w)
	q.refused(w, "t", at.Add(2*time.Second))
	for _, s := range some {
		q.close(s, at.Add(3*time.Second))
	}
	if q.closed(w, "t") || q.closedForAll("t") {
		t.Error("closed by what was refused before a record was accepted")
	}
}

// TestTakenOfAll has records of several writers accepted after another's was refused, together and later on another lane: none of
// theirs is held when the table is closed for everybody then.
func TestTakenOfAll(t *testing.T) {
	var q quarantine
	at := time.Unix(1700000000, 0)
	a, b, c, early := &Writer{remote: "10.0.0.1:1"}, &Writer{remote: "10.0.0.2:1"}, &Writer{remote: "10.0.0.3:1"}, &Writer{remote: "10.0.0.4:1"}
	q.refused(&Writer{remote: "10.0.0.9:1"}, "t", at)
	later := at.Add(time.Second)
	q.accepted("t", at.Add(-time.Second), later, early)
	q.refused(&Writer{remote: "10.0.0.9:1"}, "t", at)
	q.accepted("t", later, later, a, b)
	q.accepted("t", later, later.Add(time.Second), c)
	var all suspicion
	for i := range wideAfter {
		for _, s := range q.refused(&Writer{remote: fmt.Sprintf("10.0.1.%d:1", i)}, "t", later) {
			all = s
		}
	}
	q.close(all, later)
	for _, w := range []*Writer{a, b, c} {
		if held, _ := q.holds(w, "t", later); held {
			t.Errorf("%s is held, though its record was taken after one was refused", w.remote)
		}
	}
	if held, _ := q.holds(early, "t", later); !held {
		t.Error("what was sent before tells that a writer's records are good")
	}
}
