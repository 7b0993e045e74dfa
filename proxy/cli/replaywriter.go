package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// errEndedEarly says that the proxy did not take all.
var errEndedEarly = errors.New("the proxy ended the connection before it had everything (it is ending itself; or a record was rejected, with ILP_ON_REJECTED=disconnect; or its ILP_ALLOW lacks this machine)")

const (
	// replayChunk is how much is written at once, in bytes.
	replayChunk = 64 << 10
	// replayDial is how long a connection to the proxy may take, which is near.
	replayDial = 10 * time.Second
)

// replayWriter is a connection to the proxy, as a writer has it.
type replayWriter struct {
	ctx     context.Context
	conn    *net.TCPConn
	timeout time.Duration
	buf     *bufio.Writer
	stop    func() bool

	ended chan struct{} // closed when the proxy has ended the connection
	end   error         // how; nil for politely. Valid once ended is closed
}

// dialReplay connects to the proxy. The connection lives at most as long as ctx.
func dialReplay(ctx context.Context, addr string, timeout time.Duration) (*replayWriter, error) {
	dialer := net.Dialer{Timeout: min(timeout, replayDial)}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, fmt.Errorf("connect to the proxy: %w; check that it runs, and that --to or ILP_LISTEN is its address", err)
	}
	w := &replayWriter{ctx: ctx, conn: conn.(*net.TCPConn), timeout: timeout, ended: make(chan struct{})}
	w.buf = bufio.NewWriterSize(w, replayChunk)
	w.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	go w.awaitEnd()
	return w, nil
}

// awaitEnd notes how the proxy ends the connection. It never says anything.
func (w *replayWriter) awaitEnd() {
	_, w.end = io.Copy(io.Discard, w.conn)
	close(w.ended)
}

// write sends p, not necessarily at once.
func (w *replayWriter) write(p []byte) error {
	_, err := w.buf.Write(p)
	return err
}

// Write is for buf. It waits for as long as the proxy goes on taking something.
func (w *replayWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := w.early(); err != nil {
			return n, w.explain(err)
		}
		if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
			return n, w.explain(err)
		}
		m, err := w.conn.Write(p[n:min(n+replayChunk, len(p))])
		if n += m; err != nil {
			return n, w.explain(err)
		}
	}
	return n, nil
}

// early returns an error if the proxy has ended the connection.
func (w *replayWriter) early() error {
	select {
	case <-w.ended:
		return errors.Join(errEndedEarly, w.end)
	default:
		return nil
	}
}

// finish sends the rest, ends our side, and waits until the proxy has read all
// and ends its own.
func (w *replayWriter) finish() error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	if err := w.early(); err != nil {
		return w.explain(err)
	}
	if err := w.conn.CloseWrite(); err != nil {
		return w.explain(err)
	}
	timer := time.NewTimer(w.timeout)
	defer timer.Stop()
	select {
	case <-w.ended:
	case <-timer.C:
		return w.explain(os.ErrDeadlineExceeded)
	}
	if w.end == nil && !acknowledged(w.conn) {
		return w.explain(errEndedEarly) // its end is no answer to ours
	}
	return w.explain(w.end)
}

// explain says what the error means; nil stays nil.
func (w *replayWriter) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case w.ctx.Err() != nil:
		err = context.Cause(w.ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("send the records: the proxy took nothing for %s; its buffer is full (is QuestDB there?), or it has ILP_MAX_CLIENTS writers", w.timeout)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ENOTCONN):
		if !errors.Is(err, errEndedEarly) {
			err = fmt.Errorf("%w: %w", errEndedEarly, err)
		}
	}
	return fmt.Errorf("send the records: %w", err)
}

// close ends the connection, if it has not ended.
func (w *replayWriter) close() {
	w.stop()
	_ = w.conn.Close()
	<-w.ended
}
