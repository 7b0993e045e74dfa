package delivery

import (
	"testing"
	"time"
)

// TestPatience has a lane ask every second.
func TestPatience(t *testing.T) {
	var p patience
	at := time.Unix(1700000000, 0)
	ask := func(seconds int) (kept time.Duration) {
		for range seconds {
			at = at.Add(time.Second)
			if p.keep(at) {
				kept += time.Second
			}
		}
		return kept
	}
	if kept := ask(int(holdTables / time.Second)); kept < holdTables-time.Second {
		t.Errorf("kept for %v at first, want %v", kept, holdTables)
	}
	ask(300)
	if kept := ask(3600); kept < 10*time.Minute || kept > 14*time.Minute {
		t.Errorf("kept for %v of the next hour, want a fifth", kept)
	}
	l := &Lane{}
	for round := range 20 { // kept for five seconds each minute, and decided
		for range 5 {
			at = at.Add(time.Second)
			if !l.patience.keep(at) {
				t.Fatalf("no patience left in round %d", round)
			}
		}
		l.decided()
		at = at.Add(55 * time.Second)
	}
	p = patience{}
	ask(10)
	at = at.Add(time.Hour)
	if kept := ask(60); kept != time.Minute {
		t.Errorf("after an hour of peace kept for %v, want a minute", kept)
	}
}
