package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"shoal/overlay"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// What is put around a packet: IPv4, UDP, VXLAN and Ethernet; and for a tunnel
// IPv6, UDP and WireGuard.
const (
	vxlanOverhead  = 50
	tunnelOverhead = 80
	ipv6Overhead   = 20 // what an IPv6 header is longer than one of IPv4
)

// fit is the MTU of a network over an underlay that lets packets of this size
// through, from an address of this family.
func fit(underlay int, addr netip.Addr, encrypted bool) int {
	m := underlay - vxlanOverhead
	if addr.Is6() {
		m -= ipv6Overhead
	}
	m = min(m, overlay.DefaultMTU)
	if encrypted {
		m = min(m, underlay-vxlanOverhead-tunnelOverhead)
	}
	return m
}

// networkSpec is the engine's half of a cluster network. No address of it is the
// engine's to give: a container that brings none gets none.
func networkSpec(n assignment.Network, clusterID string, mtu int, ipv6 bool) engine.NetworkSpec {
	s := engine.NetworkSpec{
		Name: n.Name, Bridge: overlay.Bridge(n.VNI), Internal: true, MTU: cmp.Or(n.MTU, mtu), Labels: maps.Clone(n.Labels),
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.Labels[ClusterLabel], s.Labels[NetworkLabel] = clusterID, n.ID
	s.Labels[AttachableLabel], s.Labels[InternalLabel] = strconv.FormatBool(n.Attachable), strconv.FormatBool(n.Internal)
	for _, p := range n.Pools {
		if p.Subnet.Addr().Is6() && !ipv6 {
			continue
		}
		s.Subnets = append(s.Subnets, engine.Subnet{
			Prefix: p.Subnet.Masked(), Gateway: p.Gateway, Range: netip.PrefixFrom(p.Gateway, p.Gateway.BitLen()),
		})
	}
	return s
}

// gatewaySpec is the gateway network of a node: its tasks' way out of the
// cluster, and the way in for published ports. The engine gives the addresses.
func gatewaySpec(self assignment.Peer, clusterID string, mtu int, ipv6 bool) engine.NetworkSpec {
	s := engine.NetworkSpec{
		Name: overlay.MeshBridge, Bridge: overlay.MeshBridge, MTU: mtu, Labels: map[string]string{ClusterLabel: clusterID},
	}
	for _, subnet := range self.Mesh {
		if subnet.Addr().Is6() && !ipv6 {
			continue
		}
		gateway, tunnel, own := overlay.MeshAddrs(subnet)
		reserved := []netip.Addr{tunnel, own}
		slices.SortFunc(reserved, netip.Addr.Compare)
		s.Subnets = append(s.Subnets, engine.Subnet{Prefix: subnet.Masked(), Gateway: gateway, Reserved: reserved})
	}
	return s
}

// needsGateway reports whether a task is on the gateway network too: all are
// but those that may speak with nobody outside of their networks.
func needsGateway(t assignment.Task, k assignment.Known) bool {
	if t.Spec != nil && len(t.Spec.HostPorts) > 0 {
		return true
	}
	return slices.ContainsFunc(t.Networks, func(n assignment.TaskNetwork) bool { return n.Ingress || !k.Networks[n.NetworkID].Internal })
}

// missing is what must be known before a task can be attached, empty if it is.
func missing(t assignment.Task, k assignment.Known, nodeID string) string {
	for _, n := range t.Networks {
		if _, known := k.Networks[n.NetworkID]; !known && !n.Ingress {
			return "network " + n.NetworkID
		}
	}
	if needsGateway(t, k) && len(k.Peers[nodeID].Mesh) == 0 {
		return "the gateway subnet of this node"
	}
	return ""
}

// endpoint is a task's place on a network.
func endpoint(engineID string, addrs []netip.Prefix, ipv6 bool) engine.Endpoint {
	ep := engine.Endpoint{NetworkID: engineID}
	for _, a := range addrs {
		if a.Addr().Is4() || ipv6 {
			ep.Addrs = append(ep.Addrs, a.Addr())
		}
	}
	return ep
}

// owner is what makes a network of the engine the one that a spec asks for.
func owner(labels map[string]string) string { return labels[ClusterLabel] + "/" + labels[NetworkLabel] }

// agrees reports whether containers can use a network as if it were made from
// this spec; exactly also compares what may stay different while it is in use.
func agrees(a, b engine.NetworkSpec, exactly bool) bool {
	if a.Bridge != b.Bridge || a.Internal != b.Internal || exactly && a.MTU != b.MTU {
		return false
	}
	return slices.EqualFunc(a.Subnets, b.Subnets, func(x, y engine.Subnet) bool {
		return x.Prefix == y.Prefix && x.Gateway == y.Gateway && (!exactly || x.Range == y.Range && slices.Equal(x.Reserved, y.Reserved))
	})
}

// clashes reports whether an engine cannot have both.
func clashes(a, b engine.NetworkSpec) bool {
	return a.Name == b.Name || a.Bridge == b.Bridge || slices.ContainsFunc(a.Subnets, func(x engine.Subnet) bool {
		return slices.ContainsFunc(b.Subnets, func(y engine.Subnet) bool { return x.Prefix.Overlaps(y.Prefix) })
	})
}
