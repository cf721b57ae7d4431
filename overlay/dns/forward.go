package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	miekg "github.com/miekg/dns"
)

const (
	// maxForwards is how many questions wait for resolvers at once. Beyond that
	// the resolvers are not keeping up, and one that fails at once is better.
	maxForwards = 1024
	// tryTime is for one resolver to answer once, over UDP or TCP.
	tryTime = time.Second
	// forwardTime is for all tries together: less than the 4 s after which the
	// engine's resolver, which asks for the container, gives up.
	forwardTime = 3500 * time.Millisecond
	// avoidTime is for how long a resolver that did not answer is asked last.
	avoidTime = 5 * time.Second
	// maxAvoided bounds the memory of those: clients may name resolvers.
	maxAvoided = 256
)

// forwarder asks the resolvers of others.
type forwarder struct {
	conf    *resolvConf
	log     *slog.Logger
	metrics *metrics
	room    chan struct{}

	mu    sync.Mutex
	avoid map[netip.AddrPort]time.Time // did not answer; until when they come last
}

func newForwarder(path string, log *slog.Logger, m *metrics) *forwarder {
	return &forwarder{
		conf: &resolvConf{path: path, log: log}, log: log, metrics: m,
		room: make(chan struct{}, maxForwards), avoid: map[netip.AddrPort]time.Time{},
	}
}

// enter reports whether there is room for one more question; exit gives it back.
func (f *forwarder) enter() bool {
	select {
	case f.room <- struct{}{}:
		return true
	default:
		return false
	}
}

func (f *forwarder) exit() { <-f.room }

// ask is the answer of a resolver to q, which came as packet. own is the address
// that this server answers on: asking there would be asking ourselves.
func (s *Server) ask(ctx context.Context, q *query, packet []byte, own netip.Addr) []byte {
	start := time.Now()
	servers := q.client.Upstreams
	if servers == nil {
		servers = s.forward.conf.servers(start)
	}
	reply, err := s.forward.exchange(ctx, s.forward.order(servers, own, start), q, packet)
	s.metrics.forwardSeconds.Observe(time.Since(start).Seconds())
	if err != nil {
		s.log.Debug("question not answered", "name", q.question().Name, "error", err)
		return s.failed(q)
	}
	s.metrics.forwarded.Inc()
	return q.relay(reply)
}

// failed is the answer when nobody else gives one.
func (s *Server) failed(q *query) []byte {
	s.metrics.failed.Inc()
	return q.pack(q.reply(miekg.RcodeServerFailure))
}

// order is in which order resolvers are asked: as they are listed, those that
// lately did not answer last, and never ourselves.
func (f *forwarder) order(servers []netip.AddrPort, own netip.Addr, now time.Time) []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	var good, bad []netip.AddrPort
	for _, at := range servers {
		switch until, avoided := f.avoid[at]; {
		case at.Addr() == own:
		case avoided && now.Before(until):
			bad = append(bad, at)
		default:
			good = append(good, at)
		}
	}
	return append(good, bad...)
}

func (f *forwarder) silent(at netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.avoid) >= maxAvoided {
		clear(f.avoid)
	}
	f.avoid[at] = time.Now().Add(avoidTime)
}

// exchange asks each resolver in turn, twice if there is time, until one gives
// an answer that is more than an excuse; else the first excuse is the answer.
func (f *forwarder) exchange(ctx context.Context, servers []netip.AddrPort, q *query, packet []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	var excuse []byte
	err := fmt.Errorf("no resolver to ask: %w", errdefs.ErrUnavailable)
	for i := range 2 * len(servers) {
		if ctx.Err() != nil || i >= len(servers) && excuse != nil {
			break
		}
		at := servers[i%len(servers)]
		reply, tried := f.try(ctx, at, q, packet)
		switch {
		case tried == nil && decided(reply):
			return reply, nil
		case tried == nil && excuse == nil:
			excuse = reply
		case tried != nil && ctx.Err() == nil:
			f.silent(at)
		}
		err = tried
	}
	if excuse != nil {
		return excuse, nil
	}
	return nil, err
}

// decided reports whether a resolver has said something about the name, not
// about itself.
func decided(reply []byte) bool {
	rcode := int(reply[3] & 0xf)
	return rcode == miekg.RcodeSuccess || rcode == miekg.RcodeNameError
}

// try asks one resolver once, over UDP, and over TCP what had no room in its
// answer. A client that asks over UDP sees that itself, and comes back.
func (f *forwarder) try(ctx context.Context, at netip.AddrPort, q *query, packet []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	reply, err := roundTrip(ctx, "udp", at, q, packet)
	if err == nil && q.stream && (reply[2]&0x02 != 0 || len(reply) > q.room()) {
		reply, err = roundTrip(ctx, "tcp", at, q, packet)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", at, err)
	}
	return reply, nil
}

// roundTrip sends a question from a port and with an id that are new, which
// whoever wants to forge an answer would have to guess.
func roundTrip(ctx context.Context, network string, at netip.AddrPort, q *query, packet []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, at.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	asked := append([]byte(nil), packet...)
	id := uint16(rand.Uint32())
	binary.BigEndian.PutUint16(asked, id)
	if network == "tcp" {
		if err := writeFrame(conn, asked); err != nil {
			return nil, err
		}
		reply, err := readFrame(conn)
		if err == nil && !q.answeredBy(reply, id) {
			err = fmt.Errorf("not an answer to the question: %w", errdefs.ErrUnavailable)
		}
		return reply, err
	}
	if _, err := conn.Write(asked); err != nil {
		return nil, err
	}
	buf := make([]byte, q.room()+1) // one more shows what has no room
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if q.answeredBy(buf[:n], id) {
			return buf[:n], nil
		}
	}
}

// answeredBy reports whether a message is an answer to q with this id. A
// resolver that refuses may leave the question out.
func (q *query) answeredBy(reply []byte, id uint16) bool {
	if len(reply) < headerSize || binary.BigEndian.Uint16(reply) != id || reply[2]&0x80 == 0 {
		return false
	}
	switch binary.BigEndian.Uint16(reply[4:]) {
	case 0:
		return !decided(reply)
	case 1:
	default:
		return false
	}
	name, off, err := miekg.UnpackDomainName(reply, headerSize)
	if err != nil || len(reply) < off+4 {
		return false
	}
	asked := q.question()
	return strings.EqualFold(name, asked.Name) &&
		binary.BigEndian.Uint16(reply[off:]) == asked.Qtype && binary.BigEndian.Uint16(reply[off+2:]) == asked.Qclass
}
