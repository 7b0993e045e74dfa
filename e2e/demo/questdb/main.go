// Command questdb runs a QuestDB for the demo, or for whoever wants one at hand
// while developing, and asks it questions.
//
//	questdb serve --auth auth.txt --env FILE   until SIGINT or SIGTERM, or its standard input ends
//	questdb sql HOST:PORT 'select ...'         over the PostgreSQL wire
//	questdb fetch                              only downloads it
//
// The file of --env appears when the server answers. A shell can read it: it
// sets QUESTDB_ILP, QUESTDB_HTTP and QUESTDB_PG, and PORT_1 and PORT_2, two
// ports that are kept free on 127.0.0.1 as long as the server runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"questdb-ilp-proxy/e2e/questdb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "questdb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say one of: serve, sql, fetch")
	}
	switch cmd, args := args[0], args[1:]; cmd {
	case "serve":
		return serve(ctx, args)
	case "sql":
		if len(args) != 2 {
			return errors.New("usage: questdb sql HOST:PORT 'select ...'")
		}
		return sql(ctx, os.Stdout, args[0], args[1])
	case "fetch":
		return questdb.Prepare(ctx, questdb.DefaultVersion)
	default:
		return fmt.Errorf("%q is none of: serve, sql, fetch", cmd)
	}
}

func serve(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	version := flags.String("version", questdb.DefaultVersion, "one of "+strings.Join(questdb.Versions(), ", "))
	authFile := flags.String("auth", "", "`file` with the lines of auth.txt; without it nobody has to authenticate")
	envFile := flags.String("env", "", "`file` to write the addresses to, once the server answers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o := questdb.Options{Version: *version, NoAuth: *authFile == ""}
	if *authFile != "" {
		b, err := os.ReadFile(*authFile)
		if err != nil {
			return fmt.Errorf("reading the keys: %w", err)
		}
		o.AuthLines = strings.Split(strings.TrimSpace(string(b)), "\n")
	}

	ports, release, err := questdb.ReservePorts(2)
	if err != nil {
		return err
	}
	defer release()
	p, err := questdb.Run(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(), p.Close()) }()

	env := fmt.Sprintf("QUESTDB_ILP=%s\nQUESTDB_HTTP=%s\nQUESTDB_PG=%s\nPORT_1=%d\nPORT_2=%d\n",
		p.ILP(), p.HTTP(), p.PG(), ports[0], ports[1])
	if *envFile == "" {
		fmt.Print(env)
	} else if err := writeWhole(*envFile, env); err != nil {
		return err
	}

	// Whoever started this may die without a signal to it: its end of the pipe
	// then closes.
	stdin := make(chan struct{})
	go func() {
		defer close(stdin)
		io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ctx.Done():
	case <-stdin:
	case <-p.Done():
		return errors.New("QuestDB ended by itself")
	}
	return nil
}

// writeWhole makes the file appear with all its text at once.
func writeWhole(path, text string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the addresses: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing the addresses: %w", err)
	}
	return nil
}

func sql(ctx context.Context, w io.Writer, addr, statement string) error {
	columns, rows, err := questdb.Select(ctx, addr, statement)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{columns}, rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}
