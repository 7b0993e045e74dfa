package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy"
	"questdb-ilp-proxy/proxy/admin"
	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/rejected"
	"questdb-ilp-proxy/proxy/rotation"
	"questdb-ilp-proxy/proxy/sandbox"
	"questdb-ilp-proxy/proxy/status"
	"questdb-ilp-proxy/proxy/upstream"
)

// overhead is what the proxy may need beside ILP_BUFFER before the garbage
// collector works harder: code, sessions, blocks between two uses.
const overhead = 44 << 20

// adminGrace is how long requests to the admin port may take at the end.
const adminGrace = time.Second

// instance is one running proxy.
type instance struct {
	cfg       *config.Config
	log       *slog.Logger
	pool      *upstream.Pool
	lanes     *delivery.Dispatcher
	server    *proxy.Server
	admin     *admin.Server // nil: off
	rejected  *rejected.Sink
	rotation  *rotation.Watcher
	sandboxed *sandbox.Metrics
	watch     watch
	ending    atomic.Bool
	drain     chan struct{} // has an element when the admin port was asked to end the proxy

	listeners []net.Listener
	packets   []packetConn
	wg        sync.WaitGroup
	failed    chan error    // a server that should have gone on
	done      chan struct{} // closed at the very end
}

// serve runs the proxy until it is told to end, and returns the exit code: 0 if
// everything that was accepted is delivered, 1 if records were left.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger) (exitCode int, err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	// Or whoever reads the log takes the proxy, and all that it holds, along when
	// it goes away.
	signal.Ignore(syscall.SIGPIPE)

	limitMemory(cfg)
	if cfg.Sandbox != config.SandboxOff {
		// As in the static binary: the C library's resolver opens whatever it likes.
		net.DefaultResolver.PreferGo = true
	}
	p, err := newInstance(cfg, maxClients(cfg, log), log)
	if err != nil {
		return ExitFailure, err
	}
	defer p.close()
	log = p.log
	if err := p.listen(ctx); err != nil {
		return ExitFailure, err
	}
	if err := p.sandbox(); err != nil {
		return ExitFailure, err
	}
	p.start()
	rotating, stop := context.WithCancel(context.Background())
	defer stop()
	p.wg.Go(func() { p.rotation.Run(rotating, hangups) })

	select {
	case s := <-signals:
		log.Info("ending: delivering what is left", "signal", s.String(), "timeout", cfg.DrainTimeout)
	case <-p.drain:
		log.Info("ending, as the admin port was asked to: delivering what is left", "timeout", cfg.DrainTimeout)
	case <-ctx.Done():
		log.Info("ending: delivering what is left", "timeout", cfg.DrainTimeout)
	case err := <-p.failed:
		log.Error("ending: delivering what is left", "error", err, "timeout", cfg.DrainTimeout)
		exitCode = ExitFailure
	}
	return max(exitCode, p.end(signals)), nil
}

// newInstance connects the parts, for so many writers at a time; it opens
// nothing.
func newInstance(cfg *config.Config, clients int, log *slog.Logger) (*instance, error) {
	reg := admin.NewRegistry()
	b := buildInfo()
	admin.RegisterBuildInfo(reg, b.Version, b.Commit)
	events := newEvents(cfg)
	log = slog.New(events.Tee(log.Handler()))
	p := &instance{cfg: cfg, log: log, watch: watch{rejected: status.NewRejections(bool(cfg.StatusRecords))}, failed: make(chan error, 2), done: make(chan struct{}), drain: make(chan struct{}, 1)}

	var err error
	p.pool, err = upstream.New(upstream.Options{
		Addrs: cfg.Upstream, Key: cfg.Key, TLS: cfg.TLS,
		MinIdle: cfg.PoolMinIdle, Max: cfg.PoolMax,
		DialTimeout: cfg.DialTimeout, AuthTimeout: cfg.AuthTimeout,
		RetryBase: cfg.RetryBase, RetryMax: cfg.RetryMax,
		Unreachable: func(addr string) { p.lanes.Unreachable(addr) },
		Logger:      log, Metrics: upstream.NewMetrics(reg),
	})
	if err != nil {
		return nil, err
	}
	p.rotation = rotation.New(rotation.Options{
		Files: cfg.Files(), Reload: p.reload, Logger: log, Metrics: rotation.NewMetrics(reg),
	})
	p.sandboxed = sandbox.NewMetrics(reg)
	p.rejected, err = rejected.Open(rejected.Options{
		Path: cfg.RejectedFile, Logger: log, Metrics: rejected.NewMetrics(reg),
	})
	if err != nil {
		return nil, &ExitError{ExitUsage, err}
	}
	kept := noted{p.rejected, p.watch.rejected}
	fragments := fragmentMemory(int64(cfg.Buffer), int64(cfg.MaxRecord))
	p.lanes = delivery.New(delivery.Options{
		Source:          source{p.pool},
		Lanes:           lanes(cfg.PoolMax, cfg.PoolMinIdle, cfg.Delivery == config.AtLeastOnce),
		Connections:     cfg.PoolMax,
		Memory:          int64(cfg.Buffer) - fragments,
		MaxRecord:       int(cfg.MaxRecord),
		RetryBase:       cfg.RetryBase,
		ConfirmBytes:    int64(cfg.SegmentBytes()),
		ConfirmInterval: cfg.ConfirmInterval,
		Settle:          cfg.Settle,
		AtMostOnce:      cfg.Delivery == config.AtMostOnce,
		Gather:          bool(cfg.Stamp), // room is left for stamps
		NoPathCheck:     !bool(cfg.PathCheck),
		Rejects:         kept,
		TooLong:         kept.tooLong,
		LogOnly:         cfg.RejectedFile == "",
		Disconnect:      cfg.OnRejected == config.OnRejectedDisconnect,
		Logger:          log, Metrics: delivery.NewMetrics(reg),
	})
	p.server = proxy.NewServer(proxy.Options{
		Dispatcher: p.lanes, Allow: allow(cfg),
		MaxClients: clients, MaxClientsPerAddress: cfg.MaxClientsPerAddress, IdleTimeout: cfg.ClientIdleTimeout,
		MaxRecord: int(cfg.MaxRecord), FragmentMemory: fragments,
		Stamp:  bool(cfg.Stamp),
		Logger: log, Metrics: proxy.NewMetrics(reg),
	})
	admin.RegisterReady(reg, p.ready)
	if cfg.Admin != "" {
		p.watch.page = p.newPage(b.Version, events)
		p.admin = admin.New(admin.Options{
			Addr: string(cfg.Admin), Hosts: cfg.AdminHosts, Ready: p.ready, Drain: p.askDrain,
			Pprof: bool(cfg.AdminPprof), Token: cfg.AdminToken,
			Gatherer: reg, Status: p.watch.page, Logger: log,
		})
	}
	return p, nil
}

// fragmentMemory is how much of the memory is for records whose end has not come yet: a
// quarter, or less where that is plenty, but an eighth and four of the longest records at
// the least.
func fragmentMemory(buffer, maxRecord int64) int64 {
	return min(buffer/4, max(plentyForFragments, 4*maxRecord, buffer/8))
}

const plentyForFragments = 16 << 20

// lanes is how many lanes a pool allows: half of its places at most, as long as minIdle
// and reserved fit beside them. In a smaller pool it is half of what minIdle leaves, since
// a lane that changes its connection needs two for a moment.
//
// Where lanes confirm what they sent, each segment costs QuestDB a connection, an
// authentication and a commit: of eight writers at full speed it takes 0.94 to 0.98 times
// as many rows as straight over eight lanes, 0.99 to 1.04 over four. So it is a quarter of
// the places at most then, or fewLanes if that is more.
func lanes(most, minIdle int, confirm bool) int {
	n := max((most-minIdle)/2, min(most/2, most-minIdle-reserved))
	if confirm {
		n = min(n, max(fewLanes, most/4))
	}
	return n
}

// fewLanes serve thousands of writers, and give one of refused records few neighbours.
const fewLanes = 4

// reserved connections are for the lane apart, proofs of life, and lanes that change.
const reserved = 5

// allow returns who may connect; nil means everybody who can.
func allow(cfg *config.Config) func(netip.Addr) bool {
	passed := slices.ContainsFunc(cfg.Listen, func(l config.Listen) bool { return l.Network == config.NetSystemd })
	if cfg.Allow.IsZero() && !passed {
		return nil // only loopback is listened on
	}
	return cfg.Allow.Contains
}

// listen opens all listeners, or none.
func (p *instance) listen(ctx context.Context) error {
	if p.admin != nil {
		if err := p.admin.Listen(); err != nil {
			return err
		}
		p.log.Info("serving health and metrics", "address", p.admin.Addr().String())
	}
	return p.openListeners(ctx)
}

// start begins to serve.
func (p *instance) start() {
	p.pool.Start()
	for _, l := range p.listeners {
		p.log.Info("listening for writers", "address", l.Addr().String(), "upstream", p.cfg.Upstream)
		p.wg.Go(func() {
			if err := p.server.Serve(l); !errors.Is(err, proxy.ErrServerClosed) {
				p.fail(err)
			}
		})
	}
	for _, packet := range p.packets {
		p.log.Info("listening for datagrams", "address", packet.conn.LocalAddr().String(), "upstream", p.cfg.Upstream)
		p.wg.Go(func() {
			if err := p.server.ServeUDP(packet.conn, packet.passed); !errors.Is(err, proxy.ErrServerClosed) {
				p.fail(err)
			}
		})
	}
	if p.admin != nil {
		p.watchRun()
		p.wg.Go(func() {
			if err := p.admin.Serve(); err != nil {
				p.fail(err)
			}
		})
	}
	p.wg.Go(func() { p.watchdog(p.done) })
	p.notify(daemon.SdNotifyReady)
}

// fail ends the proxy; the first one to say why is heard.
func (p *instance) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// reload reads the files of key and certificates again, and has connections made with
// what is in them.
func (p *instance) reload() (attrs []any, err error) {
	fresh, err := p.cfg.Reload()
	if err != nil {
		return nil, err
	}
	for _, warning := range fresh.Warnings {
		p.log.Warn("configuration: " + warning)
	}
	p.pool.SetCredentials(fresh.Key, fresh.TLS)
	return []any{"key_id", fresh.Key.ID()}, nil
}

// ready says whether rows can be delivered; the error says why not.
func (p *instance) ready() error {
	if p.ending.Load() {
		return errors.New(ending)
	}
	if s := p.pool.Status(); !s.Ready {
		return errors.New(s.Reason)
	}
	return p.rejected.Err()
}

// sameSignal is how soon after the first a second signal is the same one, which came
// twice: timeout(1) signals its child and then the group, and a terminal's Ctrl-C goes
// to the group and is passed on by some wrappers.
const sameSignal = 250 * time.Millisecond

// askDrain has the proxy end. /readyz says so from now on, and not from whenever
// the end begins: whoever asked can tell this proxy from the next one here.
func (p *instance) askDrain() {
	p.ending.Store(true)
	select {
	case p.drain <- struct{}{}:
	default: // it was asked before
	}
}

// end reads what writers still say and delivers everything, for as long as
// ILP_DRAIN_TIMEOUT allows and no second signal comes. It returns the exit code.
func (p *instance) end(signals <-chan os.Signal) (exitCode int) {
	p.ending.Store(true)
	p.notify(stopping(p.cfg.DrainTimeout))
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.DrainTimeout)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	var impatient atomic.Bool
	go func() {
		for begun := time.Now(); ; {
			select {
			case <-signals:
				if time.Since(begun) < sameSignal {
					continue
				}
				impatient.Store(true)
				cancel()
			case <-ended:
			}
			return
		}
	}()

	p.server.Shutdown(ctx)
	received := p.server.Records()
	left, lost := p.lanes.Drain(ctx)
	p.lanes.Close() // has said everything then
	if err := p.rejected.Close(); err != nil {
		p.log.Error("cannot close ILP_REJECTED_FILE", "error", err)
	}
	if left > 0 {
		why := "ILP_DRAIN_TIMEOUT is over"
		if impatient.Load() {
			why = "ended by a second signal"
		}
		attrs := []any{"records", left, "received", received, "upstream", p.pool.Status().Reason}
		switch {
		case p.cfg.RejectedFile == "":
			p.log.Error(why+"; records that were accepted are lost: there is no ILP_REJECTED_FILE to keep them in", attrs...)
		case lost > 0:
			p.log.Error(why+"; records that were accepted are lost: ILP_REJECTED_FILE could not take them", append(attrs, "lost", lost)...)
		default:
			p.log.Error(why+"; records that were not known to be in QuestDB are in ILP_REJECTED_FILE, from where replay brings them in", attrs...)
		}
		return ExitFailure
	}
	outcome, attrs := delivered(p.lanes.Counts(), received)
	if impatient.Load() {
		p.log.Warn("ended by a second signal; "+outcome, attrs...)
		return ExitFailure
	}
	p.log.Info("ended; "+outcome, attrs...)
	return ExitOK
}

// delivered says in a sentence what became of all that was received, where nothing is left.
func delivered(c delivery.Counts, received int64) (outcome string, attrs []any) {
	attrs = []any{"received", received}
	if c.Rejected > 0 {
		attrs = append(attrs, "rejected", int64(c.Rejected))
	}
	switch {
	case c.Uncertain > 0:
		return "everything that was accepted was sent once; of some records it is not known whether QuestDB has them", append(attrs, "uncertain", int64(c.Uncertain))
	case c.Rejected > 0:
		return "everything that was accepted is delivered, but for the records that were rejected", attrs
	}
	return "everything that was accepted is delivered", attrs
}

// close ends whatever is left, and waits for it.
func (p *instance) close() {
	p.unwatch()
	for _, l := range p.listeners {
		_ = l.Close() // if they were never served
	}
	for _, packet := range p.packets {
		_ = packet.conn.Close()
	}
	p.server.Close()
	p.lanes.Close()
	p.pool.Close()
	_ = p.rejected.Close() // only if end was not reached
	if p.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
		defer cancel()
		_ = p.admin.Shutdown(ctx) // breaks off what is left when the time is over
	}
	close(p.done)
	p.wg.Wait()
}

// limitMemory tells the garbage collector what the proxy should need, unless
// GOMEMLIMIT says something else.
func limitMemory(cfg *config.Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.Buffer) + overhead)
	}
}

// ownFiles is how many files the proxy needs beside writers and upstream
// connections: listeners, the admin port, the runtime, name resolution.
const ownFiles = 64

// maxClients returns how many writers can be served at a time. Each is an open
// file: so that there are always some left to reach QuestDB and to answer health
// checks, it is fewer than ILP_MAX_CLIENTS if the system allows no more. The
// soft limit is raised to the hard one before.
func maxClients(cfg *config.Config, log *slog.Logger) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("cannot read the limit of open files", "error", err)
		return cfg.MaxClients
	}
	if limit.Cur < limit.Max {
		raised := syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
			log.Warn("cannot raise the limit of open files", "to", limit.Max, "error", err)
		} else {
			limit = raised
		}
	}
	reserved := uint64(cfg.PoolMax + ownFiles)
	if limit.Cur >= uint64(cfg.MaxClients)+reserved {
		return cfg.MaxClients
	}
	clients := 1
	if limit.Cur > reserved {
		clients = int(limit.Cur - reserved)
	}
	log.Warn("the limit of open files is too low for ILP_MAX_CLIENTS writers, so fewer are served at a time; raise it (ulimit -n, LimitNOFILE=)",
		"limit", limit.Cur, "needed", uint64(cfg.MaxClients)+reserved, "clients", clients)
	return clients
}
