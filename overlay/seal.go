package overlay

import (
	"net/netip"

	"shoal/overlay/link"
	"shoal/overlay/tunnel"
	"shoal/worker/assignment"
)

// What encapsulation adds to a packet: outer headers of IPv4 or IPv6, UDP,
// VXLAN and the inner Ethernet; WireGuard's own, for the larger family.
const (
	vxlanOver4 = 20 + 8 + 8 + 14
	vxlanOver6 = 40 + 8 + 8 + 14
	sealing    = 40 + 8 + 32
)

func encapsulation(underlay netip.Addr) int {
	if underlay.Is6() && !underlay.Is4In6() {
		return vxlanOver6
	}
	return vxlanOver4
}

// NetworkMTU is the MTU of a network's bridge and of its containers' links on a
// node whose own link has mtu and underlay as address: what the user asked for,
// else Swarm's default or what fits, if that is less.
func NetworkMTU(n assignment.Network, mtu int, underlay netip.Addr) int {
	switch {
	case n.MTU != 0:
		return n.MTU
	case n.Encrypted:
		return min(DefaultMTU, mtu-sealing-vxlanOver4)
	}
	return min(DefaultMTU, mtu-encapsulation(underlay))
}

// tunnelAddr is a node's address inside of tunnels, zero if it has none.
func (p *planner) tunnelAddr(peer assignment.Peer) netip.Addr {
	if len(peer.TunnelKey) == 0 {
		return netip.Addr{}
	}
	for _, subnet := range peer.Mesh {
		if subnet.Addr().Is4() {
			_, addr, _ := MeshAddrs(subnet)
			return addr
		}
	}
	return netip.Addr{}
}

// tunnel makes this node's end of all tunnels, once. Without a key of the
// managers there is none, and encrypted networks stay apart.
func (p *planner) tunnel() {
	self := p.tunnelAddr(p.self)
	if p.w.tunnel != nil || !self.IsValid() || len(p.known.Config.Keys) == 0 {
		return
	}
	p.w.tunnel = &tunnel.Want{Link: TunnelLink, PrivateKey: p.key, Port: TunnelPort, MTU: p.mtu - sealing}
	p.addr(TunnelLink, self)
	for _, peer := range sorted(p.known.Peers) {
		inside := p.tunnelAddr(peer)
		if peer.NodeID == p.nodeID || !inside.IsValid() || !peer.Addr.IsValid() {
			continue
		}
		only := netip.PrefixFrom(inside, inside.BitLen())
		p.w.tunnel.Peers = append(p.w.tunnel.Peers, tunnel.Peer{
			PublicKey: peer.TunnelKey, Preshared: tunnel.Preshared(p.known.Config.Keys[0], p.self.TunnelKey, peer.TunnelKey),
			Endpoint: netip.AddrPortFrom(peer.Addr, TunnelPort), Allowed: []netip.Prefix{only},
		})
		p.w.link.Routes = append(p.w.link.Routes,
			link.Route{Dst: only, Link: TunnelLink},
			// Without the device nothing may leave by another way.
			link.Route{Dst: only, Blackhole: true})
	}
}
