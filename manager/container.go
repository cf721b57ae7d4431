package manager

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"

	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
	"shoal/manager/logs"
	"shoal/manager/relay"
)

// Locate finds the container that ref names, wherever it runs, as far as this
// manager knows.
func (m *Manager) Locate(ref string) (api.Place, error) { return api.Locate(m.store.View(), ref) }

// Relay reaches the engines of all nodes.
func (m *Manager) Relay() *relay.Caller { return m.relay }

// Logs answers the calls for logs of services and tasks.
func (m *Manager) Logs() *logs.Logs {
	return logs.New(logs.Config{
		Store: m.store, Log: m.log,
		Open: func(ctx context.Context, nodeID, containerID string, query url.Values) (io.ReadCloser, error) {
			return m.relay.Open(ctx, relay.Target{
				NodeID: nodeID, Name: m.NodeName(nodeID), Path: "/containers/" + containerID + "/logs", Query: query.Encode(),
			})
		},
		Current: func(ctx context.Context) bool {
			_, err := m.store.Linearizable(ctx)
			return err == nil
		},
	})
}

// NodeName is how a node is named to users.
func (m *Manager) NodeName(nodeID string) string { return api.NodeName(m.store.View(), nodeID) }

// dialNodeID connects to the cluster listener of a node, unless the cluster
// knows that it is down: whoever asks is told at once.
func (m *Manager) dialNodeID(ctx context.Context, nodeID string) (net.Conn, error) {
	n := m.store.View().Node(nodeID)
	switch {
	case n == nil:
		return nil, errors.New("it is not, or no longer, part of the cluster")
	case n.Status.State == swarm.NodeStateDown:
		return nil, errors.New("it is down")
	case n.Addr == "" || m.cfg.DialPeer == nil:
		return nil, errors.New("its address is not known")
	}
	return m.cfg.DialPeer(ctx, nodeID, n.Addr)
}
