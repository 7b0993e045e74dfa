package proxy

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"questdb-ilp-proxy/proxy/delivery"
	"questdb-ilp-proxy/proxy/ilp"
	"questdb-ilp-proxy/proxy/rejected"
)

const (
	// maxDatagram is the size in bytes that no UDP datagram reaches.
	maxDatagram = 1 << 16
	// udpBuffer is how many bytes of datagrams the kernel is asked to keep; it may
	// allow less (net.core.rmem_max).
	udpBuffer = 4 << 20
	// dropsEvery is how often the kernel is asked how many it had to drop.
	dropsEvery = time.Second
)

// packets is one UDP socket and its way into a lane. All who send to it are one
// writer: their addresses prove nothing, and would be any number.
type packets struct {
	srv  *Server
	conn *net.UDPConn
	out  *delivery.Writer
	// buf is what datagrams are read into, each from the offset at.
	buf    []byte
	at     int
	stamps *stamper // nil: nobody gives timestamps to records without
	drops  uint32   // what the kernel said last; its goroutine's
	kept   bool     // somebody else has the socket too
	half   chan time.Time
	woken  atomic.Bool // read is to begin anew, although nothing came
	ending bool        // only what is queued is to be read; its goroutine's

	remote string
	since  time.Time
	bytes  atomic.Int64 // read, of those that may send
	rate   rate         // guarded by the server's mu
}

// ServeUDP reads datagrams from conn until Shutdown or Close, and then returns
// ErrServerClosed. Each is whole records, as for QuestDB's own UDP receiver: the
// last one needs no LF. Where the journal is full it does not read, and the
// kernel drops what it has no room for, which is counted. ServeUDP closes conn.
//
// A socket is kept if whoever passed it to this process has it still: it may have had
// another reader before, and has the next one after this, for which it leaves in the
// kernel's queue what it cannot take at its end.
func (s *Server) ServeUDP(conn *net.UDPConn, kept bool) error {
	now := time.Now()
	p := &packets{srv: s, conn: conn, kept: kept, stamps: s.newStamper(), half: make(chan time.Time, 1),
		remote: "udp:" + conn.LocalAddr().String(), since: now, rate: newRate(now)}
	if p.stamps != nil {
		p.at = stampsOf(maxDatagram + 1)
	}
	p.buf = make([]byte, p.at+maxDatagram+1) // an LF may have to be added
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = conn.Close()
		return ErrServerClosed
	}
	s.packets[p] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer conn.Close()
	_ = conn.SetReadBuffer(udpBuffer) // the kernel's own default does as well
	p.out = s.o.Dispatcher.NewWriter(p.remote, func() {})
	defer p.out.Close()
	p.out.OnDemoted(p.wake)

	if kept {
		p.forgetDrops()
	}
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		p.watchDrops(stop)
		close(watched)
	}()
	defer func() {
		close(stop)
		<-watched
		p.countDrops()
	}()
	for {
		err := p.read(s.ctx)
		switch {
		case err == nil:
			continue
		case errors.Is(err, net.ErrClosed):
			return ErrServerClosed
		case errors.Is(err, os.ErrDeadlineExceeded) && p.woken.Swap(false):
			_ = conn.SetReadDeadline(time.Time{})
			if len(p.half) > 0 { // a drain began meanwhile
				_ = conn.SetReadDeadline(past)
			}
			continue
		case s.ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded):
			p.rest()
			return ErrServerClosed
		}
		if s.ctx.Err() != nil {
			p.abandon()
			return ErrServerClosed
		}
		// An ICMP error of some sender's, at most: the socket goes on.
		s.limit.Log(s.ctx, slog.LevelWarn, "udp", "cannot read datagrams; trying again", slog.Any("error", err))
		select {
		case <-time.After(acceptBackoffMin):
		case <-s.ctx.Done():
		}
	}
}

// wake has read begin anew: the writer has to change its lane.
func (p *packets) wake() {
	p.woken.Store(true)
	_ = p.conn.SetReadDeadline(past)
}

// drain has the socket's queue read to its end, until half at the latest.
func (p *packets) drain(half time.Time) {
	select {
	case p.half <- half:
	default: // told already
	}
	_ = p.conn.SetReadDeadline(past)
}

// rest reads what is queued in the kernel, until the drain's half-time.
func (p *packets) rest() {
	var half time.Time
	select {
	case half = <-p.half:
	default:
	}
	ctx := p.srv.ctx
	if !half.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, half)
		defer cancel()
	}
	p.ending = true
	for ctx.Err() == nil {
		err := p.read(ctx)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) && !p.woken.Swap(false) && !p.queued() {
			return
		}
	}
	p.abandon()
}

// lastWait is how long, at the end, the next datagram may take: someone may still be sending.
const lastWait = 10 * time.Millisecond

// queued reports whether there is a datagram to read: with a deadline that has passed, reading
// fails even then, and on a machine that stalls any deadline has.
func (p *packets) queued() bool {
	raw, err := p.conn.SyscallConn()
	return err == nil && readable(raw)
}

// abandon counts what is left in the kernel's queue when there is no time, or no
// memory, to take it.
func (p *packets) abandon() {
	if p.kept {
		return // the next one takes them
	}
	until := time.Now().Add(5 * lastWait)
	left := 0
	for time.Now().Before(until) {
		_ = p.conn.SetReadDeadline(time.Now().Add(lastWait))
		switch _, _, err := p.conn.ReadFromUDPAddrPort(p.buf); {
		case err == nil:
			left++
		case !p.queued():
			until = time.Time{}
		}
	}
	if left > 0 {
		p.srv.m.datagramsDropped.Add(float64(left))
		p.srv.log.Error("datagrams in the kernel's queue were dropped: the proxy had to end before it could take them",
			"listener", p.remote, "datagrams", left)
	}
}

// read takes one datagram; first it waits for room, or the kernel's queue would
// only be moved into here.
func (p *packets) read(ctx context.Context) error {
	if err := p.out.Ready(ctx); err != nil {
		return err
	}
	b, err := p.out.Buffer(ctx)
	if err != nil {
		return err
	}
	if p.ending { // only now: the waits above may have taken seconds
		_ = p.conn.SetReadDeadline(time.Now().Add(lastWait))
	}
	n, from, err := p.conn.ReadFromUDPAddrPort(p.buf[p.at:][:maxDatagram])
	if err != nil {
		p.out.Return(b)
		return err
	}
	m := p.srv.m
	m.datagrams.Inc()
	m.bytes.Add(int64(n))
	if !p.srv.o.Allow(from.Addr().Unmap()) {
		p.out.Return(b)
		p.refuse(from)
		return nil
	}
	p.bytes.Add(int64(n))
	whole, records := p.whole(p.buf[p.at:][:n])
	return p.put(ctx, b, whole, records)
}

func (p *packets) refuse(from netip.AddrPort) {
	p.srv.m.refused.WithLabelValues(notAllowed).Inc()
	p.srv.limit.Log(p.srv.ctx, slog.LevelWarn, "datagram", "refused a datagram; ILP_ALLOW says who may send",
		slog.String("remote", from.String()))
}

// whole returns the whole records of a datagram. QuestDB's receiver ends the
// last one itself; here an LF does, if that makes a well-formed record of it.
// Otherwise it is a fragment.
func (p *packets) whole(data []byte) (whole []byte, records int) {
	var scan ilp.Scanner
	end, records := scan.Scan(data)
	tail := len(data) - end
	if tail > 0 && scan.MidRecord() {
		data = append(data, '\n') // there is room for it
		more, n := scan.Scan(data[len(data)-1:])
		if last := data[end:]; more == 1 && !scan.MidRecord() && (n == 0 || ilp.Validate(last) == nil) {
			end, records = len(data), records+n
		} else {
			p.fragment(tail)
		}
	}
	p.srv.received(records)
	whole = data[:end]
	if len(whole) > p.srv.o.MaxRecord {
		whole, records = p.short(whole)
	}
	if p.stamps != nil {
		size, stamped := p.stamps.stamp(p.buf, p.at, p.at+len(whole))
		whole = p.buf[:size]
		p.srv.m.stamped.Add(float64(stamped))
	}
	if len(whole) > 0 && p.out.Suspect() {
		whole, records = (&session{srv: p.srv, out: p.out}).checked(p.srv.ctx, whole)
	}
	return whole, records
}

func (p *packets) fragment(n int) {
	p.srv.m.fragments.Inc()
	p.srv.m.fragmentBytes.Add(float64(n))
	p.srv.limit.Log(p.srv.ctx, slog.LevelWarn, "fragment", "a datagram ended in the middle of a record; that record is dropped",
		slog.String("remote", p.remote), slog.Int("bytes", n))
}

// short keeps the records that are not longer than ILP_MAX_RECORD.
func (p *packets) short(whole []byte) (kept []byte, records int) {
	kept = whole[:0]
	for record := range eachRecord(whole) {
		switch {
		case len(record) > p.srv.o.MaxRecord:
			p.out.CountTooLong()
			p.srv.limit.Log(p.srv.ctx, slog.LevelWarn, rejected.ReasonTooLong, "rejected a record that is longer than ILP_MAX_RECORD",
				slog.String("remote", p.remote), slog.Int("bytes", len(record)), slog.Int("limit", p.srv.o.MaxRecord))
			continue
		case !ilp.IsBlank(record):
			records++
		}
		kept = append(kept, record...)
	}
	return kept, records
}

// eachRecord yields what [ilp.Scanner.Next] delimits in whole.
func eachRecord(whole []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(whole) > 0 {
			var scan ilp.Scanner
			n, _ := scan.Next(whole)
			n = max(n, 1)
			if !yield(whole[:n:n]) {
				return
			}
			whole = whole[n:]
		}
	}
}

// put puts the whole records on the lane: into b, and as many blocks more as they
// need, where a small ILP_BUFFER makes these shorter than a datagram may be.
func (p *packets) put(ctx context.Context, b *delivery.Block, whole []byte, records int) error {
	if records == 0 { // blank lines at most
		p.out.Return(b)
		return nil
	}
	if manyBlanks(whole) {
		whole = withoutBlanks(whole)
	}
	size := p.srv.o.Dispatcher.BlockSize()
	for len(whole) > 0 {
		n, some := len(whole), records
		if n > size {
			n, some = 0, 0
			for record := range eachRecord(whole) {
				if n+len(record) > size && n > 0 {
					break
				}
				n += len(record)
				if !ilp.IsBlank(record) {
					some++
				}
			}
		}
		if b == nil {
			var err error
			if b, err = p.out.Buffer(ctx); err != nil {
				// The proxy has to end. So little more can be kept, and at worst it is
				// counted among what is left.
				p.out.AppendLarge(slices.Clone(whole), records)
				return err
			}
		}
		if n > size { // one record alone
			p.out.Return(b)
			p.out.AppendLarge(slices.Clone(whole[:n]), 1)
		} else {
			copy(b.Bytes(), whole[:n])
			p.out.Append(b, n, some)
		}
		b, whole, records = nil, whole[n:], records-some
	}
	return nil
}

// watchDrops counts what the kernel had no room for.
func (p *packets) watchDrops(stop <-chan struct{}) {
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.countDrops()
		case <-stop:
			return
		}
	}
}

func (p *packets) countDrops() {
	now, ok := p.kernelDrops()
	if n := now - p.drops; ok && n > 0 {
		p.drops = now
		p.srv.m.datagramsDropped.Add(float64(n))
		p.srv.limit.Log(p.srv.ctx, slog.LevelWarn, "drops", "the kernel dropped datagrams: they came faster than they could be read, or memory is full; net.core.rmem_max limits its queue",
			slog.String("listener", p.remote), slog.Int64("datagrams", int64(n)))
	}
}

// forgetDrops has those not counted that came before: the last reader of the socket
// has counted them, but for what came while there was none.
func (p *packets) forgetDrops() {
	if now, ok := p.kernelDrops(); ok && now > 0 {
		p.drops = now
		p.srv.log.Info("the kernel dropped datagrams before this proxy read them from this socket; an earlier one counted them, unless it had ended",
			"listener", p.remote, "datagrams", now)
	}
}

// kernelDrops returns how many datagrams the kernel dropped since the socket was made.
func (p *packets) kernelDrops() (n uint32, ok bool) {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) { n, ok = kernelDrops(fd) })
	return n, ok
}
