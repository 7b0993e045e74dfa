package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"questdb-ilp-proxy/auth"
)

// options are what the command line says.
type options struct {
	proxy    string
	other    string
	set      []string
	parts    []string
	rounds   int
	duration time.Duration
	rows     time.Duration
	writers  []int
	idle     int
	json     string
	only     []string
}

// parts are all that can be measured, in that order.
var parts = []part{
	{"rows", "rows/s into a real QuestDB, until they can be queried", (*bench).measureRows},
	{"throughput", "bytes/s into the sink, and the relay's CPU time for them", (*bench).measureThroughput},
	{"latency", "one way to the sink, at 1,000 rows/s of one writer", (*bench).measureLatency},
	{"short", "connections of one row each", (*bench).measureShort},
	{"idle", "memory of idle writers", (*bench).measureIdle},
}

type part struct {
	name, what string
	measure    func(*bench, context.Context) error
}

// bench is one run.
type bench struct {
	options
	dir    string // temporary files
	key    *auth.Key
	sink   *sink
	relays []*relay // there for the whole run; what is missing is in report.Notes
	report report
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sink" {
		exit(serveSink(os.Args[2:]))
	}
	// Children die with the thread that started them: it must be one that stays.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	exit(run(ctx, os.Args[1:], os.Stdout))
}

func exit(err error) {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = p.name
	}
	flags.StringVar(&o.proxy, "proxy", "bin/questdb-ilp-proxy", "the proxy's `binary`")
	flags.StringVar(&o.other, "other", "", "another `binary` of the proxy, to be measured beside it")
	flags.Func("set", "a variable `NAME=VALUE` for -other, which then is the same binary by default; may be repeated", func(v string) error {
		o.set = append(o.set, v)
		return nil
	})
	list := flags.String("parts", strings.Join(all, ","), "what to measure, comma-separated")
	only := flags.String("only", "", "only these peers, comma-separated, of: direct, haproxy, nginx, proxy (at most once), proxy-alo (at least once), other (at most once)")
	flags.IntVar(&o.rounds, "rounds", 3, "how many times each is measured")
	flags.DurationVar(&o.duration, "duration", time.Second, "how long one measurement against the sink takes")
	// What is settled a second later than it is written must be little of the whole.
	flags.DurationVar(&o.rows, "rows-duration", 8*time.Second, "how long one measurement into QuestDB is to take")
	o.writers = []int{1, 8}
	flags.Func("rows-writers", "how many writers write into QuestDB, comma-separated (default 1,8)", o.parseWriters)
	flags.IntVar(&o.idle, "idle", 5000, "how many idle writers")
	flags.StringVar(&o.json, "json", "", "write all figures to this `file` too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.other == "" && o.set != nil {
		o.other = o.proxy
	}
	o.parts = strings.Split(*list, ",")
	for _, p := range o.parts {
		if !slices.Contains(all, p) {
			return o, fmt.Errorf("-parts: %q is none of %s", p, strings.Join(all, ", "))
		}
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.rounds < 1 || o.duration <= 0 || o.rows <= 0 || o.idle < 1 {
		return o, errors.New("-rounds, -duration, -rows-duration and -idle must be positive")
	}
	return o, nil
}

func (o *options) parseWriters(list string) error {
	o.writers = nil
	for n := range strings.SplitSeq(list, ",") {
		writers, err := strconv.Atoi(n)
		if err != nil || writers < 1 {
			return fmt.Errorf("%q is no number of writers", n)
		}
		o.writers = append(o.writers, writers)
	}
	return nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	for _, binary := range []*string{&o.proxy, &o.other} {
		if *binary == "" {
			continue
		}
		found, err := exec.LookPath(*binary)
		if err != nil {
			return fmt.Errorf("the proxy: %w; build it with: make build", err)
		}
		if *binary, err = filepath.Abs(found); err != nil {
			return err
		}
	}
	raiseFileLimit()
	b := &bench{options: o, report: newReport()}
	if b.dir, err = os.MkdirTemp("", "ilp-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.key, err = auth.Generate("bench"); err != nil {
		return err
	}
	if b.sink, err = startSink(ctx, b.path("counters")); err != nil {
		return fmt.Errorf("starting the sink: %w", err)
	}
	defer b.sink.close()
	defer b.stopRelays()

	begun := time.Now()
	for _, p := range parts {
		if !slices.Contains(b.parts, p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", p.what)
		if err := p.measure(b, ctx); err != nil {
			return fmt.Errorf("measuring %s: %w", p.what, err)
		}
	}
	b.report.Seconds = time.Since(begun).Seconds()
	if err := b.report.print(out); err != nil {
		return err
	}
	if b.json == "" {
		return nil
	}
	return b.report.writeJSON(b.json)
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// wants reports whether a peer was asked for.
func (b *bench) wants(name string) bool {
	if name == otherProxy && b.other == "" {
		return false
	}
	return len(b.only) == 0 || slices.Contains(b.only, name)
}

// eachRound calls f for every peer in every round, there and back again, so that
// what drifts with time hits all alike.
func (b *bench) eachRound(ctx context.Context, peers []*relay, f func(round int, r *relay) error) error {
	for round := range b.rounds {
		order := slices.Clone(peers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, r := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(round, r); err != nil {
				return r.failed(err)
			}
		}
	}
	return nil
}
