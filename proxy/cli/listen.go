package cli

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"questdb-ilp-proxy/config"
)

// openListeners opens everything that ILP_LISTEN names, or nothing.
func (p *instance) openListeners(ctx context.Context) (err error) {
	var opened []net.Listener
	var packets []packetConn
	defer func() {
		if err != nil {
			for _, l := range opened {
				_ = l.Close()
			}
			for _, packet := range packets {
				_ = packet.conn.Close()
			}
		}
	}()
	// Taken even if nobody asked for them: they are not for others.
	passed, err := passedFiles()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range passed {
			_ = f.Close() // the listeners have copies
		}
	}()
	used := make(map[*os.File]bool, len(passed))
	var lc net.ListenConfig
	for _, at := range p.cfg.Listen {
		var l net.Listener
		switch at.Network {
		case config.NetSystemd:
			some, others, err := passedSockets(at, passed, used)
			opened, packets = append(opened, some...), append(packets, others...)
			if err != nil {
				return err
			}
			continue
		case config.NetUDP:
			conn, err := lc.ListenPacket(ctx, at.Network, at.Addr)
			if err != nil && at.MayBeAbsent(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("ILP_LISTEN: cannot listen for datagrams on %s: %w; check that nothing else does, and that the address is this machine's", at.Addr, err)
			}
			packets = append(packets, packetConn{conn.(*net.UDPConn), false})
			continue
		case config.NetUnix:
			l, err = listenUnix(ctx, at.Addr, fs.FileMode(p.cfg.UnixMode))
		default:
			l, err = lc.Listen(ctx, at.Network, at.Addr)
			if err != nil && at.MayBeAbsent(err) {
				p.log.Debug("this machine has no IPv6 loopback address; not listening there", "address", at.Addr)
				continue
			}
			if err != nil {
				err = fmt.Errorf("ILP_LISTEN: cannot listen for writers on %s: %w; check that nothing else does, and that the address is this machine's", at.Addr, err)
			}
		}
		if err != nil {
			return err
		}
		opened = append(opened, l)
	}
	for _, f := range passed {
		if !used[f] {
			p.log.Warn("systemd passed a socket that ILP_LISTEN does not name; it is closed. systemd:// takes all, systemd://NAME those with this name", "name", f.Name())
		}
	}
	p.listeners = append(p.listeners, opened...)
	p.packets = append(p.packets, packets...)
	return nil
}

// packetConn is a socket for datagrams.
type packetConn struct {
	conn   *net.UDPConn
	passed bool // by systemd, which keeps it
}

// passedSockets makes listeners of the stream sockets that systemd passed and at names,
// and takes the UDP ones as they are.
func passedSockets(at config.Listen, passed []*os.File, used map[*os.File]bool) (some []net.Listener, packets []packetConn, err error) {
	for _, f := range passed {
		if at.Addr != "" && f.Name() != at.Addr {
			continue
		}
		used[f] = true
		if conn := udpConn(f); conn != nil {
			packets = append(packets, packetConn{conn, true})
			continue
		}
		listening, err := syscall.GetsockoptInt(int(f.Fd()), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		if err != nil || listening == 0 {
			return some, packets, fmt.Errorf("ILP_LISTEN: %s: what systemd passed as %s is neither a listening stream socket nor one for UDP; its unit needs ListenStream= and Accept=no, or ListenDatagram= with a port", at, f.Name())
		}
		l, err := net.FileListener(f)
		if err != nil {
			return some, packets, fmt.Errorf("ILP_LISTEN: %s: cannot listen on what systemd passed as %s: %w", at, f.Name(), err)
		}
		some = append(some, l)
	}
	if len(some)+len(packets) == 0 {
		names := make([]string, len(passed))
		for i, f := range passed {
			names[i] = f.Name()
		}
		return nil, nil, fmt.Errorf("ILP_LISTEN: %s: systemd passed no such socket (it passed %d: %s); start the socket unit, and let it name this service",
			at, len(passed), strings.Join(names, ", "))
	}
	return some, packets, nil
}

// udpConn returns f as a UDP socket, nil if it is something else.
func udpConn(f *os.File) *net.UDPConn {
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil
	}
	if udp, ok := conn.(*net.UDPConn); ok && udp.RemoteAddr() == nil {
		return udp
	}
	_ = conn.Close()
	return nil
}
