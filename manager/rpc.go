package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/pki"
	"shoal/manager/api"
	"shoal/manager/dispatcher"
	"shoal/raftstore"
	"shoal/worker/assignment"
)

// Paths of the internal RPCs that are the manager's own.
const (
	pathReport = "/rpc/report"
	pathAPI    = "/api"
	// PathLeave is where a node that leaves says so, after its last session.
	PathLeave = "/rpc/leave"
	// PathAttach, PathDetach and PathAttachments are where a node gets, gives
	// back and lists the places of its own containers on networks.
	PathAttach      = "/rpc/attach"
	PathDetach      = "/rpc/detach"
	PathAttachments = "/rpc/attachments"
)

// RPC is one call that other nodes may make, over HTTP/2 with certificates on
// both ends.
type RPC struct {
	Method  string
	Path    string     // a final slash stands for all below
	Roles   []pki.Role // of the certificates that may call it
	Handler http.Handler
}

// RPCs lists the internal calls. A test walks them with every identity: one
// without a row there fails the build.
func (m *Manager) RPCs() []RPC { return m.rpcs }

func (m *Manager) newRPCs() []RPC {
	nodes := []pki.Role{pki.RoleManager, pki.RoleWorker}
	managers := []pki.Role{pki.RoleManager}
	return []RPC{
		{http.MethodPost, assignment.Path, nodes, m.dispatcher},
		{http.MethodPost, pki.RenewPath, nodes, m.ca.RenewHandler()},
		{http.MethodPost, PathLeave, nodes, http.HandlerFunc(m.left)},
		{http.MethodPost, PathAttach, nodes, http.HandlerFunc(m.attach)},
		{http.MethodPost, PathDetach, nodes, http.HandlerFunc(m.detach)},
		{http.MethodPost, PathAttachments, nodes, http.HandlerFunc(m.attachments)},
		{http.MethodPost, pathReport, managers, http.HandlerFunc(m.report)},
		{"", pathAPI + "/", managers, http.StripPrefix(pathAPI, versioned(m.apiMux()))},
	}
}

// RPC serves the internal calls. It authorises each: the peer's certificate
// must have the role, and its node must still be of the cluster.
func (m *Manager) RPC() http.Handler {
	mux := http.NewServeMux()
	for _, rpc := range m.rpcs {
		mux.Handle(strings.TrimSpace(rpc.Method+" "+rpc.Path), m.authorize(rpc))
	}
	return mux
}

// Join serves the door for nodes that have no certificate yet.
func (m *Manager) Join() http.Handler { return m.ca.JoinHandler() }

func (m *Manager) authorize(rpc RPC) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			writeError(w, http.StatusUnauthorized, errors.New("no certificate"))
			return
		}
		peer, err := pki.PeerIdentity(*r.TLS)
		if err != nil {
			writeError(w, http.StatusUnauthorized, err)
			return
		}
		if !slices.Contains(rpc.Roles, peer.Role) {
			writeError(w, http.StatusForbidden, fmt.Errorf("%s may not call %s", peer, rpc.Path))
			return
		}
		if err := m.Member(peer.NodeID); err != nil {
			writeError(w, http.StatusForbidden, err)
			return
		}
		rpc.Handler.ServeHTTP(w, r)
	})
}

// Member reports whether a node is of the cluster, as far as this manager
// knows: one that has no state yet cannot tell, and lets the leader decide.
func (m *Manager) Member(nodeID string) error {
	view := m.store.View()
	if view.Cluster() != nil && view.Node(nodeID) == nil {
		return fmt.Errorf("node %s is not, or no longer, part of the cluster: %w", nodeID, errdefs.ErrPermissionDenied)
	}
	return nil
}

// identity names who sent a request.
func identity(r *http.Request) (nodeID, role string, ok bool) {
	if r.TLS == nil {
		return "", "", false
	}
	peer, err := pki.PeerIdentity(*r.TLS)
	return peer.NodeID, string(peer.Role), err == nil
}

// left notes that the calling node leaves. Only the leader can.
func (m *Manager) left(w http.ResponseWriter, r *http.Request) {
	nodeID, _, _ := identity(r) // authorize has seen to it
	if err := m.dispatcher.Left(r.Context(), nodeID); err != nil {
		api.WriteError(w, err)
	}
}

// report takes in what another manager's dispatcher has heard.
func (m *Manager) report(w http.ResponseWriter, r *http.Request) {
	var batch dispatcher.Batch
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<20)).Decode(&batch); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	answer, err := m.dispatcher.Report(r.Context(), batch)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the other end has gone, if it fails
}

// forwardBatch hands a batch to the leader's dispatcher.
func (m *Manager) forwardBatch(ctx context.Context, batch dispatcher.Batch) (answer dispatcher.Answer, err error) {
	leader, addr, _ := m.store.Leader()
	if leader == "" || leader == m.nodeID {
		return answer, raftstore.ErrNotLeader
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return answer, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+pathReport, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	response, err := m.client.Do(r)
	if err != nil {
		return answer, fmt.Errorf("report to the leader: %w: %w", err, errdefs.ErrUnavailable)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return answer, fmt.Errorf("report to the leader: %s: %s: %w", response.Status, bytes.TrimSpace(text), errdefs.ErrUnavailable)
	}
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

// NewTransport reaches managers over one HTTP/2 connection each, which
// is given up when it stays silent.
func NewTransport(dial func(ctx context.Context, addr, protocol string) (net.Conn, error)) *http.Transport {
	t := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return dial(ctx, addr, RPCProtocol)
		},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
		IdleConnTimeout:    time.Minute,
		HTTP2:              &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: 2 * time.Second},
	}
	return t
}
