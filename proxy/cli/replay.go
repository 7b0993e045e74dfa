package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

// maxComplaints is how many lines that are not sent are named one by one.
const maxComplaints = 20

func (p *program) replayCommand() *cobra.Command {
	r := &replay{p: p}
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Send the records of a file of rejected records again",
		Long: `Send the records of a file that the proxy wrote (ILP_REJECTED_FILE) again: through
the proxy, in order, exactly their bytes. Repair them before, or set right in
QuestDB what it refused them for. FILE may be - for standard input. It needs no
key: it connects as a writer does.

A line that cannot be read, or whose record is not whole, is named, and the rest
is sent; the exit code is 1 then. If the connection fails, nobody knows what of
that had arrived: sending the file again may make rows twice, unless the table
has DEDUP UPSERT KEYS. So may a record that came again and was refused then, as
of a table of which a column's type was changed meanwhile: it may be in QuestDB
from before. QuestDB acknowledges nothing, so what it refuses once more is in the
proxy's file again. Move the file away before, or its records stay in
it beside those. With --settled it waits until the proxy knows that they are in
QuestDB.`,
		Example: `  mv rejected.jsonl again.jsonl && questdb-ilp-proxy replay again.jsonl
  questdb-ilp-proxy replay --dry-run --reason undelivered rejected.jsonl
  jq -c 'select(.table == "trades")' rejected.jsonl | questdb-ilp-proxy replay -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return failure(r.run(cmd.Context(), args[0])) },
	}
	cmd.Flags().StringVar(&r.to, "to", "", "`HOST:PORT` to send to (default: the first of ILP_LISTEN, else localhost:9009)")
	cmd.Flags().StringArrayVar(&r.reasons, "reason", nil, "only records with this `REASON`; may be given several times.\nOne of "+strings.Join(rejected.Reasons(), ", "))
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "send nothing; read and count")
	cmd.Flags().DurationVar(&r.timeout, "timeout", 5*time.Minute, "longest `DURATION` that the proxy may take nothing,\nand that --settled may wait")
	cmd.Flags().BoolVar(&r.settled, "settled", false, "wait until the records are known to be in QuestDB; the exit code is 1 if\nany is rejected meanwhile, by whomever it was sent")
	cmd.Flags().StringVar(&r.admin, "admin", "", "`HOST:PORT` to ask for --settled (default: that of ILP_ADMIN). If the\nhost is several proxies, all are asked")
	return cmd
}

// replay is one run of the command.
type replay struct {
	p       *program
	to      string
	reasons []string
	dryRun  bool
	timeout time.Duration
	settled bool
	admin   string

	watch     *settledWatch // nil: without settled
	writer    *replayWriter // nil: not connected yet
	sent      int           // records; with dryRun those that would be
	bytes     int64
	byReason  map[string]int
	leftOut   int // because of --reason
	complaint int // lines that are not sent
}

func (r *replay) run(ctx context.Context, path string) error {
	if err := r.check(); err != nil {
		return err
	}
	input, closeInput, err := r.p.openRejected(path)
	if err != nil {
		return err
	}
	defer closeInput()
	if r.settled && !r.dryRun {
		if r.watch, err = r.p.newSettledWatch(ctx, r.admin); err != nil {
			return err
		}
	}
	if err = r.all(ctx, rejected.NewReader(input)); err == nil {
		err = r.finish()
	}
	if r.writer != nil {
		r.writer.close()
	}
	if err != nil {
		if r.sent > 0 && !r.dryRun {
			return fmt.Errorf("%w; %s had been sent until then, and nobody knows how much of that arrived", err, count(r.sent, "record"))
		}
		return err
	}
	if r.watch != nil && r.sent > 0 {
		if err := r.watch.wait(ctx, time.Now(), r.timeout); err != nil {
			return fmt.Errorf("%s sent: %w", count(r.sent, "record"), err)
		}
	}
	return r.report()
}

// check looks at the flags, and fills in the address.
func (r *replay) check() error {
	for _, reason := range r.reasons {
		if !rejected.KnownReason(reason) {
			return &ExitError{ExitUsage, fmt.Errorf("--reason: there is no %q, should be one of %s", reason, strings.Join(rejected.Reasons(), ", "))}
		}
	}
	if r.timeout <= 0 {
		return &ExitError{ExitUsage, fmt.Errorf("--timeout: %s is too short", r.timeout)}
	}
	if r.admin != "" && !r.settled {
		return &ExitError{ExitUsage, errors.New("--admin: it is asked for --settled only, which is not there")}
	}
	if r.to == "" {
		to, err := config.WriterAddr(r.p.environ)
		if err != nil {
			return r.p.configError(err)
		}
		r.to = to
		return nil
	}
	var addrs config.Addrs
	if err := addrs.UnmarshalText([]byte(r.to)); err != nil {
		return &ExitError{ExitUsage, fmt.Errorf("--to: %w", err)}
	}
	if len(addrs) != 1 {
		return &ExitError{ExitUsage, errors.New("--to: it is several addresses, should be one")}
	}
	r.to = addrs[0]
	return nil
}

// openRejected opens the file, or standard input for -. Of a file it gives only
// what is there now: the proxy may append to it what is refused once more, and
// that would never end.
func (p *program) openRejected(path string) (input io.Reader, closeInput func(), err error) {
	if path == "-" {
		return p.stdin, func() {}, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read the records: %w", err)
	}
	closeInput = func() { _ = file.Close() }
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		return io.LimitReader(file, info.Size()), closeInput, nil
	}
	return file, closeInput, nil
}

// all takes every record that the reader has.
func (r *replay) all(ctx context.Context, reader *rejected.Reader) error {
	for {
		rec, err := reader.Next()
		var line *rejected.LineError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &line):
			r.complain(line)
			continue
		case err != nil:
			return fmt.Errorf("read the records: %w", err)
		case len(r.reasons) > 0 && !slices.Contains(r.reasons, rec.Reason):
			r.leftOut++
			continue
		}
		if err := sendable(&rec); err != nil {
			r.complain(&rejected.LineError{Line: reader.Line(), Err: err})
			continue
		}
		if err := r.send(ctx, &rec); err != nil {
			return err
		}
	}
}

// sendable says whether the record's bytes end where a record does. Otherwise
// the next one would become a part of it.
func sendable(rec *rejected.Record) error {
	var scan ilp.Scanner
	scan.Scan(rec.Bytes)
	switch {
	case rec.Size != 0:
		return fmt.Errorf("only the beginning of its record was kept, %d bytes of %d", len(rec.Bytes), rec.Size)
	case scan.MidRecord():
		return errors.New(`its record has no end, should end with a line feed (\n)`)
	}
	return nil
}

func (r *replay) send(ctx context.Context, rec *rejected.Record) (err error) {
	if !r.dryRun {
		if r.writer == nil {
			if r.writer, err = dialReplay(ctx, r.to, r.timeout); err != nil {
				return err
			}
		}
		if err := r.writer.write(rec.Bytes); err != nil {
			return err
		}
	}
	if r.byReason == nil {
		r.byReason = map[string]int{}
	}
	r.byReason[rec.Reason]++
	r.sent++
	r.bytes += int64(len(rec.Bytes))
	return nil
}

func (r *replay) finish() error {
	if r.writer == nil {
		return nil
	}
	return r.writer.finish()
}

// complain names a line that is not sent.
func (r *replay) complain(err *rejected.LineError) {
	if r.complaint++; r.complaint <= maxComplaints {
		fmt.Fprintf(r.p.stderr, "%s: %v; not sent\n", name, err)
	}
}

// report says what was done. What was not is an error.
func (r *replay) report() error {
	text := fmt.Sprintf("sent %s, %s, to %s", count(r.sent, "record"), count(r.bytes, "byte"), auth.HideKeys(r.to))
	if r.dryRun {
		text = "would send" + strings.TrimPrefix(text, "sent")
	}
	if r.watch != nil && r.sent > 0 {
		text += "; settled"
	}
	if r.leftOut > 0 {
		text += fmt.Sprintf("; left out %s of another reason", count(r.leftOut, "record"))
	}
	text += "\n"
	if r.dryRun {
		for _, reason := range slices.Sorted(maps.Keys(r.byReason)) {
			text += fmt.Sprintf("%8d %s\n", r.byReason[reason], cmp.Or(reason, "(no reason)"))
		}
	}
	if _, err := io.WriteString(r.p.stdout, text); err != nil {
		return fmt.Errorf("write what was done: %w", err)
	}
	if r.complaint > 0 {
		return fmt.Errorf("%s not sent", count(r.complaint, "line"))
	}
	return nil
}

// count returns n with its noun.
func count[T int | int64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
