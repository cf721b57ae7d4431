package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// echoPort, UDP, is answered on a node's mesh address while doctor looks.
	echoPort = 7948
	// pingEvery is far above the way through any mesh that one would want.
	pingEvery = 100 * time.Millisecond
	tries     = 3 // of one size: a lost packet is not a small MTU
)

// Dial makes a connection to a peer's cluster listener, handshake included.
type Dial func(ctx context.Context, p Peer) (net.Conn, error)

// Probe measures the way to one peer.
func Probe(ctx context.Context, r Request, p Peer, dial Dial) Link {
	l := Link{NodeID: p.NodeID}
	began := time.Now()
	conn, err := dial(ctx, p)
	if err != nil {
		l.Error = err.Error()
	} else {
		l.RTT = time.Since(began)
		conn.Close()
	}
	if addr, err := netip.ParseAddrPort(p.Addr); err == nil && r.Port > 0 {
		l.MTU = PathMTU(ctx, netip.AddrPortFrom(addr.Addr(), uint16(r.Port))) //nolint:gosec // a port
	}
	if l.HasMesh = r.Self.Mesh.IsValid() && p.Mesh.IsValid(); l.HasMesh {
		l.LocalMTU = linkMTU(r.Self.Mesh)
		l.Mesh = Ping(ctx, r.Self.Mesh, netip.AddrPortFrom(p.Mesh, echoPort), l.LocalMTU)
	}
	return l
}

// PathMTU finds out what fits the way to an address, as far as routers on it
// say so: datagrams that may not be split are sent, which whoever is there
// throws away. 0: it could not be tried.
func PathMTU(ctx context.Context, to netip.AddrPort) int {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return dontFragment(c, unix.IP_PMTUDISC_DO) }}
	conn, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return 0
	}
	known := socketMTU(raw, to.Addr())
	for range tries {
		// An error is a router's answer to the one before: the kernel has noted it.
		_, _ = conn.Write(make([]byte, max(known-headers(to.Addr()), 0)))
		_ = conn.SetReadDeadline(time.Now().Add(pingEvery))
		_, _ = conn.Read(make([]byte, 1))
		now := socketMTU(raw, to.Addr())
		if now >= known || ctx.Err() != nil {
			return now
		}
		known = now
	}
	return known
}

// headers is what IP and UDP take of a packet.
func headers(a netip.Addr) int {
	if a.Is4() {
		return 28
	}
	return 48
}

// dontFragment makes the kernel of this node and all routers refuse packets
// that are too large.
func dontFragment(c syscall.RawConn, mode int) error {
	return c.Control(func(fd uintptr) {
		// Both: which family the socket has is not known here, and the other fails.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, mode)
	})
}

func socketMTU(c syscall.RawConn, to netip.Addr) (size int) {
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if !to.Is4() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	err := c.Control(func(fd uintptr) { size, _ = unix.GetsockoptInt(int(fd), level, option) })
	if err != nil {
		return 0
	}
	return size
}

// linkMTU is that of the interface which has an address.
func linkMTU(addr netip.Addr) int {
	link, err := underlay(addr, nil)
	if err != nil {
		return 0
	}
	return link.MTU
}

// Ping sends packets from one mesh address to the echo at another, until ctx
// ends or one comes back; then larger ones, to see what gets through.
func Ping(ctx context.Context, from netip.Addr, to netip.AddrPort, largest int) (l MeshLink) {
	d := net.Dialer{
		LocalAddr: &net.UDPAddr{IP: from.AsSlice()},
		// Not what routers said earlier counts, but what gets through now.
		Control: func(_, _ string, c syscall.RawConn) error { return dontFragment(c, unix.IP_PMTUDISC_PROBE) },
	}
	conn, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return l
	}
	defer conn.Close()
	p := pinger{conn: conn, headers: headers(from)}
	const small = 100
	for l.RTT == 0 && ctx.Err() == nil {
		l.RTT = p.ping(small)
	}
	if l.RTT == 0 {
		return l
	}
	l.MTU = small
	for _, size := range []int{largest, 1450, 1400, 1350, 1280, 1000, 576} {
		if size > largest {
			continue
		}
		for range tries {
			if ctx.Err() == nil && p.ping(size) > 0 {
				l.MTU = size
				return l
			}
		}
	}
	return l
}

type pinger struct {
	conn    net.Conn
	headers int
	count   uint64
}

// ping sends a packet of a size and returns when it is back; 0: it is not.
func (p *pinger) ping(size int) time.Duration {
	p.count++
	out := make([]byte, max(size-p.headers, 8))
	binary.BigEndian.PutUint64(out, p.count)
	began := time.Now()
	if err := p.conn.SetDeadline(began.Add(pingEvery)); err != nil {
		return 0
	}
	if _, err := p.conn.Write(out); err != nil {
		p.rest()
		return 0
	}
	in := make([]byte, len(out)+1)
	for {
		n, err := p.conn.Read(in)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0
		case err != nil: // nobody answers there yet
			p.rest()
			return 0
		case n == len(out) && binary.BigEndian.Uint64(in) == p.count: // else a late one
			return time.Since(began)
		}
	}
}

// rest waits for the deadline: what is refused would be asked again at once.
func (p *pinger) rest() {
	for {
		if _, err := p.conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Echo sends back what comes to an address of this node from inside of pool,
// until ctx ends.
func Echo(ctx context.Context, at netip.Addr, pool netip.Prefix) error {
	return echo(ctx, netip.AddrPortFrom(at, echoPort), pool)
}

func echo(ctx context.Context, at netip.AddrPort, pool netip.Prefix) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("answer probes at %s: %w", at, err)
	}
	shut := func() { _ = conn.Close() } // nothing is kept in it
	stop := context.AfterFunc(ctx, shut)
	defer stop()
	defer shut()
	packet := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(packet)
		if errors.Is(err, net.ErrClosed) {
			return ctx.Err()
		}
		if err != nil || !pool.Contains(from.Addr().Unmap()) {
			continue // an ICMP error of an answer before, or nobody of ours
		}
		_, _ = conn.WriteToUDPAddrPort(packet[:n], from) // a lost answer is a lost packet
	}
}
