package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"shoal/internal/backoff"
	"shoal/internal/pki"
)

// What is spoken on the cluster's one port, by ALPN name.
const (
	protocolRaft = "shoal-raft/1"   // managers among themselves
	protocolRPC  = "h2"             // sessions, renewal, calls to the leader
	protocolJoin = pki.JoinProtocol // nodes without a certificate
	protocolHTTP = "http/1.1"       // the Docker API over TCP; also without ALPN
)

// Limits of the listener before a peer has shown who it is.
const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 500 // at a time
)

// doors accepts connections on one listener and hands each, after its TLS
// handshake, to the door of its protocol.
type doors struct {
	listener   net.Listener
	tls        *tls.Config
	log        *slog.Logger
	byProtocol map[string]*door
	handshakes chan struct{}
	wait       sync.WaitGroup
}

func newDoors(l net.Listener, c *tls.Config, log *slog.Logger) *doors {
	d := &doors{listener: l, tls: c, log: log, byProtocol: map[string]*door{}, handshakes: make(chan struct{}, maxHandshakes)}
	for _, p := range []string{protocolRaft, protocolRPC, protocolJoin, protocolHTTP} {
		d.byProtocol[p] = &door{addr: l.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
	}
	return d
}

func (d *doors) door(protocol string) net.Listener { return d.byProtocol[protocol] }

// Run accepts until ctx ends, and returns when every handshake has.
func (d *doors) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { d.listener.Close() })
	defer stop()
	defer d.wait.Wait()
	defer d.close()
	for {
		conn, err := d.listener.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var temporary interface{ Temporary() bool }
		if errors.As(err, &temporary) && temporary.Temporary() {
			d.log.Warn("accept", "error", err)
			if err := backoff.Pause(ctx, 50*time.Millisecond); err != nil { // out of file descriptors, say
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		select {
		case d.handshakes <- struct{}{}:
			d.wait.Go(func() { d.handshake(ctx, conn) })
		default:
			d.log.Warn("too many handshakes at a time, connection refused", "peer", conn.RemoteAddr(), "limit", maxHandshakes)
			conn.Close()
		}
	}
}

func (d *doors) close() {
	d.listener.Close()
	for _, door := range d.byProtocol {
		door.close()
	}
}

func (d *doors) handshake(ctx context.Context, raw net.Conn) {
	defer func() { <-d.handshakes }()
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Server(raw, d.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		d.log.Debug("handshake refused", "peer", raw.RemoteAddr(), "error", err)
		raw.Close()
		return
	}
	protocol := conn.ConnectionState().NegotiatedProtocol
	if protocol == "" {
		protocol = protocolHTTP
	}
	d.byProtocol[protocol].deliver(ctx, conn)
}

// door is the listener of one protocol.
type door struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// deliver hands conn to whoever accepts here. Behind a door that nobody tends,
// such as Raft's on a worker, it ends with the handshake's time.
func (d *door) deliver(ctx context.Context, conn net.Conn) {
	select {
	case d.conns <- conn:
	case <-d.closed:
		conn.Close()
	case <-ctx.Done():
		conn.Close()
	}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case conn := <-d.conns:
		return conn, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.close()
	return nil
}

func (d *door) close() { d.once.Do(func() { close(d.closed) }) }

func (d *door) Addr() net.Addr { return d.addr }

// shared is a door's listener for a tenant that comes and goes, such as the
// manager of a node that is promoted: closing it leaves the door open.
type shared struct {
	*door
	once sync.Once
	left chan struct{}
}

func share(d *door) *shared { return &shared{door: d, left: make(chan struct{})} }

func (s *shared) Accept() (net.Conn, error) {
	select {
	case conn := <-s.conns:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	case <-s.left:
		return nil, net.ErrClosed
	}
}

func (s *shared) Close() error {
	s.once.Do(func() { close(s.left) })
	return nil
}
