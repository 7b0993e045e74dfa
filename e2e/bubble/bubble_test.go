package bubble

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTimersDueAtOnce kills a race-enabled program within the second on two processors.
func TestTimersDueAtOnce(t *testing.T) {
	Test(t, func(*testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5000 {
					fired := make(chan struct{})
					time.AfterFunc(0, func() { close(fired) })
					<-fired
				}
			})
		}
		wg.Wait()
	})
}

func TestProcessorsComeBack(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)
	Test(t, func(t *testing.T) {
		if n := runtime.GOMAXPROCS(0); n != 1 {
			t.Errorf("%d processors in a bubble", n)
		}
		enter()
		leave()
		if n := runtime.GOMAXPROCS(0); n != 1 {
			t.Errorf("%d processors in a bubble once another has ended", n)
		}
	})
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors after it", n)
	}
}
