// Package bubble runs tests in bubbles of testing/synctest, where time is simulated.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is [synctest.Test], with one processor for as long as any bubble runs. Go 1.26
// fires a timer that is due at once on the goroutine that sets it, and all timers of a
// bubble in one context of the race detector. Where two goroutines do so at a time, they
// spoil its stack, and the program dies of SIGSEGV or "ThreadSanitizer: CHECK failed", now
// and then, and prints little but registers. The race detector needs no second
// processor to see a race: it looks at what orders two accesses, not at when they happened.
// A mistake of another kind that takes two processors is not to be found here; nor should
// a test that measures real time run in parallel with one that uses this.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	enter()
	defer leave()
	synctest.Test(t, f)
}

var (
	mu         sync.Mutex
	running    int // bubbles
	processors int // before the first of them
)

func enter() {
	mu.Lock()
	defer mu.Unlock()
	if running++; running == 1 {
		processors = runtime.GOMAXPROCS(1)
	}
}

func leave() {
	mu.Lock()
	defer mu.Unlock()
	if running--; running == 0 {
		runtime.GOMAXPROCS(processors)
	}
}
