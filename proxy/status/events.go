package status

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// keptEvents is how many log lines are remembered, at most maxAttrs attributes of each, and maxText bytes of each text.
	keptEvents = 50
	maxAttrs   = 12
	maxText    = 300
)

// Event is one log line.
type Event struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Attrs   []Attr    `json:"attrs,omitempty"`
}

// Attr is an attribute of a log line.
type Attr struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Events remembers the last log lines of level info and above.
type Events struct {
	hide []string
	ring ring[Event]
}

// NewEvents returns an Events that leaves out the attributes with these keys.
func NewEvents(hide ...string) *Events {
	return &Events{hide: hide, ring: ring[Event]{most: keptEvents}}
}

// Tee returns a handler that hands everything on to next, and remembers a copy.
func (e *Events) Tee(next slog.Handler) slog.Handler { return &tee{events: e, next: next} }

// Last returns what is remembered, latest first.
func (e *Events) Last() []Event { return e.ring.last() }

type tee struct {
	events *Events
	next   slog.Handler
	attrs  []Attr // of WithAttrs
	group  string // of WithGroup: prefix of keys
}

// Enabled is also true for what next leaves out, if it is to be remembered.
func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || t.next.Enabled(ctx, level)
}

func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		e := Event{Time: r.Time, Level: strings.ToLower(r.Level.String()), Message: clip(r.Message), Attrs: slices.Clip(t.attrs)}
		r.Attrs(func(a slog.Attr) bool {
			e.Attrs = t.events.appendAttr(e.Attrs, t.group, a)
			return len(e.Attrs) < maxAttrs
		})
		t.events.ring.add(e)
	}
	if !t.next.Enabled(ctx, r.Level) {
		return nil
	}
	return t.next.Handle(ctx, r)
}

func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *t
	c.next = t.next.WithAttrs(attrs)
	c.attrs = slices.Clip(t.attrs)
	for _, a := range attrs {
		c.attrs = t.events.appendAttr(c.attrs, t.group, a)
	}
	return &c
}

func (t *tee) WithGroup(name string) slog.Handler {
	c := *t
	c.next = t.next.WithGroup(name)
	if name != "" {
		c.group += name + "."
	}
	return &c
}

func (e *Events) appendAttr(to []Attr, group string, a slog.Attr) []Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range v.Group() {
			to = e.appendAttr(to, group, inner)
		}
		return to
	}
	if a.Equal(slog.Attr{}) || len(to) >= maxAttrs || slices.Contains(e.hide, a.Key) {
		return to
	}
	return append(to, Attr{clip(group + a.Key), clip(v.String())})
}

// clip returns a copy of the beginning of s, valid UTF-8: it is remembered for a while, and may be a small part of something
// large.
func clip(s string) string {
	if len(s) > maxText {
		n := maxText
		for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(strings.Clone(s), "\uFFFD")
}

// ring remembers the most latest.
type ring[T any] struct {
	most int
	mu   sync.Mutex
	all  []T // a ring once it is full
	next int // in all, the oldest then
}

func (r *ring[T]) add(x T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < r.most {
		r.all = append(r.all, x)
		return
	}
	r.all[r.next] = x
	r.next = (r.next + 1) % r.most
}

// last returns them, latest first. None is an empty slice: programs that read the JSON go through it as it is.
func (r *ring[T]) last() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]T, 0, len(r.all))
	all = append(append(all, r.all[r.next:]...), r.all[:r.next]...)
	slices.Reverse(all)
	return all
}
