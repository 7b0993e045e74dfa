package delivery

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
	"questdb-ilp-proxy/proxy/rejected"
)

var (
	histories = flag.Int("histories", 200, "random histories of the model to run")
	firstSeed = flag.Uint64("seed", 1, "seed of the first history; one that failed is repeated by -seed N -histories 1")
)

// failedOnce are seeds that found something: a quiet time slept through, with a relay
// between; a record condemned after the disk was full, because the network broke; a
// writer that waited for ever to change its lane, its last records being set aside;
// two broken connections behind a relay that were taken for two refusals; a server
// that was stopped during the path check, and taken for one that skips bad records;
// one that was stopped for just the time to settle, and killed after it; a network that
// broke all connections of a path check, each at the worst moment.
var failedOnce = []uint64{606, 1041, 1041, 1041, 702478, 526736, 526736, 526736, 26489, 26489, 26489, 171068, 405112, 704165, 704165, 704165, 704165}

// TestModel lets writers write through a Dispatcher to a simulated server, while
// it is killed, stopped, paused, cut off, fills up and refuses records at random,
// and checks what the package promises: nothing is lost, nothing overtakes within
// a writer, no record is cut, nothing good is set aside, the budget holds.
func TestModel(t *testing.T) {
	seeds := make([]uint64, 0, len(failedOnce)+*histories)
	if *firstSeed == 1 {
		seeds = append(seeds, failedOnce...)
	}
	for i := range *histories {
		seeds = append(seeds, *firstSeed+uint64(i))
	}
	if *histories > 10_000 {
		// A bubble's goroutines take turns; the collector would take half of the time.
		defer debug.SetGCPercent(debug.SetGCPercent(800))
	}
	for _, seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { history(t, seed) })
		})
		if !ok {
			t.Fatalf("repeat it with: go test ./proxy/delivery -run TestModel -seed %d -histories 1", seed)
		}
	}
}

const (
	// starts is the least time that a QuestDB needs to start.
	starts = 700 * time.Millisecond

	badType = "x"        // marks a record that the server refuses
	rubbish = "broken\n" // ends one that is malformed
)

func history(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newSimServer(seed)
	bad := rng.IntN(3) == 0
	s.refuse = func(r []byte) bool { return bytes.HasSuffix(r, []byte("i,"+badType+"=1i\n")) }
	if s.relay = rng.IntN(8) == 0; s.relay && rng.IntN(2) == 0 {
		s.reading = time.Duration(rng.IntN(200)) * time.Millisecond // of a slower one not all can be known
	}
	blanks := 1 // and one more than there can be behind a record
	if rng.IntN(4) == 0 {
		blanks = 4
		if rng.IntN(2) == 0 {
			s.blanks, s.recvBuffer = exactPadding+1, exactPadding+1
		}
	}
	if !s.relay && rng.IntN(4) == 0 {
		most := 1 + rng.IntN(200<<10)
		s.cut = func(rng *rand.Rand) int {
			if rng.IntN(8) > 0 {
				return 0
			}
			return 1 + rng.IntN(most)
		}
	}
	if rng.IntN(3) == 0 && s.reading < 5*time.Millisecond {
		s.window = 1 << (8 + rng.IntN(8))
	}
	rejects := &memoryRejects{}
	o := Options{
		Memory: 1 << 20, Lanes: 1 + rng.IntN(3), MaxRecord: 4 << 10, Rejects: rejects,
		ConfirmBytes:    int64(1+rng.IntN(64)) << 10,
		ConfirmInterval: time.Duration(1+rng.IntN(3000)) * time.Millisecond,
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	d := newDispatcher(t, s, o)

	// The writers.
	writers := 1 + rng.IntN(4)
	good := make(map[string]bool)
	wrong := make(map[string]bool)
	for w := range writers {
		n := 20 + rng.IntN(100)
		pauses := rand.New(rand.NewPCG(seed, uint64(w+10)))
		var records []string
		for i := range n {
			r := row(w, i)
			good[r] = true
			records = append(records, r)
			if bad && rng.IntN(30) == 0 {
				r = fmt.Sprintf("t%d n=%di,%s=1i\n", w, i, badType)
				if rng.IntN(2) == 0 {
					r = fmt.Sprintf("t%d %d%s", w, i, rubbish)
				}
				wrong[r] = true
				records = append(records, r)
			}
		}
		go func() {
			out := d.NewWriter(fmt.Sprint("w", w), nil)
			defer out.Close()
			for len(records) > 0 {
				if out.Ready(d.ctx) != nil {
					return
				}
				b, err := out.Buffer(d.ctx)
				if err != nil {
					return
				}
				size, count := 0, 0
				for k := 1 + pauses.IntN(8); k > 0 && len(records) > 0; k-- {
					r := []byte(records[0])
					records = records[1:]
					if out.Suspect() {
						if reason, detail := out.Check(r); reason != "" {
							out.Reject(d.ctx, rejected.Record{Reason: reason, Detail: detail, Bytes: r})
							continue
						}
					}
					size += copy(b.Bytes()[size:], r)
					size += copy(b.Bytes()[size:], linefeeds[:pauses.IntN(blanks)])
					count++
				}
				if size == 0 {
					out.Return(b)
				} else {
					out.Append(b, size, count)
				}
				if used := d.Used(); used > o.Memory {
					t.Errorf("%d bytes in use, more than the limit", used)
				}
				time.Sleep(time.Duration(pauses.IntN(200)) * time.Millisecond)
			}
		}()
	}

	// What happens to the server.
	for range rng.IntN(12) {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
		switch rng.IntN(6) {
		case 0, 1:
			s.kill(rng.IntN(2) == 0)
			time.Sleep(starts + time.Duration(rng.IntN(3000))*time.Millisecond)
			s.start()
		case 2:
			s.change(func() { s.paused = true })
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			if rng.IntN(2) == 0 {
				s.kill(false)
				time.Sleep(starts)
				s.start()
			}
			s.change(func() { s.paused = false })
		case 3:
			s.cutOne()
		case 4:
			s.change(func() { s.full = true })
			time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
			s.change(func() { s.full = false })
		}
	}

	// In the end all is well, for long enough.
	s.change(func() { s.cut = nil })
	deadline := time.Now().Add(time.Hour)
	last := d.NewWriter("last", nil) // something that is accepted, for the evidence
	for n := 0; ; n++ {
		if len(rejects.all()) >= len(wrong) && d.Left() == 0 && n > 30 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("seed %d: %d records left, %d of %d rejected", seed, d.Left(), len(rejects.all()), len(wrong))
			break
		}
		if n%10 == 0 {
			put(t, last, fmt.Sprintf("last n=%di %d\n", n, n))
		}
		time.Sleep(time.Second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if left, _ := d.Drain(ctx); left != 0 {
		t.Errorf("seed %d: %d records left after the drain", seed, left)
	}
	d.Close()
	time.Sleep(time.Minute) // commits that are under way
	check(t, seed, s, rejects, good, wrong)
}

// check compares what the server has, and what was set aside, with what was sent.
func check(t *testing.T, seed uint64, s *simServer, rejects *memoryRejects, good, wrong map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	committed := map[string]int{}
	for _, r := range s.committed {
		committed[string(r)]++
	}
	missing := 0
	for r := range good {
		if committed[r] == 0 {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("seed %d: %d of %d records missing", seed, missing, len(good))
	}
	for r := range committed {
		if !good[r] && !bytes.HasPrefix([]byte(r), []byte("last ")) {
			t.Errorf("seed %d: the server has %q, which nobody sent", seed, r)
		}
	}
	for _, r := range rejects.all() {
		if !wrong[string(r.Bytes)] {
			t.Errorf("seed %d: %q was set aside (%s)", seed, r.Bytes, r.Reason)
		}
	}
	if n := len(rejects.all()); n != len(wrong) {
		t.Errorf("seed %d: %d records set aside, want %d", seed, n, len(wrong))
	}
	// Nothing overtakes: records may come again, but then all behind them do too.
	// So the last times that a writer's records came are in order.
	last := map[int]map[int]int{}
	for i, r := range s.parsed {
		w, n, ok := rowOf(string(r))
		if !ok {
			continue
		}
		if last[w] == nil {
			last[w] = map[int]int{}
		}
		last[w][n] = i
	}
	for w, at := range last {
		for n := 1; n < len(at); n++ {
			if at[n] < at[n-1] {
				t.Errorf("seed %d: record %d of writer %d came last before record %d", seed, n, w, n-1)
				break
			}
		}
	}
	if s.twice {
		t.Errorf("seed %d: a record came twice over one connection", seed)
	}
}
