package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/gossip"
	"shoal/internal/id"
	"shoal/internal/pki"
	"shoal/manager/relay"
	"shoal/overlay/check"
	"shoal/worker"
	"shoal/worker/assignment"
	"shoal/worker/session"
)

// build makes the parts of one run. Those that need closing take nothing
// before they run, but for gossip, which comes last.
func (m *member) build(listener net.Listener) error {
	registry := prometheus.NewRegistry()
	m.mu.Lock()
	m.metrics = prometheus.Gatherers{registry}
	m.attachments = newAttachments(m.rpc, m.node.engine, m.log)
	m.mu.Unlock()
	m.doors = newDoors(listener, pki.ServerTLS(pki.Server{
		Credential: m.credential.Load(),
		Protocols:  []string{protocolRaft, protocolRPC, protocolJoin, protocolHTTP},
		Anonymous:  []string{protocolJoin},
		Allow:      m.allow,
	}), m.log)
	var err error
	m.renewer, err = pki.NewRenewer(pki.RenewerConfig{Credential: m.credential.Load(), Managers: m.managers, Log: m.log, Registerer: registry})
	if err != nil {
		return err
	}
	if m.worker, err = m.newWorker(registry); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	keys, err := m.record.Load().openGossipKeys(m.key)
	if err != nil {
		return err
	}
	listen, _, _ := net.SplitHostPort(m.record.Load().Listen)
	advertise, _, _ := net.SplitHostPort(m.record.Load().Advertise)
	g, err := gossip.New(gossip.Config{
		NodeID: m.record.Load().NodeID, Label: m.record.Load().ClusterID, Keys: keys,
		BindAddr: listen, BindPort: m.cfg.GossipPort, AdvertiseAddr: advertise, AdvertisePort: m.cfg.GossipPort,
		Meta: []byte(m.cfg.Version), Log: m.log, Registerer: registry,
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gossip, m.networkReady, m.gatewayReady = g, m.worker.NetworkReady, m.worker.GatewayReady
	return err
}

func (m *member) newWorker(registry prometheus.Registerer) (*worker.Worker, error) {
	tunnelKey, err := m.record.Load().openTunnelKey(m.key)
	if err != nil {
		return nil, err
	}
	return worker.New(worker.Config{
		Dir: m.cfg.workerDir(), Key: m.key, TunnelKey: tunnelKey, NodeID: m.record.Load().NodeID, ClusterID: m.record.Load().ClusterID,
		FileDir:    m.cfg.fileDir(m.record.Load().NodeID),
		EngineHost: m.cfg.Engine, Engine: m.cfg.WorkerEngine, Log: m.log, Registerer: registry,
		Session: session.Config{
			Boot: id.New(), Addr: m.record.Load().Advertise,
			Managers: func() []assignment.Manager { return toAssignment(m.managers()) },
			TLS: func() (*tls.Config, error) {
				return pki.ClientTLS(pki.Client{Credential: m.credential.Load(), Protocols: []string{protocolRPC}, Roles: []pki.Role{pki.RoleManager}}), nil
			},
			OnManagers:   m.onManagers,
			OnGossipKeys: m.onGossipKeys,
			OnRole:       func(r swarm.NodeRole) { m.renewer.SetRole(pki.Role(r)) },
			OnSession:    m.onSession,
			OnRefused:    m.onRefused,
		},
	})
}

// allow decides which peers with a good certificate may use which protocol.
func (m *member) allow(peer pki.Identity, protocol string) error {
	deny := func(why string) error { return denied("%s: %s", peer, why) }
	switch {
	case protocol == protocolRaft && peer.Role != pki.RoleManager:
		return deny("only managers speak Raft")
	case protocol == protocolRPC && peer.Role == pki.RoleClient:
		return deny("clients speak HTTP/1.1")
	case (protocol == protocolHTTP || protocol == "") && peer.Role == pki.RoleWorker:
		return deny("the API over TCP is for clients and managers")
	}
	// RPCs look themselves, so that a node which was removed is told: it cannot
	// read that from a handshake that fails.
	if mgr := m.manager(); mgr != nil && protocol != protocolRPC && peer.Role != pki.RoleClient {
		return mgr.Member(peer.NodeID)
	}
	return nil
}

// dial connects to a manager's cluster listener.
func (m *member) dial(ctx context.Context, addr, protocol string) (net.Conn, error) {
	dialer := tlsDialer(pki.Client{Credential: m.credential.Load(), Protocols: []string{protocol}, Roles: []pki.Role{pki.RoleManager}})
	return dialer.DialContext(ctx, "tcp", addr)
}

// dialNode connects to any node's cluster listener.
func (m *member) dialNode(ctx context.Context, addr, protocol string) (net.Conn, error) {
	dialer := tlsDialer(pki.Client{Credential: m.credential.Load(), Protocols: []string{protocol}, Roles: []pki.Role{pki.RoleManager, pki.RoleWorker}})
	return dialer.DialContext(ctx, "tcp", addr)
}

func tlsDialer(c pki.Client) *tls.Dialer { return &tls.Dialer{Config: pki.ClientTLS(c)} }

// serveRPC answers sessions and the calls of other managers, and on every node
// the leader who asks how it is, and managers who want its engine.
func (m *member) serveRPC(ctx context.Context) error {
	h := http.NewServeMux()
	h.HandleFunc("POST "+check.Path, m.examine)
	h.Handle(relay.Path+"/", m.engineDoor())
	h.Handle("/", m.managerOnly(func(w http.ResponseWriter, r *http.Request, mgr handlers) { mgr.RPC().ServeHTTP(w, r) }))
	return serve(ctx, m.doors.door(protocolRPC), h, func(s *http.Server) {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP2(true)
		// A worker that is cut off is noticed by its silence, not by pings; a
		// manager may hold a session of every worker.
		s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1000}
	})
}

// serveJoin answers nodes that have no certificate yet.
func (m *member) serveJoin(ctx context.Context) error {
	h := m.managerOnly(func(w http.ResponseWriter, r *http.Request, mgr handlers) { mgr.Join().ServeHTTP(w, r) })
	return serve(ctx, plain{m.doors.door(protocolJoin)}, h, func(s *http.Server) {
		s.ReadTimeout, s.WriteTimeout = 10*time.Second, 30*time.Second
	})
}

// plain hides from net/http that its connections are TLS: it drops those that
// have negotiated a protocol which it does not know.
type plain struct{ net.Listener }

func (p plain) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{conn}, nil
}

// serveTCP answers the Docker API to clients with a certificate.
func (m *member) serveTCP(ctx context.Context) error {
	return serve(ctx, m.doors.door(protocolHTTP), m.node.dockerAPI(), nil)
}

// handlers is what a manager serves on the cluster's listener.
type handlers interface {
	RPC() http.Handler
	Join() http.Handler
}

func (m *member) managerOnly(h func(http.ResponseWriter, *http.Request, handlers)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mgr := m.manager()
		if mgr == nil {
			writeError(w, http.StatusServiceUnavailable, errors.New("this node is not a manager"))
			return
		}
		h(w, r, mgr)
	})
}

// gossipSeeds are the managers' gossip listeners, on the port that all use.
func (m *member) gossipSeeds() (seeds []string) {
	for _, peer := range m.managers() {
		host, _, err := net.SplitHostPort(peer.Addr)
		if err == nil && peer.NodeID != m.record.Load().NodeID {
			seeds = append(seeds, net.JoinHostPort(host, strconv.Itoa(m.cfg.GossipPort)))
		}
	}
	return seeds
}

func (m *member) onManagers(list []assignment.Manager) {
	managers := make([]pki.Manager, 0, len(list))
	for _, a := range list {
		managers = append(managers, pki.Manager(a))
	}
	if len(managers) == 0 {
		return
	}
	m.remember(func(r *record) { r.Managers = managers })
}

func (m *member) onGossipKeys(keys [][]byte) {
	if err := m.gossip.SetKeys(keys); err != nil {
		m.log.Error("take new gossip keys", "error", err)
		return
	}
	m.remember(func(r *record) {
		if err := r.sealGossipKeys(m.key, keys); err != nil {
			m.log.Error("seal gossip keys", "error", err)
		}
	})
}

// onRefused notes that the cluster does not want this node any more. What runs
// here goes on until the node is told to leave.
func (m *member) onRefused(err error) {
	if errdefs.IsPermissionDenied(err) || errdefs.IsConflict(err) {
		m.log.Error("the managers refuse this node: run `shoal leave` here, and join again if it should be part of the cluster", "error", err)
		m.node.setError(err)
	}
}

// remember changes the record, and the file if the node is in the cluster.
func (m *member) remember(change func(*record)) {
	m.mu.Lock()
	next := *m.record.Load()
	change(&next)
	m.record.Store(&next)
	m.mu.Unlock()
	if !m.isReady() {
		return // an init or join that has yet to succeed writes it then
	}
	if err := m.saveRecord(); err != nil {
		m.log.Error("write the node's record", "error", err)
	}
}

func (m *member) saveRecord() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record.Load().save(m.cfg.record())
}

func toAssignment(list []pki.Manager) []assignment.Manager {
	managers := make([]assignment.Manager, 0, len(list))
	for _, m := range list {
		managers = append(managers, assignment.Manager(m))
	}
	return managers
}

func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
