package delivery

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

// away is a Source of a server that never answers. asked has something once a lane wants a connection.
type away struct {
	sink
	asked chan struct{}
}

func (a away) Acquire(ctx context.Context) (Conn, error) {
	select {
	case a.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestRecordsThatCannotBeKept has each record told of that the Rejects never took:
// one that a session rejects when it has to end, one that a lane had set aside, and
// what is left.
func TestRecordsThatCannotBeKept(t *testing.T) {
	for name, atMostOnce := range map[string]bool{"at-least-once": false, "at-most-once": true} {
		t.Run(name, func(t *testing.T) {
			rejects := &memoryRejects{err: errors.New("disk full")}
			server := away{asked: make(chan struct{}, 1)}
			d := newDispatcher(t, server, Options{Rejects: rejects, AtMostOnce: atMostOnce})
			w := d.NewWriter("w", nil)
			b := w.TryBuffer()
			w.Append(b, copy(b.Bytes(), "t v=1i\nx y z\nt v=2i\n"), 3)
			<-server.asked // the lane's goroutine, which alone may reject, is busy with that
			d.lanes[0].reject(0, noLimit, func(_ *Writer, record []byte) (reason, detail string) {
				if ilp.Validate(record) != nil {
					return rejected.ReasonMalformed, ""
				}
				return "", ""
			})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if w.Reject(ctx, rejected.Record{Reason: rejected.ReasonMalformed, Bytes: []byte("rubbish\n")}) {
				t.Error("a record is safe that was not taken")
			}
			left, lost := d.Drain(ctx)
			if left != 4 || lost != 4 {
				t.Errorf("%d left, %d lost, want 4 and 4", left, lost)
			}
			want := []string{"malformed w rubbish\n", "malformed w x y z\n", "undelivered w t v=1i\n", "undelivered w t v=2i\n"}
			if !reflect.DeepEqual(rejects.lost, want) {
				t.Errorf("told of %q, want %q", rejects.lost, want)
			}
		})
	}
}

// TestRejectedAtLast has a session reject a record that cannot be saved before it has to end, but can be at
// the end of the drain.
func TestRejectedAtLast(t *testing.T) {
	rejects := &memoryRejects{err: errors.New("disk full")}
	d := newDispatcher(t, away{}, Options{Rejects: rejects})
	w := d.NewWriter("w", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	record := []byte("rubbish\n")
	if w.Reject(ctx, rejected.Record{Reason: rejected.ReasonMalformed, Bytes: record}) {
		t.Error("a record is safe that was not taken")
	}
	copy(record, "another") // its block is used again
	if n := d.Unsaved(); n != 1 {
		t.Errorf("%d records wait to be saved, want 1", n)
	}
	rejects.fail(nil)
	left, lost := d.Drain(t.Context())
	if got := rejects.all(); left != 0 || lost != 0 || len(got) != 1 || string(got[0].Bytes) != "rubbish\n" || d.Unsaved() != 0 {
		t.Errorf("%d left, %d lost, %d unsaved, saved %v", left, lost, d.Unsaved(), got)
	}
}
