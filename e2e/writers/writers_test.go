package writers

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// A writer is one way to write that a page shows.
type writer struct {
	// name is also the symbol or the like by which its rows are told from others'.
	name string
	// page is the name of the file in docs/writers without .md, files are the blocks
	// on it that this writer is made of.
	page  string
	files []string
	// start starts it, and returns how to have it write.
	start func(*setup) write
	// survives tells that what it holds when it is ended is not lost: it is ended, and
	// started again, with rows for a proxy that is away.
	survives bool
	// loses is how many rows may be missing after the proxy's absence, as the page says.
	loses int
	// rows is a query for the number of different rows that it wrote.
	rows string
}

// write has a writer write the rows from up to but not including to, which are told
// apart by their numbers. When it returns the writer has been given them, and need
// not have written them.
type write func(ctx context.Context, from, to int) error

// writers are all that there are.
func writers() (all []writer) {
	for _, some := range [][]writer{shells(), pythons(), syslogs(), clients(), telegrafs(), collectds()} {
		all = append(all, some...)
	}
	return all
}

const (
	// arrive is how long rows may take into a table: far longer than they do.
	arrive = 60 * time.Second
	// portion is how many rows each writer writes in each act.
	portion = 10
	// absence is how long the proxy is away while writers write.
	absence = 3 * time.Second
	// pace is between two rows: more than a packet takes to the proxy and back, which
	// is how long a client does not learn of the proxy's end.
	pace = 20 * time.Millisecond
)

// TestWriters has every writer write while QuestDB is there, while it is away,
// and while the proxy is away. All the rows arrive, but for what a page admits.
//
// One writer alone: -run 'TestWriters/[^/]*/NAME$'.
func TestWriters(t *testing.T) {
	sc := newScene(t)
	var (
		mu      sync.Mutex
		playing []actor
	)
	t.Run("there", func(t *testing.T) {
		for _, w := range writers() {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				s := sc.setup(t, w)
				a := actor{writer: w, write: w.start(s)}
				a.process = s.process
				if err := a.write(t.Context(), 0, portion); err != nil {
					t.Fatal(err)
				}
				sc.wait(t, w, portion, portion)
				mu.Lock()
				defer mu.Unlock()
				playing = append(playing, a)
			})
		}
	})

	if len(playing) == 0 {
		t.Fatal("nobody writes")
	}

	// What is in memory is only what was written meanwhile.
	sc.settled()
	sc.db.Stop()
	sc.all(playing, portion, 2*portion)()
	sc.accepted(len(playing) * portion)
	sc.db.Start()
	t.Run("QuestDB was away", func(t *testing.T) { sc.check(t, playing, 2*portion, 0) })

	sc.settled()
	sc.stopProxy()
	written := sc.all(playing, 2*portion, 3*portion)
	<-time.After(absence)
	sc.restarted(playing)
	sc.startProxy()
	written()
	t.Run("the proxy was away", func(t *testing.T) { sc.check(t, playing, 3*portion, 1) })
	// Whoever lost some has found its way back.
	sc.all(playing, 3*portion, 4*portion)()
	t.Run("all are back", func(t *testing.T) { sc.check(t, playing, 4*portion, 1) })
	sc.settled()
	sc.proxy.Stop(arrive)
}

// An actor is a writer that was started.
type actor struct {
	writer
	write   write
	process *process
}

// all has all of them write at the same time. The returned function waits until
// they have, and fails the test if they could not.
func (sc *scene) all(playing []actor, from, to int) (wait func()) {
	g, ctx := errgroup.WithContext(sc.Context())
	for _, a := range playing {
		g.Go(func() error {
			if err := a.write(ctx, from, to); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			return nil
		})
	}
	return func() {
		sc.Helper()
		if err := g.Wait(); err != nil {
			sc.Fatal(err)
		}
	}
}

// restarted ends those that survive it, and starts them again.
func (sc *scene) restarted(playing []actor) {
	sc.Helper()
	for _, a := range playing {
		if !a.survives {
			continue
		}
		if err := a.process.again(); err != nil {
			sc.Fatalf("starting %s again: %v", a.name, err)
		}
	}
}

// check wants so many rows of each, or less by those lost that its page admits.
func (sc *scene) check(t *testing.T, playing []actor, rows, lost int) {
	for _, a := range playing {
		t.Run(a.name, func(t *testing.T) { sc.wait(t, a.writer, rows-lost*a.loses, rows) })
	}
}
