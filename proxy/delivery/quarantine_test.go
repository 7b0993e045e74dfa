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
