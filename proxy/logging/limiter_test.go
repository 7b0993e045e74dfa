package logging

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"questdb-ilp-proxy/e2e/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log whose lines can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// take returns the lines written since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.TrimSuffix(l.buf.String(), "\n")
	l.buf.Reset()
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// newTestLimiter returns a Limiter with an interval of ten seconds and the log it writes to, without times.
func newTestLimiter() (*Limiter, *lines) {
	out := new(lines)
	h := slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	return NewLimiter(slog.New(h), 10*time.Second), out
}

func wantLines(t *testing.T, out *lines, want ...string) {
	t.Helper()
	if got := out.take(); !slices.Equal(got, want) {
		t.Errorf("log has\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// remembered counts the entries, with the one that is shared.
func (l *Limiter) remembered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.entries)
	if l.overflow != nil {
		n++
	}
	return n
}

// pass lets d go by, and all that is due by then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFirstAtOnceThenOneLinePerInterval(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		say := func(n int) {
			l.Log(t.Context(), slog.LevelWarn, "fragment", "fragment discarded", slog.Int("bytes", n))
		}
		say(1)
		wantLines(t, out, `level=WARN msg="fragment discarded" bytes=1`)

		for n := range 1000 {
			say(n)
			pass(time.Millisecond)
		}
		wantLines(t, out)
		pass(9 * time.Second)
		wantLines(t, out, `level=WARN msg="fragment discarded" bytes=999 repeated=1000`)

		// The summary began another interval.
		say(7)
		pass(9 * time.Second)
		wantLines(t, out)
		pass(time.Second)
		wantLines(t, out, `level=WARN msg="fragment discarded" bytes=7 repeated=1`)

		// After an interval without any, it is a first one again.
		pass(10 * time.Second)
		wantLines(t, out)
		say(8)
		wantLines(t, out, `level=WARN msg="fragment discarded" bytes=8`)
		pass(time.Minute)
		wantLines(t, out)
		if n := l.remembered(); n != 0 {
			t.Errorf("%d keys remembered after a quiet interval, want 0", n)
		}
	})
}

func TestKeysDoNotShareAnInterval(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		for range 3 {
			l.Log(t.Context(), slog.LevelInfo, "a", "A")
			l.Log(t.Context(), slog.LevelError, "b", "B")
		}
		wantLines(t, out, "level=INFO msg=A", "level=ERROR msg=B")
		pass(10 * time.Second)
		got := out.take()
		slices.Sort(got)
		if want := []string{"level=ERROR msg=B repeated=2", "level=INFO msg=A repeated=2"}; !slices.Equal(got, want) {
			t.Errorf("summaries %q, want %q", got, want)
		}
		l.Flush()
	})
}

func TestFlush(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		l.Flush()
		wantLines(t, out)

		for range 3 {
			l.Log(t.Context(), slog.LevelInfo, "a", "A")
		}
		l.Flush()
		wantLines(t, out, "level=INFO msg=A", "level=INFO msg=A repeated=2")

		// Nothing is due any more, and the key is as new.
		pass(time.Minute)
		wantLines(t, out)
		l.Log(t.Context(), slog.LevelInfo, "a", "A")
		wantLines(t, out, "level=INFO msg=A")
		l.Flush()
		wantLines(t, out)
	})
}

// blockingHandler stops in Handle until released, for summaries alone.
type blockingHandler struct {
	slog.Handler
	release chan struct{}
}

func (h blockingHandler) Handle(ctx context.Context, r slog.Record) error {
	summary := false
	r.Attrs(func(a slog.Attr) bool { summary = summary || a.Key == RepeatedKey; return true })
	if summary {
		<-h.release
	}
	return h.Handler.Handle(ctx, r)
}

// A log that is blocked (a full pipe) must not block those who are only counted, and Flush must not return before a
// summary that was begun is written, or the end of the program would swallow it.
func TestBlockedLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		h := blockingHandler{l.logger.Handler(), make(chan struct{})}
		l.logger = slog.New(h)
		l.Log(t.Context(), slog.LevelInfo, "a", "A")
		l.Log(t.Context(), slog.LevelInfo, "a", "A")
		pass(10 * time.Second) // the summary is stuck now

		l.Log(t.Context(), slog.LevelInfo, "a", "A")
		l.Log(t.Context(), slog.LevelInfo, "b", "B")
		wantLines(t, out, "level=INFO msg=A", "level=INFO msg=B")

		flushed := make(chan struct{})
		go func() { l.Flush(); close(flushed) }()
		synctest.Wait()
		h.release <- struct{}{}
		synctest.Wait()
		select {
		case <-flushed:
			t.Error("Flush returned while a summary was being written")
		default:
		}
		h.release <- struct{}{}
		<-flushed
		wantLines(t, out, "level=INFO msg=A repeated=1", "level=INFO msg=A repeated=1")
	})
}

func TestKeysAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		l.maxKeys = 2
		say := func(level slog.Level, key string) { l.Log(t.Context(), level, key, "about "+key) }
		for _, key := range []string{"a", "b", "c"} {
			say(slog.LevelInfo, key)
		}
		wantLines(t, out, `level=INFO msg="about a"`, `level=INFO msg="about b"`, `level=INFO msg="about c"`)

		say(slog.LevelError, "d")
		for i := range 10_000 {
			say(slog.LevelInfo, fmt.Sprint("key ", i))
		}
		wantLines(t, out)
		if n := l.remembered(); n != 3 {
			t.Errorf("%d keys remembered, want 2 and the shared one", n)
		}
		// The gravest level is kept, or an error would go unseen among the rest.
		pass(10 * time.Second)
		wantLines(t, out, `level=ERROR msg="too many different messages in a short time; the latest: about key 9999" repeated=10001`)

		// Once it is quiet there is room again.
		pass(10 * time.Second)
		if n := l.remembered(); n != 0 {
			t.Errorf("%d keys remembered after a quiet interval, want 0", n)
		}
		say(slog.LevelInfo, "e")
		wantLines(t, out, `level=INFO msg="about e"`)

		for _, key := range []string{"f", "g", "h"} {
			say(slog.LevelInfo, key)
		}
		out.take()
		l.Flush()
		wantLines(t, out, `level=INFO msg="too many different messages in a short time; the latest: about h" repeated=1`)
	})
}

func TestLongKeysAreCut(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		long := strings.Repeat("k", 1<<20)
		l.Log(t.Context(), slog.LevelInfo, long, "M")
		l.Log(t.Context(), slog.LevelInfo, long+"x", "M")
		wantLines(t, out, "level=INFO msg=M")
		for key := range l.entries {
			if len(key) != maxKeyLen {
				t.Errorf("a key of %d bytes is remembered, want %d", len(key), maxKeyLen)
			}
		}
		l.Flush()
	})
}

func TestDisabledLevelCostsAndSaysNothing(t *testing.T) {
	l, out := newTestLimiter()
	allocs := testing.AllocsPerRun(100, func() { l.Log(t.Context(), slog.LevelDebug, "a", "A") })
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
	wantLines(t, out)
	if l.remembered() != 0 {
		t.Error("a disabled message was counted")
	}
}

func TestWithoutInterval(t *testing.T) {
	l, out := newTestLimiter()
	l.every = 0
	l.Log(t.Context(), slog.LevelInfo, "a", "A")
	l.Log(t.Context(), slog.LevelInfo, "a", "A")
	l.Flush()
	wantLines(t, out, "level=INFO msg=A", "level=INFO msg=A")
}

func TestLogN(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, out := newTestLimiter()
		l.LogN(t.Context(), slog.LevelInfo, "a", 0, "none")
		l.LogN(t.Context(), slog.LevelInfo, "a", 3, "A")
		wantLines(t, out, "level=INFO msg=A")
		l.Log(t.Context(), slog.LevelInfo, "a", "B")
		l.LogN(t.Context(), slog.LevelInfo, "a", 4, "C")
		wantLines(t, out)
		l.Flush()
		wantLines(t, out, "level=INFO msg=C repeated=7")

		l.every = 0
		l.LogN(t.Context(), slog.LevelInfo, "a", 3, "D")
		wantLines(t, out, "level=INFO msg=D repeated=2")
	})
}

func TestNilLogger(t *testing.T) {
	l := NewLimiter(nil, time.Hour)
	l.Log(t.Context(), slog.LevelError, "a", "A")
	l.Flush()
}

func TestSourceIsTheCaller(t *testing.T) {
	var out lines
	logger := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{AddSource: true}))
	l := NewLimiter(logger, time.Hour)
	l.Log(t.Context(), slog.LevelInfo, "a", "A")
	l.Log(t.Context(), slog.LevelInfo, "a", "A")
	l.Flush()
	got := out.take()
	if len(got) != 2 {
		t.Fatalf("%d lines, want 2", len(got))
	}
	for _, line := range got {
		if !strings.Contains(line, "limiter_test.go") || !strings.Contains(line, "TestSourceIsTheCaller") {
			t.Errorf("source is not the caller of Log: %s", line)
		}
	}
}

// Every occurrence is reported once: by a line of its own or in the sum of a summary.
func TestConcurrentUseLosesNoCount(t *testing.T) {
	var mu sync.Mutex
	var total int64
	h := countingHandler{func(r slog.Record) {
		n := int64(1)
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == RepeatedKey {
				n = a.Value.Int64()
			}
			return true
		})
		mu.Lock()
		defer mu.Unlock()
		total += n
	}}
	l := NewLimiter(slog.New(h), 100*time.Microsecond)
	l.maxKeys = 3

	const writers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				l.Log(t.Context(), slog.LevelInfo, fmt.Sprint((w+i)%5), "M", slog.Int("i", i))
				if i%500 == 0 {
					l.Flush()
				}
			}
		})
	}
	wg.Wait()
	l.Flush()
	if total != writers*each {
		t.Errorf("%d occurrences reported, want %d", total, writers*each)
	}
}

type countingHandler struct{ handle func(slog.Record) }

func (h countingHandler) Enabled(context.Context, slog.Level) bool      { return true }
func (h countingHandler) Handle(_ context.Context, r slog.Record) error { h.handle(r); return nil }
func (h countingHandler) WithAttrs([]slog.Attr) slog.Handler            { return h }
func (h countingHandler) WithGroup(string) slog.Handler                 { return h }

func BenchmarkSuppressed(b *testing.B) {
	l := NewLimiter(slog.New(countingHandler{func(slog.Record) {}}), time.Hour)
	defer l.Flush()
	for b.Loop() {
		l.Log(b.Context(), slog.LevelInfo, "key", "message", slog.Int("bytes", 1), slog.String("writer", "127.0.0.1:1"))
	}
}
