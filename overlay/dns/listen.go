package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// maxStreams is how many TCP connections are open at once: TCP is for the few
	// answers that UDP has no room for.
	maxStreams = 256
	// streamIdle ends a connection on which nothing is asked, or read.
	streamIdle = 10 * time.Second
	// maxQuery is more than any question has, with all its options.
	maxQuery = 4096
	// portTries is how often a port that is free for UDP may be taken for TCP.
	portTries = 32
	// afterError is waited when a socket that is not closed gives an error.
	afterError = 100 * time.Millisecond
)

// sockets are where one address is served.
type sockets struct {
	at  netip.AddrPort
	udp *net.UDPConn
	tcp net.Listener
}

// open takes a port of addr that is free for both.
func open(addr netip.Addr) (*sockets, error) {
	var err error
	for range portTries {
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))); err != nil {
			break
		}
		at := netip.AddrPortFrom(addr, udp.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		tcp, taken := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if taken == nil {
			return &sockets{at, udp, tcp}, nil
		}
		err = taken
		(&sockets{udp: udp}).close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("listen for DNS on %s: %w", addr, err)
}

// close may be called again.
func (k *sockets) close() {
	var udp io.Closer = k.udp
	udp.Close()
	if k.tcp != nil {
		k.tcp.Close()
	}
}

// serve answers on sockets until they are closed, and returns when nothing of
// it is left; ctx ends what is under way.
func (s *Server) serve(ctx context.Context, k *sockets) {
	var g sync.WaitGroup
	for range min(4, runtime.GOMAXPROCS(0)) {
		g.Go(func() { s.serveUDP(ctx, &g, k) })
	}
	g.Go(func() { s.serveTCP(ctx, &g, k) })
	g.Wait()
}

// serveUDP answers names of ours itself; each forwarded question is a goroutine,
// of which the forwarder bounds the number.
func (s *Server) serveUDP(ctx context.Context, g *sync.WaitGroup, k *sockets) {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := k.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !s.goOn(ctx, err, "read a question over UDP") {
				return
			}
			continue
		}
		reply, q := s.answer(buf[:n], from.Addr(), false)
		if q == nil {
			s.send(k, reply, from)
			continue
		}
		if !s.forward.enter() {
			s.send(k, s.failed(q), from)
			continue
		}
		packet := append([]byte(nil), buf[:n]...)
		g.Go(func() {
			defer s.forward.exit()
			s.send(k, s.ask(ctx, q, packet, k.at.Addr()), from)
		})
	}
}

func (s *Server) send(k *sockets, reply []byte, to netip.AddrPort) {
	if reply == nil {
		return
	}
	if _, err := k.udp.WriteToUDPAddrPort(reply, to); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("answer not sent", "to", to, "error", err)
	}
}

// goOn says whether a socket is to be read again after an error.
func (s *Server) goOn(ctx context.Context, err error, doing string) bool {
	if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
		return false
	}
	s.log.Warn("dns socket", "doing", doing, "error", err)
	select {
	case <-time.After(afterError):
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) serveTCP(ctx context.Context, g *sync.WaitGroup, k *sockets) {
	room := make(chan struct{}, maxStreams)
	for {
		conn, err := k.tcp.Accept()
		if err != nil {
			if !s.goOn(ctx, err, "accept a connection") {
				return
			}
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		g.Go(func() {
			defer func() { <-room }()
			s.serveStream(ctx, conn, k.at.Addr())
		})
	}
}

// serveStream answers the questions of a connection, one after the other.
func (s *Server) serveStream(ctx context.Context, conn net.Conn, own netip.Addr) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	for {
		if conn.SetDeadline(time.Now().Add(streamIdle)) != nil {
			return
		}
		packet, err := readFrame(conn)
		if err != nil || len(packet) > maxQuery {
			return
		}
		reply, q := s.answer(packet, from, true)
		if q != nil && s.forward.enter() {
			reply = s.ask(ctx, q, packet, own)
			s.forward.exit()
		} else if q != nil {
			reply = s.failed(q)
		}
		if reply == nil || writeFrame(conn, reply) != nil {
			return
		}
	}
}

// readFrame reads a message with its length in front, as over TCP.
func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, message []byte) error {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message)))
	_, err := w.Write(append(b, message...))
	return err
}
