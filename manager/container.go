package manager

import (
	"context"
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/api"
	"shoal/manager/relay"
)

// Locate finds the container that ref names, wherever it runs, as far as this
// manager knows.
func (m *Manager) Locate(ref string) (api.Place, error) { return api.Locate(m.store.View(), ref) }

// Relay reaches the engines of all nodes.
func (m *Manager) Relay() *relay.Caller { return m.relay }

// NodeName is how a node is named to users.
func (m *Manager) NodeName(nodeID string) string { return api.NodeName(m.store.View(), nodeID) }

// dialNodeID connects to the cluster listener of a node, unless the cluster
// knows that it is down: whoever asks is told at once.
func (m *Manager) dialNodeID(ctx context.Context, nodeID string) (net.Conn, error) {
	n := m.store.View().Node(nodeID)
	switch {
	case n == nil:
		return nil, fmt.Errorf("node %s is not, or no longer, part of the cluster: %w", nodeID, errdefs.ErrNotFound)
	case n.Status.State == swarm.NodeStateDown:
		return nil, fmt.Errorf("it is down: %w", errdefs.ErrUnavailable)
	case n.Addr == "" || m.cfg.DialPeer == nil:
		return nil, fmt.Errorf("its address is not known: %w", errdefs.ErrUnavailable)
	}
	return m.cfg.DialPeer(ctx, nodeID, n.Addr)
}
