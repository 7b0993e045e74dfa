package logging

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAsyncWritesAllInOrder(t *testing.T) {
	var out bytes.Buffer
	a := NewAsync(&out)
	var want strings.Builder
	for i := range asyncLines / 2 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		_, _ = io.WriteString(a, line)
	}
	a.Close(10 * time.Second)
	if out.String() != want.String() {
		t.Errorf("wrote\n%.200q\nwant\n%.200q", out.String(), want.String())
	}
	if n, err := io.WriteString(a, "late\n"); n != 5 || err != nil {
		t.Errorf("a write after Close returned %d, %v", n, err)
	}
}

// stuck blocks the first write until it is let go.
type stuck struct {
	free chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func TestAsyncDropsRatherThanWait(t *testing.T) {
	s := &stuck{free: make(chan struct{})}
	a := NewAsync(s)
	for range asyncLines + 100 {
		_, _ = io.WriteString(a, "x\n") // returns although nobody reads
	}
	began := time.Now()
	a.Close(10 * time.Millisecond)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v with a log that nobody reads", took)
	}
	close(s.free)
	<-a.done
	if got := s.out.String(); !strings.Contains(got, "log lines were dropped") || !strings.Contains(got, `"lines":`) {
		t.Errorf("nothing is said of the lines that were dropped: %.200q", got)
	}
}
