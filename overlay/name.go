package overlay

import (
	"fmt"
	"net/netip"
)

// Names in the kernel. The engine makes the bridges, under the names that it is
// told; the rest is made here.
const (
	MeshBridge = "shoal_gw" // the gateway network of this node: default route of its tasks
	MeshLink   = "shoal0"   // VXLAN between the gateway networks of all nodes
	TunnelLink = "shoalwg"  // WireGuard between nodes, under encrypted networks
)

// Numbers that all nodes of a cluster share.
const (
	DefaultPort = 4789  // UDP, VXLAN: Docker Swarm's default
	TunnelPort  = 7947  // UDP, WireGuard: next to gossip
	SealedPort  = 14789 // UDP, VXLAN inside of tunnels: never seen outside
	MeshVNI     = 4095  // below Swarm's first, 4096
	DefaultMTU  = 1450  // what Swarm's overlays have
)

// Bridge is the name of the bridge of a network on every node.
func Bridge(vni uint32) string { return fmt.Sprintf("shoalb%x", vni) }

// VXLAN is the name of the device that joins a network's bridges.
func VXLAN(vni uint32) string { return fmt.Sprintf("shoalx%x", vni) }

// MeshAddrs are the fixed addresses in a node's mesh subnet: the gateway of its
// tasks, on MeshBridge; the end of its tunnels; and its own, on MeshLink.
func MeshAddrs(subnet netip.Prefix) (gateway, tunnel, self netip.Addr) {
	subnet = subnet.Masked()
	gateway = subnet.Addr().Next()
	if subnet.Addr().Is6() {
		tunnel = gateway.Next()
		return gateway, tunnel, tunnel.Next()
	}
	last := lastOf(subnet) // broadcast
	self = last.Prev()     // .254 of a /24
	return gateway, self.Prev(), self
}

// lastOf is the highest address of an IPv4 subnet.
func lastOf(subnet netip.Prefix) netip.Addr {
	b := subnet.Addr().As4()
	for bit := subnet.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}
