// Command writer writes rows as a well-behaved writer does: when the proxy ends the
// connection it ends its own side after a whole row, and goes on over a new one. It
// says at the end how many it wrote; on SIGTERM as a row too, in a table that is
// called like the other with _ends behind it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9009", "`HOST:PORT` of the proxy")
	table := flag.String("table", "rows", "table to write to")
	name := flag.String("name", os.Getenv("HOSTNAME"), "tag w of the rows")
	rows := flag.Int("rows", 1000, "rows to write, n from 0")
	rate := flag.Int("rate", 0, "rows a second, 0 for as fast as can be")
	flag.Parse()
	w := writer{addr: *addr}
	pause := time.Duration(0)
	if *rate > 0 {
		pause = time.Second / time.Duration(*rate)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	next, wrote := time.Now(), 0
	for n := 0; n < *rows && ctx.Err() == nil; n++ {
		row := fmt.Sprintf("%s,w=%s n=%di %d\n", *table, *name, n, time.Now().UnixNano())
		if err := w.write(row); err != nil {
			fmt.Fprintf(os.Stderr, "row %d: %v\n", n, err)
			os.Exit(1)
		}
		wrote++
		if pause > 0 {
			next = next.Add(pause)
			select {
			case <-time.After(time.Until(next)):
			case <-ctx.Done():
			}
		}
	}
	if ctx.Err() != nil {
		if err := w.write(fmt.Sprintf("%s_ends,w=%s n=%di %d\n", *table, *name, wrote, time.Now().UnixNano())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := w.end(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("wrote %d rows over %d connections\n", wrote, w.connections)
}

type writer struct {
	addr        string
	conn        *net.TCPConn
	ended       chan error // gets one when the proxy has ended the connection
	connections int
}

// write sends a row, over a new connection if the proxy has ended the last one.
func (w *writer) write(row string) error {
	if w.conn != nil {
		select {
		case err := <-w.ended:
			if err != nil {
				return fmt.Errorf("rows may be lost: %w", err)
			}
			// Everything before was whole, so this is an end and no cut.
			if err := w.conn.Close(); err != nil {
				return err
			}
			w.conn = nil
		default:
		}
	}
	if w.conn == nil {
		if err := w.connect(); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w.conn, row)
	return err
}

// connect tries for a minute: a pod that ends is no reason to give up.
func (w *writer) connect() error {
	timeout := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialTimeout("tcp", w.addr, 5*time.Second)
		if err == nil {
			w.connections++
			w.conn, w.ended = conn.(*net.TCPConn), make(chan error, 1)
			go func(conn net.Conn, ended chan<- error) {
				_, err := io.Copy(io.Discard, conn)
				ended <- err
			}(conn, w.ended)
			return nil
		}
		select {
		case <-tick.C:
		case <-timeout:
			return err
		}
	}
}

// end waits until the proxy has read everything.
func (w *writer) end() error {
	if w.conn == nil {
		return nil
	}
	if err := w.conn.CloseWrite(); err != nil {
		return err
	}
	return <-w.ended
}
