package cli

import (
	"context"
	"time"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
	"questdb-ilp-proxy/proxy/status"
)

// shownWriters is how many writers the status page shows.
const shownWriters = 10

// watch is what the status page needs while the proxy runs.
type watch struct {
	page     *status.Page
	rejected *status.Rejections
	cancel   context.CancelFunc
}

// newEvents returns what remembers the log for the status page. Records are in the
// log where no file keeps them, and the page may show them only if it is told to.
func newEvents(cfg *config.Config) *status.Events {
	if cfg.StatusRecords {
		return status.NewEvents()
	}
	return status.NewEvents("record")
}

// newPage returns the status page of p.
func (p *instance) newPage(version string, events *status.Events) *status.Page {
	return status.New(status.Options{
		Version: version,
		Look:    p.look,
		Count:   p.count,
		// The confirmation begins, and the server closes and lives on.
		Usual:      p.cfg.ConfirmInterval + 2*p.cfg.Settle,
		Events:     events,
		Rejections: p.watch.rejected,
	})
}

// watchRun keeps the figures of the status page until unwatch.
func (p *instance) watchRun() {
	ctx, cancel := context.WithCancel(context.Background())
	p.watch.cancel = cancel
	p.wg.Go(func() { p.watch.page.Run(ctx) })
}

func (p *instance) unwatch() {
	if p.watch.cancel != nil {
		p.watch.cancel()
	}
}

func (p *instance) count() status.Counts {
	c := p.lanes.Counts()
	return status.Counts{
		Received: float64(p.server.Records()), ReceivedBytes: p.server.Bytes(),
		Written: c.Written, WrittenBytes: c.WrittenBytes,
		Settled: c.Settled, SettledBytes: c.SettledBytes,
		Replayed: c.Replayed, Uncertain: c.Uncertain, Rejected: c.Rejected,
	}
}

func (p *instance) look() status.Snapshot {
	s := status.Snapshot{Ending: p.ending.Load(), Unsettled: p.lanes.Left(), HeldBack: p.lanes.Waiting(),
		Unsaved: p.lanes.Unsaved(), Waiting: p.server.Waiting()}
	if err := p.ready(); err != nil {
		s.Problem = err.Error()
	}
	s.Oldest, _ = p.lanes.Oldest()
	s.Memory, s.MemoryLimit = p.lanes.Memory()
	for _, l := range p.lanes.Lanes() {
		s.Lanes = append(s.Lanes, status.Lane{ID: l.ID, Apart: l.Apart, State: l.State, Addr: l.Addr,
			Writers: l.Sessions, Records: l.Records, Bytes: l.Bytes, Oldest: l.Oldest})
	}
	writers, connected := p.server.Writers(shownWriters)
	s.Connected = connected
	for _, w := range writers {
		s.Writers = append(s.Writers, status.Writer(w))
	}
	pool := p.pool.Status()
	s.Idle, s.InUse, s.Connecting = pool.Idle, pool.Acquired, pool.Connecting
	for _, h := range p.pool.Handshakes() {
		s.Servers = append(s.Servers, status.Server(h))
	}
	return s
}

// noted hands the lanes' rejected records on, and has the status page remember the
// last of them.
type noted struct {
	*rejected.Sink
	page *status.Rejections
}

func (n noted) Put(records ...rejected.Record) error {
	if err := n.Sink.Put(records...); err != nil {
		return err
	}
	for _, x := range records[max(0, len(records)-n.page.Most()):] {
		table, _ := ilp.Table(x.Bytes)
		n.page.Add(status.Rejection{Time: x.Time, Reason: x.Reason, Detail: x.Detail, Table: table, Writer: x.Remote}, x.Bytes)
	}
	return nil
}

// tooLong notes a record of which nothing was kept.
func (n noted) tooLong(remote string) {
	n.page.Add(status.Rejection{Time: time.Now(), Reason: rejected.ReasonTooLong, Detail: "longer than ILP_MAX_RECORD", Writer: remote}, nil)
}
