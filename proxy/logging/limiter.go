// Package logging keeps the log readable when one thing happens over and over.
//
// Messages about single sessions and records are caused by whoever connects, as often as they like: ten thousand writers
// that die mid-record, or one that sends rubbish for an hour, must not fill the disk or bury what matters. A [Limiter] says
// such a thing the first time, and from then on how often it came again.
package logging

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	// RepeatedKey is the attribute of a summary line: how many occurrences came since the line before and got none of
	// their own.
	RepeatedKey = "repeated"

	// defaultMaxKeys bounds the keys that are remembered at once, since callers make them of what comes from outside.
	defaultMaxKeys = 256
	// maxKeyLen bounds what is remembered of one key, in bytes; longer ones with the same beginning are one.
	maxKeyLen = 128
)

// Limiter logs repeated messages at a limited rate. The first occurrence of a key is logged at once. Those that follow are
// counted, and reported by one line when the interval is over, which has the message and attributes of the latest and
// [RepeatedKey]. After an interval without any the key is forgotten, so nothing needs another occurrence, or the end of the
// program, to be seen.
//
// When too many different keys come in one interval, the further ones share one line per interval. So both the memory
// and the lines are bounded, whatever keys are made of.
//
// It holds no goroutine. Its methods may be called concurrently, but not by the logger's own handler.
type Limiter struct {
	logger  *slog.Logger
	every   time.Duration
	maxKeys int

	mu       sync.Mutex // never held while the handler writes: a blocked log must not block counting
	quiet    sync.Cond  // on mu: writing has become 0
	writing  int        // summaries being written by timers, for Flush to wait for
	entries  map[string]*entry
	overflow *entry // what the keys beyond maxKeys share; nil when there were none in this interval
}

// entry is one key's present interval. Its fields belong to Limiter.mu.
type entry struct {
	key      string
	shared   bool // the overflow entry: many keys, so its summary can't claim that one message was repeated
	timer    *time.Timer
	repeated int64

	// The latest occurrence without a line, valid while repeated > 0.
	pc    uintptr
	level slog.Level
	msg   string
	attrs []slog.Attr
}

// NewLimiter returns a Limiter that writes to logger at most one line per key and interval, after the first. With an interval of
// 0 or less it passes everything on. A nil logger discards everything.
func NewLimiter(logger *slog.Logger, every time.Duration) *Limiter {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &Limiter{logger: logger, every: every, maxKeys: defaultMaxKeys, entries: make(map[string]*entry)}
	l.quiet.L = &l.mu
	return l
}

// Log logs msg now, or counts it if key was logged within the interval. Occurrences with the same key should be alike:
// the summary shows the latest. The attributes are kept until then, so their values must not change and should be small.
// What the level disables is neither logged nor counted.
func (l *Limiter) Log(ctx context.Context, level slog.Level, key, msg string, attrs ...slog.Attr) {
	if l.logger.Enabled(ctx, level) {
		l.log(ctx, level, key, 1, msg, attrs, callerPC())
	}
}

// LogN is Log for n occurrences at once.
func (l *Limiter) LogN(ctx context.Context, level slog.Level, key string, n int64, msg string, attrs ...slog.Attr) {
	if n > 0 && l.logger.Enabled(ctx, level) {
		l.log(ctx, level, key, n, msg, attrs, callerPC())
	}
}

func (l *Limiter) log(ctx context.Context, level slog.Level, key string, n int64, msg string, attrs []slog.Attr, pc uintptr) {
	if l.every > 0 {
		if n = l.suppress(level, key, n, msg, attrs, pc); n == 0 {
			return
		}
	}
	r := slog.NewRecord(time.Now(), level, msg, pc)
	r.AddAttrs(attrs...)
	if n > 1 {
		r.AddAttrs(slog.Int64(RepeatedKey, n-1))
	}
	l.write(ctx, r)
}

// Flush writes the summaries that are due later, waits for those being written, and forgets all keys, so that the next
// occurrence of each is logged at once. It is for the end of the program; after it no timer is left.
func (l *Limiter) Flush() {
	l.mu.Lock()
	var due []slog.Record
	for _, e := range l.entries {
		e.timer.Stop()
		if e.repeated > 0 {
			due = append(due, e.summary())
		}
	}
	if e := l.overflow; e != nil {
		e.timer.Stop()
		if e.repeated > 0 {
			due = append(due, e.summary())
		}
	}
	clear(l.entries)
	l.overflow = nil
	l.mu.Unlock()

	for _, r := range due {
		l.write(context.Background(), r)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing > 0 {
		l.quiet.Wait()
	}
}

// suppress counts n occurrences and returns how many of them are to be logged now: none, or one that begins an interval for
// its key.
func (l *Limiter) suppress(level slog.Level, key string, n int64, msg string, attrs []slog.Attr, pc uintptr) (now int64) {
	key = key[:min(len(key), maxKeyLen)]
	l.mu.Lock()
	defer l.mu.Unlock()

	e := l.entries[key]
	if e == nil && len(l.entries) >= l.maxKeys {
		if e = l.overflow; e == nil {
			e = l.begin("", true)
			l.overflow = e
			now = 1
		}
	}
	if e == nil {
		// A clone, since the key may be a small part of something large that it would keep in memory.
		key = strings.Clone(key)
		e = l.begin(key, false)
		l.entries[key] = e
		now = 1
	}
	if n -= now; n == 0 {
		return now
	}

	if e.repeated > 0 && e.shared {
		level = max(level, e.level)
	}
	e.repeated += n
	e.pc, e.level, e.msg = pc, level, msg
	e.attrs = append(e.attrs[:0], attrs...)
	return now
}

// begin returns an entry whose interval starts now. The caller holds mu, which the timer's function waits for.
func (l *Limiter) begin(key string, shared bool) *entry {
	e := &entry{key: key, shared: shared}
	e.timer = time.AfterFunc(l.every, func() { l.intervalOver(e) })
	return e
}

// intervalOver writes e's summary and begins the next interval, or forgets e if nothing came in this one.
func (l *Limiter) intervalOver(e *entry) {
	l.mu.Lock()
	if l.current(e) != e { // flushed while the timer fired
		l.mu.Unlock()
		return
	}
	if e.repeated == 0 {
		if e.shared {
			l.overflow = nil
		} else {
			delete(l.entries, e.key)
		}
		l.mu.Unlock()
		return
	}
	r := e.summary()
	e.timer.Reset(l.every)
	l.writing++
	l.mu.Unlock()

	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.writing--; l.writing == 0 {
			l.quiet.Broadcast()
		}
	}()
	// The contexts of the callers are over by now, and kept by nobody.
	l.write(context.Background(), r)
}

// current returns what is now in e's place. The caller holds mu.
func (l *Limiter) current(e *entry) *entry {
	if e.shared {
		return l.overflow
	}
	return l.entries[e.key]
}

// summary returns the line for what was counted, and starts counting anew. The caller holds mu.
func (e *entry) summary() slog.Record {
	msg := e.msg
	if e.shared {
		msg = "too many different messages in a short time; the latest: " + msg
	}
	r := slog.NewRecord(time.Now(), e.level, msg, e.pc)
	r.AddAttrs(e.attrs...) // copies
	r.AddAttrs(slog.Int64(RepeatedKey, e.repeated))
	e.repeated, e.msg = 0, ""
	clear(e.attrs)
	e.attrs = e.attrs[:0]
	return r
}

func (l *Limiter) write(ctx context.Context, r slog.Record) {
	// As in slog.Logger: nobody can do anything about a log that can't be written.
	_ = l.logger.Handler().Handle(ctx, r)
}

// callerPC is the position of the caller of the exported method that calls it.
func callerPC() uintptr {
	var pcs [1]uintptr
	runtime.Callers(3, pcs[:]) // runtime.Callers, callerPC, Log or LogN
	return pcs[0]
}
