// Package manager is the role of a node that decides: it holds a replica of
// the cluster's state, serves the API and the workers' sessions, and, while it
// leads, runs the loops of a term. It composes the packages below it.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"shoal/internal/pki"
	"shoal/manager/allocator"
	"shoal/manager/api"
	"shoal/manager/ca"
	"shoal/manager/dispatcher"
	"shoal/manager/orchestrator"
	"shoal/manager/reaper"
	"shoal/manager/relay"
	"shoal/manager/scheduler"
	"shoal/raftstore"
	"shoal/raftstore/state"
)

// Config is what a Manager needs. Zero values take the default named.
type Config struct {
	Dir        string          // required: of the replicated log
	Addr       string          // required: host:port of the node's cluster listener
	Key        []byte          // required: 32 bytes, seals what is written to Dir
	Credential *pki.Credential // required
	Raft       net.Listener    // required: connections of other managers, handshake done
	// Dial connects to another node's cluster listener, which must be a
	// manager's, for one of its protocols. Required.
	Dial func(ctx context.Context, addr, protocol string) (net.Conn, error)
	// DialNode connects to any node's cluster listener; nil: nodes cannot be asked
	// how they are.
	DialNode func(ctx context.Context, addr, protocol string) (net.Conn, error)
	// DialPeer connects to a node's cluster listener for RPCs, and makes sure
	// that it is that node; nil: engines of nodes cannot be reached.
	DialPeer func(ctx context.Context, nodeID, addr string) (net.Conn, error)
	// Distribution asks the registry of an image what it has, for clients that
	// leave that to the managers; nil: none is asked.
	Distribution func(ctx context.Context, image, auth string) (registry.DistributionInspect, error)
	// Dead reports whether gossip calls a node dead; nil: it never does.
	Dead func(nodeID string) bool
	// Founding are the first objects of a new cluster; nil: the cluster exists.
	Founding   *Founding
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// RaftProtocol and RPCProtocol are the ALPN names that a manager dials.
const (
	RaftProtocol = "shoal-raft/1"
	RPCProtocol  = "h2"
)

// Manager is one manager of the cluster. Run it once.
type Manager struct {
	cfg        Config
	log        *slog.Logger
	nodeID     string
	store      *raftstore.Store
	ca         *ca.CA
	api        *api.API
	dispatcher *dispatcher.Dispatcher
	client     *http.Client
	transport  *http.Transport
	nodes      *http.Transport // reaches every node; nil: see Config.DialNode
	relay      *relay.Caller
	handler    http.Handler // the API, wherever the leader is
	rpcs       []RPC

	// The loops of a term.
	orchestrator *orchestrator.Orchestrator
	allocator    *allocator.Allocator
	scheduler    *scheduler.Scheduler
	reaper       *reaper.Reaper
}

// New opens the manager's store and composes what runs on it. The manager
// answers once Run is called, and Run must be called to close the store.
func New(c Config) (*Manager, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	m := &Manager{cfg: c, log: c.Log, nodeID: c.Credential.Identity().NodeID}
	var err error
	m.store, err = raftstore.Open(raftstore.Config{
		Dir: c.Dir, NodeID: m.nodeID, Addr: c.Addr, Key: c.Key, Log: c.Log, Registerer: c.Registerer,
		Stream: raftstore.NewStream(c.Raft, func(addr string, timeout time.Duration) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			return c.Dial(ctx, addr, RaftProtocol)
		}),
	})
	if err != nil {
		return nil, err
	}
	if err := m.compose(); err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	return m, nil
}

func (m *Manager) compose() (err error) {
	m.transport = NewTransport(m.cfg.Dial)
	m.client = &http.Client{Transport: m.transport}
	if m.cfg.DialNode != nil {
		m.nodes = NewTransport(m.cfg.DialNode)
	}
	m.relay = relay.New(relay.Config{Dial: m.dialNodeID, Log: m.log})
	if m.ca, err = ca.New(ca.Config{Store: m.store, Leader: m.leaderAddr, Log: m.log, Registerer: m.cfg.Registerer}); err != nil {
		return err
	}
	m.dispatcher, err = dispatcher.New(dispatcher.Config{
		NodeID: m.nodeID, Store: m.store, Identity: identity, Forward: m.forwardBatch,
		Presence: m.cfg.Dead, Log: m.log, Registerer: m.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	m.api, err = api.New(api.Config{
		Store: apiStore{m.store}, Linearizable: apiStore{m.store}.Linearizable, Peers: m.peers, Tokens: m.tokens, RotateTokens: rotateTokens, NodeRemoved: ca.NodeRemoved,
		Distribution: m.cfg.Distribution, Witness: m.witness,
		Log: m.log, Registerer: m.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	m.handler = m.forward(pathAPI, m.apiMux())
	m.rpcs = m.newRPCs()
	return m.newLoops()
}

// leaderAddr is where the leader is, empty if it is not known or is here.
func (m *Manager) leaderAddr() string {
	leader, addr, _ := m.store.Leader()
	if leader == m.nodeID {
		return ""
	}
	return addr
}

func (m *Manager) tokens(v *state.View) (worker, manager string) {
	tokens, err := ca.Tokens(v)
	if err != nil {
		m.log.Error("derive join tokens", "error", err)
	}
	return tokens.Worker, tokens.Manager
}

func rotateTokens(c *state.Cluster, roles ...swarm.NodeRole) (*state.Cluster, error) {
	named := make([]pki.Role, len(roles))
	for i, role := range roles {
		named[i] = pki.Role(role)
	}
	return ca.RotateTokens(c, named...)
}

// Run takes part in the cluster until ctx ends or the store fails.
func (m *Manager) Run(ctx context.Context) error {
	defer m.transport.CloseIdleConnections()
	defer m.relay.Close()
	if m.nodes != nil {
		defer m.nodes.CloseIdleConnections()
	}
	if m.cfg.Founding != nil {
		if err := m.store.Bootstrap(ctx); err != nil {
			return errors.Join(err, m.store.Close())
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.store.Run(ctx) })
	g.Go(func() error { return m.dispatcher.Serve(ctx) })
	g.Go(func() error { return m.api.Run(ctx) })
	g.Go(func() error { return m.store.Lead(ctx, m.lead) })
	return g.Wait()
}

// View is the state as this manager has it.
func (m *Manager) View() *state.View { return m.store.View() }

// Ready reports whether the manager can answer: it knows the cluster and a
// leader.
func (m *Manager) Ready() error {
	if m.store.View().Cluster() == nil {
		return errors.New("the cluster's state has not arrived yet")
	}
	if leader, _, _ := m.store.Leader(); leader == "" {
		return errNoLeader
	}
	return m.store.Err()
}

// API answers the calls of the Docker API that are about the cluster, by
// having the leader answer them.
func (m *Manager) API() http.Handler { return m.handler }

// Changed is closed when the manager's view has changed.
func (m *Manager) Changed() <-chan struct{} { return m.store.Changed() }

// members are the managers of the consensus and which of them answer.
func (m *Manager) members() []raftstore.Peer {
	leader, _, _ := m.store.Leader()
	return reachability(m.store.Peers(), m.nodeID, leader, m.cfg.Dead)
}

// reachability says which managers answer, as self can tell: only a leader hears
// from all of them through Raft, the others go by gossip.
func reachability(peers []raftstore.Peer, self, leader string, dead func(nodeID string) bool) []raftstore.Peer {
	if leader == self {
		return peers
	}
	for i := range peers {
		p := &peers[i]
		p.Reachable = p.ID == self || dead == nil || !dead(p.ID)
	}
	return peers
}

func (m *Manager) peers() []api.Peer {
	leader, _, _ := m.store.Leader()
	var peers []api.Peer
	for _, p := range m.members() {
		peers = append(peers, api.Peer{NodeID: p.ID, Addr: p.Addr, Leader: p.ID == leader, Reachable: p.Reachable})
	}
	return peers
}

// Describe fills in what `docker info` says of a manager.
func (m *Manager) Describe(info *swarm.Info) {
	view := m.store.View()
	cluster := view.Cluster()
	if cluster == nil {
		return
	}
	public := api.PresentCluster(cluster)
	info.Cluster = &public
	reachable := 0
	for _, p := range m.peers() {
		info.Managers++
		if p.Reachable {
			reachable++
		}
	}
	for range view.Nodes() {
		info.Nodes++
	}
	switch {
	case info.Managers == 2:
		info.Warnings = append(info.Warnings, "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n         no fault tolerance, and poses a high risk to lose control over the cluster.\n         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n         Swarm for fault-tolerance.")
	case info.Managers > 2 && reachable == 1:
		info.Warnings = append(info.Warnings, fmt.Sprintf("WARNING: Only one of %d managers is reachable: the cluster cannot be changed until a majority is.", info.Managers))
	}
}

// Count returns how many managers have a vote and how many of them answer, as
// far as this manager knows.
func (m *Manager) Count() (voters, reachable int) {
	for _, p := range m.members() {
		if p.Voter {
			voters++
			if p.Reachable {
				reachable++
			}
		}
	}
	return voters, reachable
}

// LeaderChanged is closed when there is another leader, or none any more.
func (m *Manager) LeaderChanged() <-chan struct{} {
	_, _, changed := m.store.Leader()
	return changed
}
