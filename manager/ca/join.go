package ca

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/pki"
	"shoal/raftstore/state"
)

const maxHostname = 253 // of DNS

// Join lets a node in that came from address from. The same request sent again
// gives the same node: its id follows from its key.
func (c *CA) Join(ctx context.Context, request pki.JoinRequest, from netip.Addr) (*pki.JoinResponse, error) {
	now := time.Now()
	cluster := c.store.View().Cluster()
	if cluster == nil {
		return nil, fmt.Errorf("no cluster: %w", errdefs.ErrUnavailable)
	}
	err := c.guesses.try(from, now, func() error {
		_, err := roleOf(cluster, request.Token)
		return err
	})
	if err != nil {
		c.refused.Inc()
		c.log.Debug("join refused", "from", from, "error", err)
		return nil, err
	}
	fillHosts(&request, from)
	a, err := readApplication(request)
	if err != nil {
		return nil, err
	}
	if err := a.keepID(cluster, request); err != nil {
		return nil, err
	}
	node, err := c.admit(ctx, a, request.Token)
	if err != nil {
		return nil, fmt.Errorf("let node %s in: %w", a.nodeID, err)
	}
	return c.welcome(node, request.CSR, now)
}

// admit puts the node into state and returns it as it is there.
func (c *CA) admit(ctx context.Context, a *application, token string) (node *state.Node, err error) {
	err = c.store.Update(ctx, func(v *state.View) ([]state.Change, error) {
		cluster := v.Cluster()
		if a.role, err = roleOf(cluster, token); err != nil {
			return nil, err // rotated meanwhile
		}
		var changed bool
		if node, changed, err = planJoin(v, a); err != nil || !changed {
			return nil, err
		}
		return []state.Change{state.Put(node)}, nil
	})
	return node, err
}

// planJoin is the node that lets a in, and whether state lacks it. A node that
// is there already keeps all that users have set on it, its role included: a
// manager's token does not promote it, and a worker's is not enough to come
// back as a manager.
func planJoin(v *state.View, a *application) (node *state.Node, changed bool, err error) {
	old := v.Node(a.nodeID)
	if old == nil {
		return a.newNode(v.Cluster()), true, nil
	}
	if old.Spec.Role == swarm.NodeRoleManager && a.role != pki.RoleManager {
		return nil, false, fmt.Errorf("node %s is a manager, use a manager's join token: %w", old.ID, errdefs.ErrPermissionDenied)
	}
	next := *old
	next.Addr, next.GossipAddr = a.addr, a.gossipAddr
	next.Description.Hostname = a.hostname
	next.Status.Addr = host(a.addr)
	changed = next.Addr != old.Addr || next.GossipAddr != old.GossipAddr ||
		next.Description.Hostname != old.Description.Hostname || next.Status.Addr != old.Status.Addr
	return &next, changed, nil
}

func (c *CA) welcome(node *state.Node, csrPEM []byte, now time.Time) (*pki.JoinResponse, error) {
	view := c.store.View()
	cluster := view.Cluster()
	certPEM, err := sign(cluster, node, csrPEM, now)
	if err != nil {
		return nil, err
	}
	c.issued.WithLabelValues("join").Inc()
	c.log.Info("node joined", "node", node.ID, "role", node.Spec.Role, "addr", node.Addr)
	return &pki.JoinResponse{
		NodeID: node.ID, ClusterID: cluster.ID, Role: pki.Role(node.Spec.Role),
		Certificate: certPEM, RootCert: cluster.RootCert, GossipKeys: cluster.GossipKeys,
		Addr: node.Addr, GossipAddr: node.GossipAddr,
		Managers: managers(view, node.ID),
	}, nil
}

// managers are those that a node may talk to, but for itself.
func managers(v *state.View, self string) []pki.Manager {
	var list []pki.Manager
	for node := range v.Nodes() {
		if node.Spec.Role == swarm.NodeRoleManager && node.Addr != "" && node.ID != self {
			list = append(list, pki.Manager{NodeID: node.ID, Addr: node.Addr})
		}
	}
	return list
}

// application is a join request that has been read and found in order.
type application struct {
	nodeID           string
	key              *ecdsa.PublicKey
	role             pki.Role
	addr, gossipAddr string
	hostname         string
	availability     swarm.NodeAvailability
}

// readApplication checks every field; the token is not its business.
func readApplication(r pki.JoinRequest) (*application, error) {
	key, err := pki.ParseCSR(r.CSR)
	if err != nil {
		return nil, err // names csr
	}
	a := &application{key: key, addr: r.Addr, gossipAddr: r.GossipAddr, hostname: r.Hostname}
	if a.nodeID, err = pki.NodeIDOf(key); err != nil {
		return nil, err
	}
	if err := checkAddr("addr", r.Addr); err != nil {
		return nil, err
	}
	if err := checkAddr("gossipAddr", r.GossipAddr); err != nil {
		return nil, err
	}
	if err := checkHostname(r.Hostname); err != nil {
		return nil, err
	}
	switch a.availability = swarm.NodeAvailability(r.Availability); a.availability {
	case "":
		a.availability = swarm.NodeAvailabilityActive
	case swarm.NodeAvailabilityActive, swarm.NodeAvailabilityPause, swarm.NodeAvailabilityDrain:
	default:
		return nil, fmt.Errorf("availability: %q, allowed are active, pause and drain: %w", r.Availability, errdefs.ErrInvalidArgument)
	}
	return a, nil
}

// keepID gives a node that shows an earlier certificate for its key the id in
// it. The certificate may have expired: the key is what counts.
func (a *application) keepID(cluster *state.Cluster, r pki.JoinRequest) error {
	if len(r.Certificate) == 0 {
		return nil
	}
	cert, err := pki.ParseCert(r.Certificate)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	root, err := pki.ParseCert(cluster.RootCert)
	if err != nil {
		return fmt.Errorf("root of cluster %s: %w", cluster.ID, err)
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("certificate: not of this cluster: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	identity, err := pki.IdentityOf(cert)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if identity.Role == pki.RoleClient || identity.ClusterID != cluster.ID || !a.key.Equal(cert.PublicKey) {
		return fmt.Errorf("certificate: %s of cluster %s is not who signed csr: %w", identity, identity.ClusterID, errdefs.ErrPermissionDenied)
	}
	a.nodeID = identity.NodeID
	return nil
}

func (a *application) newNode(cluster *state.Cluster) *state.Node {
	return &state.Node{
		Node: swarm.Node{
			ID: a.nodeID,
			Spec: swarm.NodeSpec{
				Annotations:  swarm.Annotations{Labels: map[string]string{}},
				Role:         swarm.NodeRole(a.role),
				Availability: a.availability,
			},
			Description: swarm.NodeDescription{Hostname: a.hostname, TLSInfo: cluster.TLSInfo},
			Status:      swarm.NodeStatus{State: swarm.NodeStateUnknown, Addr: host(a.addr)},
		},
		Addr: a.addr, GossipAddr: a.gossipAddr,
	}
}

// fillHosts puts the address that a request came from where it names no host.
func fillHosts(r *pki.JoinRequest, from netip.Addr) {
	for _, addr := range []*string{&r.Addr, &r.GossipAddr} {
		hostPart, port, err := net.SplitHostPort(*addr)
		if err != nil || !from.IsValid() {
			continue // checkAddr has the words for it
		}
		if ip, err := netip.ParseAddr(hostPart); hostPart == "" || err == nil && ip.IsUnspecified() {
			*addr = net.JoinHostPort(from.Unmap().String(), port)
		}
	}
}

func checkAddr(field, addr string) error {
	hostPart, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port: %w", field, addr, errdefs.ErrInvalidArgument)
	}
	ip, err := netip.ParseAddr(hostPart)
	if err != nil || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("%s: %q names no address of one host: %w", field, addr, errdefs.ErrInvalidArgument)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s: port of %q must be 1 to 65535: %w", field, addr, errdefs.ErrInvalidArgument)
	}
	return nil
}

func checkHostname(name string) error {
	if name == "" || len(name) > maxHostname {
		return fmt.Errorf("hostname: must have 1 to %d characters, has %d: %w", maxHostname, len(name), errdefs.ErrInvalidArgument)
	}
	for _, c := range name {
		if unicode.IsSpace(c) || !unicode.IsPrint(c) {
			return fmt.Errorf("hostname: %q has unprintable characters or spaces: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func host(addr string) string {
	hostPart, _, _ := net.SplitHostPort(addr) // addr has been checked
	return hostPart
}
