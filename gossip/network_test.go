package gossip

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// network is an in-memory network for one bubble. Its hosts can be cut off or
// paused; packets to a full or absent host are dropped, as on a real one.
type network struct {
	mu    sync.Mutex
	hosts map[string]*host
}

func newNetwork() *network { return &network{hosts: map[string]*host{}} }

// host is one end of the network, a memberlist.Transport.
type host struct {
	net     *network
	ip      net.IP
	packets chan *memberlist.Packet
	streams chan net.Conn

	// All below is guarded by net.mu.
	cut    map[*host]bool // from whom nothing comes
	closed bool
	paused bool
	held   []func() // what waits for the end of the pause
}

func (n *network) host(i int) *host {
	h := &host{
		net: n, ip: net.IPv4(10, 0, 0, byte(i)),
		packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64), cut: map[*host]bool{},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[h.addr()] = h // a restarted host takes the place of the old one
	return h
}

func (h *host) addr() string { return fmt.Sprintf("%s:7946", h.ip) }

// isolate cuts h off from everybody, or heals it.
func (n *network) isolate(h *host, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.hosts {
		h.cut[other], other.cut[h] = cut, cut
	}
}

// split cuts the network between two sides, or heals it.
func (n *network) split(a, b []*host, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			x.cut[y], y.cut[x] = cut, cut
		}
	}
}

// pause stops h: nothing leaves it, what reaches it waits in its buffers.
func (n *network) pause(h *host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.paused = true
}

// resume lets go of all that waited.
func (n *network) resume(h *host) {
	n.mu.Lock()
	held := h.held
	h.paused, h.held = false, nil
	n.mu.Unlock()
	for _, deliver := range held {
		deliver()
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (h *host) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return h.ip, 7946, nil }

// WriteTo implements memberlist.Transport.
func (h *host) WriteTo(b []byte, addr string) (time.Time, error) {
	packet := &memberlist.Packet{Buf: append([]byte(nil), b...), From: &net.UDPAddr{IP: h.ip, Port: 7946}, Timestamp: time.Now()}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	to := h.net.hosts[addr]
	if to == nil || to.closed || to.cut[h] {
		return packet.Timestamp, nil
	}
	deliver := func() {
		packet.Timestamp = time.Now()
		select {
		case to.packets <- packet:
		default:
		}
	}
	switch {
	case h.paused:
		h.held = append(h.held, deliver)
	case to.paused:
		to.held = append(to.held, deliver)
	default:
		deliver()
	}
	return packet.Timestamp, nil
}

// PacketCh implements memberlist.Transport.
func (h *host) PacketCh() <-chan *memberlist.Packet { return h.packets }

// StreamCh implements memberlist.Transport.
func (h *host) StreamCh() <-chan net.Conn { return h.streams }

// DialTimeout implements memberlist.Transport.
func (h *host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	to := h.net.hosts[addr]
	if h.paused || to == nil || to.closed || to.cut[h] {
		h.net.mu.Unlock()
		time.Sleep(timeout) // in bubble time: what an unanswered SYN costs
		h.net.mu.Lock()
		return nil, errors.New("i/o timeout")
	}
	ours, theirs := net.Pipe()
	deliver := func() {
		select {
		case to.streams <- addressed{theirs, h.ip}:
		default:
			theirs.Close()
		}
	}
	if to.paused {
		to.held = append(to.held, deliver)
	} else {
		deliver()
	}
	return addressed{ours, to.ip}, nil
}

// Shutdown implements memberlist.Transport.
func (h *host) Shutdown() error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.closed = true
	return nil
}

// addressed is a pipe whose other end has an address.
type addressed struct {
	net.Conn
	ip net.IP
}

// RemoteAddr implements net.Conn.
func (a addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: a.ip, Port: 7946} }

func TestNetworkDeliversToTheRightHost(t *testing.T) {
	n := newNetwork()
	a, b := n.host(1), n.host(2)
	n.pause(b)
	if _, err := a.WriteTo([]byte("x"), b.addr()); err != nil || len(b.packets) != 0 {
		t.Errorf("a paused host got a packet, err %v", err)
	}
	n.resume(b)
	n.isolate(b, true)
	if _, err := a.WriteTo([]byte("y"), b.addr()); err != nil || len(b.packets) != 1 {
		t.Errorf("host has %d packets, want the one from before the cut", len(b.packets))
	}
	if got := <-b.packets; string(got.Buf) != "x" {
		t.Errorf("got %q", got.Buf)
	}
}
