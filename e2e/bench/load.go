package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"questdb-ilp-proxy/auth"
)

const (
	// chunkSize is about what clients write at a time.
	chunkSize = 64 << 10
	// payloadSize is how much text there is before it repeats.
	payloadSize = 1 << 20
)

// rows makes text of whole records for table, all of one length, and says which.
// They have no timestamp: QuestDB sets one, so that sending them again is no
// out-of-order write.
func rows(table string, size int) (text []byte, length int) {
	for i := 0; len(text) < size; i++ {
		text = fmt.Appendf(text, "%s,host=host-%02d,region=eu-west-1 usage=%02d.%03d,load=%d.%02d,free=%08di,note=\"all well\"\n",
			table, i%64, i%100, i*7%1000, i%10, i*3%100, i*7919%100000000)
		if i == 0 {
			length = len(text)
		}
	}
	return text, length
}

// chunks cuts text into pieces of whole rows.
func chunks(text []byte, length int) (pieces [][]byte) {
	size := chunkSize / length * length
	for len(text) > size {
		pieces = append(pieces, text[:size])
		text = text[size:]
	}
	return append(pieces, text)
}

// dialer makes a writer's connection.
type dialer func(ctx context.Context) (net.Conn, error)

func plainDialer(addr string) dialer {
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
}

// authDialer is for a writer straight to QuestDB.
func authDialer(addr string, key *auth.Key) dialer {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := plainDialer(addr)(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := auth.Handshake(ctx, c, key, patience); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

// load is some writers that send as fast as they can.
type load struct {
	conns []net.Conn
	wg    sync.WaitGroup
	over  atomic.Bool
	mu    sync.Mutex
	err   error
}

// startLoad has one writer for each of pieces send these, over and over; it ends
// after limit of them, never if that is 0.
func startLoad(ctx context.Context, dial dialer, pieces [][][]byte, limit int) (*load, error) {
	l := &load{}
	for range pieces {
		c, err := dial(ctx)
		if err != nil {
			return nil, errors.Join(err, l.stop())
		}
		l.conns = append(l.conns, c)
	}
	for w, c := range l.conns {
		pieces := pieces[w]
		l.wg.Go(func() {
			for i := 0; !l.over.Load() && (limit == 0 || i < limit); i++ {
				if _, err := c.Write(pieces[i%len(pieces)]); err != nil {
					l.mu.Lock()
					l.err = errors.Join(l.err, err)
					l.mu.Unlock()
					return
				}
			}
		})
	}
	return l, nil
}

// wait returns when all writers have sent what they should.
func (l *load) wait() error {
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// stop ends the writers behind a whole row.
func (l *load) stop() error {
	l.over.Store(true)
	err := l.wait()
	for _, c := range l.conns {
		_ = c.Close()
	}
	return err
}
