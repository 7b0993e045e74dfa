package delivery

import "context"

// PathKind is what the way to a server, and that server, do with a refused record: a
// value of the metric path's label kind.
type PathKind string

// The kinds of path.
const (
	PathResets PathKind = "resets"          // it ends in a reset, which reaches the proxy
	PathHidden PathKind = "hidden"          // something between hides that
	PathSkips  PathKind = "skips_malformed" // the server goes on with the next record
)

// ExplorePath finds out the path to the server at addr as a Dispatcher does, and of how
// many bytes the padding has to be, with a few connections of source and a malformed
// record. It is for who wants to know it without delivering anything.
func ExplorePath(ctx context.Context, source Source, addr string) (kind PathKind, padding int, err error) {
	d := New(Options{Source: source, Metrics: NewMetrics(nil)})
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	p, err := d.explore(ctx, addr)
	return PathKind(p.String()), p.pad, err
}
