package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"shoal/internal/pki"
	"shoal/overlay"
	"shoal/overlay/check"
)

// maxExamine is far above what a list of all nodes of a cluster takes.
const maxExamine = 4 << 20

// examine answers the leader's question how this node is. Workers answer too,
// and only managers may ask.
func (m *member) examine(w http.ResponseWriter, r *http.Request) {
	if status, err := m.mayAsk(r, check.Path); err != nil {
		writeError(w, status, err)
		return
	}
	var request check.Request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxExamine)).Decode(&request); err != nil {
		writeError(w, http.StatusBadRequest, fmt.Errorf("the request is not the JSON that is expected here: %w", err))
		return
	}
	writeJSON(w, check.Answer(r.Context(), request, m.local(request.Port)))
}

// mayAsk reports whether who calls may call what every node answers: managers
// may.
func (m *member) mayAsk(r *http.Request, path string) (status int, err error) {
	if r.TLS == nil {
		return http.StatusUnauthorized, errors.New("no certificate")
	}
	peer, err := pki.PeerIdentity(*r.TLS)
	if err != nil {
		return http.StatusUnauthorized, err
	}
	if peer.Role != pki.RoleManager {
		return http.StatusForbidden, fmt.Errorf("%s may not call %s", peer, path)
	}
	if mgr := m.manager(); mgr != nil {
		err = mgr.Member(peer.NodeID)
	}
	return http.StatusForbidden, err
}

// local is what the checks need of this node. vxlan is the port that the
// cluster uses.
func (m *member) local(vxlan int) check.Local {
	r := m.record.Load()
	advertise, _ := netip.ParseAddrPort(r.Advertise) // checked when it was chosen
	_, port, _ := net.SplitHostPort(r.Listen)
	listen, _ := strconv.Atoi(port)
	if vxlan == 0 {
		vxlan = overlay.DefaultPort
	}
	l := check.Local{
		NodeID: r.NodeID, Dial: m.dialPeer,
		Options: check.Options{
			Advertise: advertise.Addr(), Ports: check.Ports(listen, m.cfg.GossipPort, vxlan, overlay.TunnelPort), Engine: engineVersion{m.node.engine},
		},
	}
	if m.worker != nil { // else it is not there yet
		l.Audit = m.worker.AuditNetworks
	}
	return l
}

// dialPeer connects to a node and makes sure that it is that one.
func (m *member) dialPeer(ctx context.Context, p check.Peer) (net.Conn, error) {
	return m.dialNodeID(ctx, p.NodeID, p.Addr)
}

func (m *member) dialNodeID(ctx context.Context, nodeID, addr string) (net.Conn, error) {
	dialer := tlsDialer(pki.Client{Credential: m.credential.Load(), Protocols: []string{protocolRPC}, NodeID: nodeID})
	return dialer.DialContext(ctx, "tcp", addr)
}

// engineVersion asks the local engine.
type engineVersion struct{ proxy *engineProxy }

// Version implements check.Engine.
func (e engineVersion) Version(ctx context.Context) (string, error) {
	var v struct{ Version string }
	err := e.proxy.get(ctx, "/version", &v)
	return v.Version, err
}

// EngineVersion asks the engine at a unix:// address, where no node runs.
func EngineVersion(ctx context.Context, engine string) (string, error) {
	cfg, err := Config{Engine: engine}.withDefaults()
	if err != nil {
		return "", err
	}
	proxy := newEngineProxy(cfg)
	defer proxy.close()
	return engineVersion{proxy}.Version(ctx)
}
