package raftstore

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// rpcTimeout bounds one call between managers, apart from snapshots. A call on
// a cut link ends after it, and the next one finds out whether it has healed.
const rpcTimeout = 2 * time.Second

// newTransport is the transport that cfg asks for.
func newTransport(cfg Config, log *slog.Logger) raft.Transport {
	if cfg.Transport != nil {
		return cfg.Transport
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  &trackedStream{StreamLayer: cfg.Stream, open: map[net.Conn]struct{}{}},
		MaxPool:                 3, // heartbeats, entries, a vote
		MaxRPCsInFlight:         1, // one fsync covers what gathers during the one before
		Timeout:                 rpcTimeout,
		Logger:                  newLogger(log),
		MsgpackUseNewTimeFormat: true,
	})
}

// trackedStream closes its connections when it is closed. raft's own transport
// leaves open those on which it waits for a request.
type trackedStream struct {
	raft.StreamLayer
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// Accept implements net.Listener.
func (s *trackedStream) Accept() (net.Conn, error) {
	c, err := s.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

// Dial implements raft.StreamLayer.
func (s *trackedStream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := s.StreamLayer.Dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

func (s *trackedStream) track(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	t := &trackedConn{Conn: c, stream: s}
	s.open[t] = struct{}{}
	return t, nil
}

// Close implements net.Listener.
func (s *trackedStream) Close() error {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = map[net.Conn]struct{}{}
	s.mu.Unlock()
	for c := range open {
		c.Close() // of a connection that is given up
	}
	return s.StreamLayer.Close()
}

type trackedConn struct {
	net.Conn
	stream *trackedStream
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.open, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// errMuted answers calls of a manager that must not lead any more.
var errMuted = errors.New("this manager is stopping")

// guard stands between raft and its transport. It keeps snapshots away that
// raft would take wrongly, watches how far the other managers are, and can
// silence this one.
type guard struct {
	raft.Transport // outgoing calls
	store          *Store
	out            chan raft.RPC
	peers          *peerTable

	mu    sync.Mutex
	muted bool
}

func newGuard(s *Store, inner raft.Transport) *guard {
	return &guard{Transport: inner, store: s, out: make(chan raft.RPC), peers: newPeerTable()}
}

// LocalAddr implements raft.Transport: what the others are told to dial.
func (g *guard) LocalAddr() raft.ServerAddress { return raft.ServerAddress(g.store.cfg.Addr) }

// Consumer implements raft.Transport.
func (g *guard) Consumer() <-chan raft.RPC { return g.out }

// mute makes every outgoing call fail: the others elect another leader.
func (g *guard) mute() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muted = true
}

func (g *guard) silent() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.muted
}

// AppendEntries implements raft.Transport.
func (g *guard) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if g.silent() {
		return errMuted
	}
	err := g.Transport.AppendEntries(id, addr, req, resp)
	if err == nil {
		g.peers.saw(id, resp.LastLog+uint64(accepted(req, resp)), time.Now())
		if resp.Success && g.peers.acked(id, addr, req) {
			g.store.wakeNudge()
		}
	}
	return err
}

// accepted is how many entries a follower has stored since it filled in its
// answer's LastLog.
func accepted(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) int {
	if !resp.Success || len(req.Entries) == 0 {
		return 0
	}
	if last := req.Entries[len(req.Entries)-1].Index; last > resp.LastLog {
		return int(last - resp.LastLog) //nolint:gosec // at most the entries of one call
	}
	return 0
}

// AppendEntriesPipeline implements raft.Transport. Without pipelining each
// answer is seen, and what comes meanwhile goes out as one call.
func (g *guard) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// RequestVote implements raft.Transport.
func (g *guard) RequestVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if g.silent() {
		return errMuted
	}
	return g.Transport.RequestVote(id, addr, req, resp)
}

// errDiskFull keeps a manager that cannot write from becoming the leader.
var errDiskFull = errors.New("the disk of this manager is full")

// RequestPreVote implements raft.WithPreVote.
func (g *guard) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if g.silent() {
		return errMuted
	}
	if g.store.disk.timed.full.Load() {
		return errDiskFull
	}
	return g.Transport.(raft.WithPreVote).RequestPreVote(id, addr, req, resp)
}

// InstallSnapshot implements raft.Transport.
func (g *guard) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if g.silent() {
		return errMuted
	}
	err := g.Transport.InstallSnapshot(id, addr, req, resp, data)
	if err == nil && resp.Success {
		g.peers.saw(id, req.LastLogIndex, time.Now())
	}
	return err
}

// TimeoutNow implements raft.Transport.
func (g *guard) TimeoutNow(id raft.ServerID, addr raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return g.Transport.TimeoutNow(id, addr, req, resp)
}

// run hands incoming calls to raft until the store closes.
func (g *guard) run() {
	for {
		select {
		case rpc := <-g.Transport.Consumer():
			g.receive(rpc)
		case <-g.store.ctx.Done():
			return
		}
	}
}

func (g *guard) receive(rpc raft.RPC) {
	switch req := rpc.Command.(type) {
	case *raft.InstallSnapshotRequest:
		g.install(rpc, req)
	case *raft.TimeoutNowRequest:
		if g.store.disk.timed.full.Load() {
			rpc.Respond(&raft.TimeoutNowResponse{}, errDiskFull)
			return
		}
		g.pass(rpc)
	default:
		g.pass(rpc)
	}
}

func (g *guard) pass(rpc raft.RPC) bool {
	select {
	case g.out <- rpc:
		return true
	case <-g.store.ctx.Done():
		return false
	}
}

func (g *guard) close() error {
	if c, ok := g.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
