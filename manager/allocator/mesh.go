package allocator

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"

	"shoal/raftstore/state"
)

const (
	sliceBits  = 24        // of a node's IPv4 subnet
	mostSlices = 1<<16 - 1 // of the IPv6 subnets in a /48
)

// DefaultMeshPool is where nodes get the subnets of their gateway networks from
// unless the cluster was founded with another pool: the upper end of Swarm's
// default pool, where networks come to last.
func DefaultMeshPool() netip.Prefix { return netip.MustParsePrefix("10.252.0.0/14") }

// MeshPool is that of a cluster.
func MeshPool(c *state.Cluster) netip.Prefix {
	if c == nil || !c.MeshPool.IsValid() {
		return DefaultMeshPool()
	}
	return c.MeshPool.Masked()
}

// meshSize is the highest place in the mesh. Slice 0 of the pool is not used,
// so that places and subnets have the same numbers.
func meshSize(pool netip.Prefix) int {
	if !pool.Addr().Is4() || pool.Bits() > sliceBits {
		return 0
	}
	return min(1<<(sliceBits-pool.Bits())-1, mostSlices)
}

// mesh are the subnets of the gateway network of the node with this place: a
// slice of the pool, and a subnet of a unique local network (RFC 4193) whose
// global id comes from the cluster's.
func mesh(c *state.Cluster, place int) []netip.Prefix {
	size := uint64(1) << (32 - sliceBits)
	v4 := space{first: MeshPool(c).Addr()}.at(uint64(place) * size) //nolint:gosec // from 1
	hash := sha256.Sum256([]byte(c.ID))
	b := [16]byte{0: 0xfd, 6: byte(place >> 8), 7: byte(place)}
	copy(b[1:6], hash[:5])
	return []netip.Prefix{netip.PrefixFrom(v4, sliceBits), netip.PrefixFrom(netip.AddrFrom16(b), 64)}
}

// node gives a node the lowest free place in the mesh. The reason that there is
// none is not empty.
func (p *planner) node(id string) (reason string) {
	n, c := p.view.Node(id), p.view.Cluster()
	if n == nil || n.MeshIndex != 0 || c == nil {
		return ""
	}
	pool := MeshPool(c)
	for p.place++; p.place <= meshSize(pool); p.place++ {
		if p.view.NodeByMesh(p.place) != nil {
			continue
		}
		next := *n
		next.MeshIndex, next.Mesh = p.place, mesh(c, p.place)
		p.put(&next, "node")
		return ""
	}
	return fmt.Sprintf("node %s: the mesh pool %s has room for %s nodes: remove nodes that are gone, or found a cluster with a larger pool",
		id, pool, strconv.Itoa(meshSize(pool)))
}
