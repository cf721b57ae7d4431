// Package ca lets nodes in and keeps their certificates fresh: the manager's
// end of what internal/pki does on a node.
//
// It owns the cluster's root, its join tokens, the keys of tunnels and the
// certificates of nodes, and it is the only package that creates a node. State keeps no token, only
// its hash: each manager derives the token from the root key.
package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/pki"
	"shoal/raftstore/state"
)

// Store is the cluster's state.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(v *state.View) ([]state.Change, error)) error
}

// Config is what a CA needs. Zero values take the default named.
type Config struct {
	Store Store // required
	// Leader is the cluster address of the leader; empty: unknown, or this
	// manager. Whoever asks a follower to let it in is sent there.
	Leader     func() string         // nil: never known
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // nil: no metrics
}

// CA issues certificates on one manager.
type CA struct {
	store   Store
	leader  func() string
	log     *slog.Logger
	guesses *limiter
	issued  *prometheus.CounterVec
	refused prometheus.Counter
}

// New makes a CA.
func New(config Config) (*CA, error) {
	if config.Store == nil {
		return nil, fmt.Errorf("ca without a store: %w", errdefs.ErrInvalidArgument)
	}
	c := &CA{store: config.Store, leader: config.Leader, log: config.Log, guesses: newLimiter()}
	if c.leader == nil {
		c.leader = func() string { return "" }
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	c.issued = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "shoal_ca_certificates_issued_total", Help: "Node certificates issued, by reason.",
	}, []string{"reason"})
	c.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "shoal_ca_tokens_refused_total", Help: "Joins refused for their token or for too many bad ones.",
	})
	if config.Registerer == nil {
		return c, nil
	}
	return c, errors.Join(config.Registerer.Register(c.issued), config.Registerer.Register(c.refused))
}

// Renew issues a certificate with the role that the node has in the cluster's
// state now. A node that is not in it gets nothing: removal cuts it off.
func (c *CA) Renew(_ context.Context, peer pki.Identity, csrPEM []byte) (*pki.RenewResponse, error) {
	view := c.store.View()
	cluster, node := view.Cluster(), view.Node(peer.NodeID)
	if cluster == nil {
		return nil, fmt.Errorf("no cluster: %w", errdefs.ErrUnavailable)
	}
	if peer.Role == pki.RoleClient || peer.ClusterID != cluster.ID {
		return nil, fmt.Errorf("%s of cluster %s is no node of this cluster: %w", peer, peer.ClusterID, errdefs.ErrPermissionDenied)
	}
	if node == nil {
		return nil, fmt.Errorf("node %s has been removed from the cluster: %w", peer.NodeID, errdefs.ErrPermissionDenied)
	}
	certPEM, err := sign(cluster, node, csrPEM, time.Now())
	if err != nil {
		return nil, err
	}
	c.issued.WithLabelValues("renew").Inc()
	return &pki.RenewResponse{Role: pki.Role(node.Spec.Role), Certificate: certPEM}, nil
}

// sign issues a certificate that says what state says of the node.
func sign(cluster *state.Cluster, node *state.Node, csrPEM []byte, now time.Time) ([]byte, error) {
	root, err := pki.ParseRoot(cluster.RootCert, cluster.RootKey)
	if err != nil {
		return nil, fmt.Errorf("root of cluster %s: %w", cluster.ID, err)
	}
	validity := cluster.Spec.CAConfig.NodeCertExpiry
	if validity == 0 {
		validity = pki.DefaultValidity
	}
	identity := pki.Identity{NodeID: node.ID, Role: pki.Role(node.Spec.Role), ClusterID: cluster.ID}
	host, _, _ := net.SplitHostPort(node.Addr)
	return root.Sign(csrPEM, identity, validity, now, host, node.Description.Hostname)
}
