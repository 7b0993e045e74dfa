package delivery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

// TestBlankLineAlone has a blank line behind the last record, and a connection that breaks: in
// the end only the blank line is left of what may have been refused.
func TestBlankLineAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSimServer(1)
		d := newDispatcher(t, s, Options{Lanes: 1, ConfirmInterval: time.Second})
		d.paths.check(t.Context(), "sim:9009")
		w := d.NewWriter("w", nil)
		put(t, w, "t n=0i\n", "t n=1i\n", "t n=2i\n\n")
		<-time.After(100 * time.Millisecond)
		s.cutOne()
		<-time.After(time.Minute)
		if at, ok := d.Oldest(); ok {
			t.Errorf("the oldest record that is not settled came %v ago", time.Since(at))
		}
		d.Close()
		<-time.After(time.Minute) // what the server commits later
	})
}

// TestBlankLinesAroundRejected has records that are set aside, with blank lines around each: all of
// these together would be a long run, and more than 8.x has room for before its padding.
func TestBlankLinesAroundRejected(t *testing.T) {
	for _, blanks := range []int{1, 200} {
		t.Run(fmt.Sprint(blanks), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSimServer(1)
				s.blanks, s.recvBuffer = exactPadding+1, exactPadding+1
				s.refuse = func(record []byte) bool { return strings.HasPrefix(string(record), "wrong") }
				rejects := &memoryRejects{}
				d := newDispatcher(t, s, Options{Lanes: 1, Rejects: rejects, ConfirmInterval: time.Second})
				if p := d.paths.check(t.Context(), "sim:9009"); !p.resets || p.pad != exactPadding {
					t.Fatalf("the path is %+v", p)
				}
				w := d.NewWriter("w", nil)
				gap := strings.Repeat("\n", blanks)
				put(t, w, "t n=0i\n")
				for range 3 {
					put(t, w, slices.Repeat([]string{gap + "bad\n" + gap}, 100)...)
					put(t, w, gap+"wrong n=1i\n"+gap)
				}
				put(t, w, gap+"t n=1i\n"+gap) // to compare with
				<-time.After(time.Minute)
				if n := rejects.count(); d.Left() > 0 || n != 303 {
					t.Errorf("%d records left, %d set aside, want 303", d.Left(), n)
				}
				d.Close()
				<-time.After(time.Minute) // what the server commits later
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.longest > MaxBlank {
					t.Errorf("%d bytes of blank lines went upstream before one record", s.longest)
				}
			})
		})
	}
}
