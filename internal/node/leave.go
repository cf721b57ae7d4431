package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"shoal/internal/pki"
	"shoal/manager"
	"shoal/manager/api"
	"shoal/worker"
)

// purgeTimeout bounds how long a node that leaves stops its containers.
const purgeTimeout = 5 * time.Minute

func (n *Node) handleLeave(w http.ResponseWriter, r *http.Request) {
	force := false
	if text := r.URL.Query().Get("force"); text != "" {
		var err error
		if force, err = strconv.ParseBool(text); err != nil {
			api.WriteError(w, invalid("force: %q is neither true nor false", text))
			return
		}
	}
	// A client that goes away must not leave half a node behind.
	if err := n.leave(context.WithoutCancel(r.Context()), force); err != nil {
		api.WriteError(w, err)
	}
}

// leave takes this node out of its cluster: its tasks stop, its containers and
// everything that it knows of the cluster are removed.
func (n *Node) leave(ctx context.Context, force bool) error {
	n.change.Lock()
	defer n.change.Unlock()
	m, _ := n.current()
	if m == nil {
		return errNotPart
	}
	if m.role() == pki.RoleManager && !force {
		return m.managerLeaveText()
	}
	m.stepDown(ctx)
	m.sayGoodbye()
	n.stop(m)
	m.tellLeft(ctx)
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	var purge error
	if clusterID := m.record.Load().ClusterID; clusterID != "" {
		// Not the member's worker: one that could not start has none.
		if err := worker.Purge(ctx, n.cfg.Engine, n.cfg.WorkerEngine, clusterID, n.cfg.fileDir(m.record.Load().NodeID)); err != nil {
			purge = fmt.Errorf("the node has left, but some of its containers or networks could not be removed: %w", err)
		}
	}
	return errors.Join(purge, n.cfg.wipe())
}

// tellLeft tells the leader that this node has left, so that its tasks move at
// once. If nobody can be told, the silence will say it some seconds later.
func (m *member) tellLeft(ctx context.Context) {
	if m.credential.Load() == nil {
		return // it never ran
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	transport := manager.NewTransport(m.dial)
	defer transport.CloseIdleConnections()
	for _, peer := range m.managers() {
		if peer.NodeID == m.record.Load().NodeID {
			continue
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+peer.Addr+manager.PathLeave, nil)
		if err != nil {
			continue
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			continue
		}
		_ = response.Body.Close() // nothing is read from it
		if response.StatusCode == http.StatusOK {
			return
		}
	}
	m.log.Info("no manager could be told that this node leaves: they will notice its silence")
}

// managerLeaveText is why a manager does not simply leave, in Swarm's words.
func (m *member) managerLeaveText() error {
	const attempt = "You are attempting to leave the swarm on a node that is participating as a manager. "
	mgr := m.manager()
	var voters, reachable int
	if mgr != nil {
		voters, reachable = mgr.Count()
	}
	switch {
	case mgr != nil && voters == 1:
		return unavailable(attempt + "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.")
	case mgr != nil && reachable-1 < voters/2+1:
		return unavailable(attempt+"Removing this node leaves %d managers out of %d. Without a Raft quorum your swarm will be inaccessible. The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.", reachable-1, voters)
	}
	return unavailable(attempt + "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.")
}

// stepDown asks the other managers to go on without this one, as far as it can
// be done quickly: a manager that is forced to leave leaves anyway.
func (m *member) stepDown(ctx context.Context) {
	mgr := m.manager()
	if mgr == nil {
		return
	}
	if voters, _ := mgr.Count(); voters <= 1 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := mgr.Resign(ctx); err != nil {
		m.log.Warn("the other managers could not be told that this one leaves: remove it there with `shoal node rm --force`", "error", err)
	}
}

// sayGoodbye makes gossip tell the others that the node has gone for good.
func (m *member) sayGoodbye() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gossip != nil {
		m.gossip.Leave()
	}
}
