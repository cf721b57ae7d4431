package ca

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/id"
	"shoal/internal/pki"
	"shoal/raftstore/state"
)

const (
	gossipKeySize = 32 // AES-256, what gossip asks for

	// Swarm's defaults for a new cluster.
	defaultName          = "default"
	defaultHistory       = int64(5)
	defaultHeartbeat     = 5 * time.Second
	defaultSnapshotEvery = 10000
	defaultKeepEntries   = 500
	defaultHeartbeatTick = 1
	defaultElectionTick  = 10
	defaultSubnetSize    = 24
	defaultDataPathPort  = 4789
	defaultAddrPool      = "10.0.0.0/8"

	// What the nodes' own networks are taken from, a /24 each. The smallest pool
	// has room for three nodes.
	defaultMeshPool = "10.252.0.0/14"
	maxMeshBits     = 22
)

// Founding is what a new cluster is made of. Zero fields take Swarm's defaults.
type Founding struct {
	Spec            swarm.Spec
	DefaultAddrPool []string
	SubnetSize      uint32
	DataPathPort    uint32
	MeshPool        string // of the nodes' own networks; 10.252.0.0/14
}

// NewCluster makes the cluster object of a new cluster, with its root, its
// first join tokens, one gossip key and one key for tunnels.
func NewCluster(f Founding, now time.Time) (*state.Cluster, error) {
	mesh, err := checkPools(f)
	if err != nil {
		return nil, err
	}
	if err := ValidateSpec(f.Spec.CAConfig); err != nil {
		return nil, err
	}
	root, err := pki.NewRoot(now)
	if err != nil {
		return nil, err
	}
	gossipKey := make([]byte, gossipKeySize)
	rand.Read(gossipKey) // never fails: crypto/rand aborts the program instead
	cluster := &state.Cluster{
		ClusterInfo: swarm.ClusterInfo{
			ID:              id.New(),
			Spec:            withDefaults(f.Spec),
			TLSInfo:         tlsInfo(root),
			DefaultAddrPool: f.DefaultAddrPool,
			SubnetSize:      orDefault(f.SubnetSize, defaultSubnetSize),
			DataPathPort:    orDefault(f.DataPathPort, defaultDataPathPort),
		},
		RootCert:   root.CertPEM,
		RootKey:    root.KeyPEM,
		GossipKeys: [][]byte{gossipKey},
		MeshPool:   mesh,

		OverlayKeys: [][]byte{newOverlayKey()}, OverlayKeyAt: now,
	}
	if len(cluster.DefaultAddrPool) == 0 {
		cluster.DefaultAddrPool = []string{defaultAddrPool}
	}
	return RotateTokens(cluster, pki.RoleWorker, pki.RoleManager)
}

// ValidateSpec checks the part of a cluster's spec that this package honours.
func ValidateSpec(c swarm.CAConfig) error {
	switch {
	case c.NodeCertExpiry != 0 && c.NodeCertExpiry < pki.MinValidity:
		return fmt.Errorf("CAConfig.NodeCertExpiry: minimum certificate expiry time is: %s, got %s: %w",
			pki.MinValidity, c.NodeCertExpiry, errdefs.ErrInvalidArgument)
	case len(c.ExternalCAs) > 0:
		return fmt.Errorf("CAConfig.ExternalCAs: external CAs are not supported: %w", errdefs.ErrInvalidArgument)
	case c.SigningCACert != "" || c.SigningCAKey != "":
		return fmt.Errorf("CAConfig.SigningCACert: a root of one's own is not supported: %w", errdefs.ErrInvalidArgument)
	case c.ForceRotate != 0:
		return fmt.Errorf("CAConfig.ForceRotate: rotation of the root is not supported: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkPools refuses address pools that no network could be taken from, and
// returns that of the nodes' own networks.
func checkPools(f Founding) (mesh netip.Prefix, err error) {
	if mesh, err = readMeshPool(f.MeshPool); err != nil {
		return mesh, err
	}
	size := orDefault(f.SubnetSize, defaultSubnetSize)
	if size > 29 {
		return mesh, fmt.Errorf("SubnetSize %d: a subnet of more than 29 bits has no room for tasks: %w", size, errdefs.ErrInvalidArgument)
	}
	var seen []netip.Prefix
	for _, text := range f.DefaultAddrPool {
		pool, err := netip.ParsePrefix(text)
		switch {
		case err != nil || !pool.Addr().Is4():
			return mesh, fmt.Errorf("DefaultAddrPool: %q is not an IPv4 network such as 10.0.0.0/8: %w", text, errdefs.ErrInvalidArgument)
		case uint32(pool.Bits()) > size: //nolint:gosec // 0 to 32
			return mesh, fmt.Errorf("DefaultAddrPool: %s is smaller than the subnets of /%d to be taken from it: %w", text, size, errdefs.ErrInvalidArgument)
		case mesh.Bits() <= pool.Bits() && mesh.Overlaps(pool):
			return mesh, fmt.Errorf("DefaultAddrPool: %s lies in %s, where the nodes' own networks are: choose another pool for those with --mesh-pool: %w", text, mesh, errdefs.ErrInvalidArgument)
		}
		for _, other := range seen {
			if pool.Overlaps(other) {
				return mesh, fmt.Errorf("DefaultAddrPool: %s overlaps with %s: %w", text, other, errdefs.ErrInvalidArgument)
			}
		}
		seen = append(seen, pool)
	}
	if p := f.DataPathPort; p != 0 && (p < 1024 || p > 49151) {
		return mesh, fmt.Errorf("DataPathPort %d: want 1024 to 49151: %w", p, errdefs.ErrInvalidArgument)
	}
	return mesh, nil
}

func readMeshPool(text string) (netip.Prefix, error) {
	pool, err := netip.ParsePrefix(orDefault(text, defaultMeshPool))
	switch {
	case err != nil || !pool.Addr().Is4() || pool != pool.Masked():
		return pool, fmt.Errorf("MeshPool: %q is not an IPv4 network such as %s: %w", text, defaultMeshPool, errdefs.ErrInvalidArgument)
	case pool.Bits() < 8 || pool.Bits() > maxMeshBits || !pool.Addr().IsGlobalUnicast():
		return pool, fmt.Errorf("MeshPool: %s: want unicast addresses, /8 to /%d: every node takes a /24 of it: %w", pool, maxMeshBits, errdefs.ErrInvalidArgument)
	}
	return pool, nil
}

// DefaultSpec is the spec of a cluster that is made without one.
func DefaultSpec() swarm.Spec { return withDefaults(swarm.Spec{}) }

func withDefaults(spec swarm.Spec) swarm.Spec {
	spec.Name = orDefault(spec.Name, defaultName)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	if spec.Orchestration.TaskHistoryRetentionLimit == nil {
		history := defaultHistory
		spec.Orchestration.TaskHistoryRetentionLimit = &history
	}
	if spec.Raft.KeepOldSnapshots == nil {
		spec.Raft.KeepOldSnapshots = new(uint64)
	}
	spec.Raft.SnapshotInterval = orDefault(spec.Raft.SnapshotInterval, defaultSnapshotEvery)
	spec.Raft.LogEntriesForSlowFollowers = orDefault(spec.Raft.LogEntriesForSlowFollowers, defaultKeepEntries)
	spec.Raft.HeartbeatTick = orDefault(spec.Raft.HeartbeatTick, defaultHeartbeatTick)
	spec.Raft.ElectionTick = orDefault(spec.Raft.ElectionTick, defaultElectionTick)
	spec.Dispatcher.HeartbeatPeriod = orDefault(spec.Dispatcher.HeartbeatPeriod, defaultHeartbeat)
	spec.CAConfig.NodeCertExpiry = orDefault(spec.CAConfig.NodeCertExpiry, pki.DefaultValidity)
	return spec
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func tlsInfo(root *pki.Root) swarm.TLSInfo {
	return swarm.TLSInfo{
		TrustRoot:           string(root.CertPEM),
		CertIssuerSubject:   root.Cert.RawSubject,
		CertIssuerPublicKey: root.Cert.RawSubjectPublicKeyInfo,
	}
}

// FirstNode makes the manager that founds the cluster, and its certificate.
// request carries no token.
func FirstNode(cluster *state.Cluster, request pki.JoinRequest, now time.Time) (*state.Node, []byte, error) {
	a, err := readApplication(request)
	if err != nil {
		return nil, nil, err
	}
	a.role = pki.RoleManager
	node := a.newNode(cluster)
	certPEM, err := sign(cluster, node, request.CSR, now)
	return node, certPEM, err
}
