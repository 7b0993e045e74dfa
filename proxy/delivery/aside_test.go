package delivery

import (
	"errors"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestCrowded has a backlog of which every other record is malformed, and so many that not all are set aside at
// once: what the journal remembers of them has a limit, and good ones do not come again for each of them.
func TestCrowded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const allowed = 2000
		f, l := backlog(t, 10_000, allowed, mostUnsaved)
		most := 0
		for range 600 {
			<-time.After(100 * time.Millisecond)
			l.mu.Lock()
			most = max(most, len(l.j.holes))
			l.mu.Unlock()
		}
		f.drain()
		if most < allowed || most >= allowed+putAtOnce {
			t.Errorf("there were %d holes, want %d or a few more", most, allowed)
		}
		f.onceOrTwice()
	})
}

// TestCrowdedWithoutAFile is the same where the file of rejected records cannot be written for a minute.
func TestCrowdedWithoutAFile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const allowed = 2000
		f, l := backlog(t, 10_000, mostHoles, allowed)
		f.rejects.fail(errors.New("disk full"))
		most := int64(0)
		for range 600 {
			<-time.After(100 * time.Millisecond)
			most = max(most, l.unsaved.Load())
		}
		if most < allowed || most >= allowed+putAtOnce {
			t.Errorf("%d records waited to be saved, want %d or a few more", most, allowed)
		}
		f.rejects.fail(nil)
		f.drain()
		f.onceOrTwice()
	})
}

// TestCrowdedAhead has more holes than are allowed behind what was not looked at yet: the lane does not wait for these.
func TestCrowdedAhead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, _ := backlog(t, 3*putAtOnce, 0, mostUnsaved)
		f.drain()
		f.onceOrTwice()
	})
}

// backlog is a field whose server has just come back, and its lane, where n good records wait, and as many malformed
// ones between them; so many holes, and records that the sink did not take, are allowed.
func backlog(t *testing.T, n, holes, unsaved int) (*field, *Lane) {
	f := newField(t, Options{Lanes: 1, ConfirmInterval: time.Second, Memory: 64 << 20})
	f.s.change(func() { f.s.paused = true })
	l := f.d.lanes[0]
	l.mu.Lock()
	l.most.holes, l.most.unsaved = holes, unsaved
	l.mu.Unlock()
	w := f.d.NewWriter("10.0.0.1:5", nil)
	for i := 0; i < n; {
		var records []string
		for range 500 {
			records = append(records, goodRow("t", i), "malformed"+refusedEnd)
			i++
		}
		f.send(w, records...)
	}
	w.Close()
	f.s.change(func() { f.s.paused = false })
	return f, l
}

// onceOrTwice checks how often the server got records.
func (f *field) onceOrTwice() {
	f.t.Helper()
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if n, sent := len(f.s.parsed), int(f.good.Load()); n > 2*sent {
		f.t.Errorf("the server got %d records, of %d", n, sent)
	}
}
