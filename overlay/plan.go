package overlay

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"

	"shoal/overlay/filter"
	"shoal/overlay/link"
	"shoal/overlay/tunnel"
	"shoal/worker/assignment"
)

// facts are what the plan has to know of this node besides the fabric.
type facts struct {
	nodeID   string
	key      []byte         // private, of tunnels
	mtu      int            // of the link that the node's address is on
	resolver netip.AddrPort // zero: there is none yet
	v6       bool           // the kernel has IPv6
	// routers are links that take IPv6 router advertisements as hosts do: they
	// go on doing so when forwarding is switched on.
	routers []string
}

// wants is what each part has to do.
type wants struct {
	link   link.Want
	filter filter.Want
	tunnel *tunnel.Want // nil: nothing is encrypted
}

// Policy routing: a table for each node that connections come from. Its number
// and its rule's priority are a base plus the node's place in the mesh.
const (
	ruleSkip  = 9000 // lets unmarked packets pass all of the rules below
	ruleBase  = 9000 // + index
	ruleEnd   = 26000
	tableBase = 9000 // + index; tableBase itself stays empty
	markBase  = 0x5a000000
	markSpace = 0xff000000
)

// planner turns what is known of the fabric into wants.
type planner struct {
	facts
	known assignment.Known
	self  assignment.Peer
	port  int
	w     wants
	// backends are the serving endpoints of each service, in a fixed order.
	backends map[string][]*assignment.Endpoint
	here     map[string]*joined // by network
}

// joined is a network that this node is on.
type joined struct {
	network        assignment.Network
	bridge, device string
}

// plan says what this node's kernel should be for what is known. What cannot
// be yet, for lack of a place in the mesh or of a key, is left out.
func plan(k assignment.Known, f facts) wants {
	p := &planner{facts: f, known: k, self: k.Peers[f.nodeID], port: cmp.Or(k.Config.Port, DefaultPort), backends: make(map[string][]*assignment.Endpoint, len(k.Services)), here: map[string]*joined{}}
	p.w.filter = filter.Want{
		MeshBridge: MeshBridge, MeshLink: MeshLink, TunnelLink: TunnelLink,
		Port: p.port, SealedPort: SealedPort, Resolver: f.resolver,
	}
	p.mesh()
	for _, n := range sorted(k.Networks) {
		p.network(n)
	}
	p.room(len(k.Endpoints))
	endpoints := sorted(k.Endpoints)
	for i := range endpoints {
		p.endpoint(&endpoints[i])
	}
	for _, s := range sorted(k.Services) {
		p.service(s)
	}
	p.w.filter.Known, p.w.filter.Local = distinct(p.w.filter.Known), distinct(p.w.filter.Local)
	return p.w
}

// distinct has each address once: a new task may have got the address that the
// engine had given to one of which there is still a record.
func distinct(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// room makes place for what n endpoints bring along: growing bit by bit would
// cost more than all the rest.
func (p *planner) room(n int) {
	p.w.filter.Known = make([]netip.Addr, 0, 2*n)
	p.w.link.Forwards = slices.Grow(p.w.link.Forwards, n)
	p.w.link.Neighbours = slices.Grow(p.w.link.Neighbours, n)
}

// usualTasks of a service need no list that grows.
const usualTasks = 16

func sorted[T any](m map[string]T) []T {
	list := make([]T, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[id])
	}
	return list
}

// endpoint notes that one may have connections and whether it serves, and
// leads to it if it is on another node.
func (p *planner) endpoint(e *assignment.Endpoint) {
	if e.Serving && e.ServiceID != "" {
		backends, ok := p.backends[e.ServiceID]
		if !ok {
			backends = make([]*assignment.Endpoint, 0, usualTasks)
		}
		p.backends[e.ServiceID] = append(backends, e)
	}
	w := &p.w.filter
	known := len(w.Known)
	w.Known = append(w.Known, e.Mesh...)
	for _, at := range e.Networks {
		w.Known = append(w.Known, at.Addrs...)
		if n, here := p.here[at.NetworkID]; here && e.NodeID != p.nodeID {
			p.remote(n, at, p.known.Peers[e.NodeID])
		}
	}
	if e.NodeID == p.nodeID {
		w.Local = append(w.Local, w.Known[known:]...)
	}
}

// usable reports whether an address is of a family that this kernel has.
func (p *planner) usable(a netip.Addr) bool { return a.Is4() || p.v6 }

// mesh joins the gateway networks of all nodes.
func (p *planner) mesh() {
	peers := sorted(p.known.Peers)
	for _, peer := range peers {
		p.w.filter.Peers = append(p.w.filter.Peers, peer.Addr)
	}
	if p.self.Index == 0 || !p.self.Addr.IsValid() {
		return
	}
	p.w.filter.MeshPools = append(p.w.filter.MeshPools, p.known.Config.Pool)
	p.w.filter.VNIs = append(p.w.filter.VNIs, MeshVNI)
	p.w.link.Bridges = append(p.w.link.Bridges, link.Bridge{Name: MeshBridge})
	p.w.link.VXLANs = append(p.w.link.VXLANs, link.VXLAN{
		Name: MeshLink, VNI: MeshVNI, Local: p.self.Addr, Port: p.port,
		MTU: p.mtu - encapsulation(p.self.Addr), MAC: meshMAC(p.self.Index),
	})
	for _, subnet := range p.self.Mesh {
		if !p.usable(subnet.Addr()) {
			continue
		}
		_, _, self := MeshAddrs(subnet)
		p.addr(MeshLink, self)
		if subnet.Addr().Is6() {
			p.w.filter.MeshPools = append(p.w.filter.MeshPools, netip.PrefixFrom(subnet.Addr(), 48).Masked())
		}
	}
	p.meshSysctls()
	p.rule(link.Rule{Priority: ruleSkip, Mask: markSpace, Goto: ruleEnd})
	// Where the skip goes to: a rule that no packet meets, with an empty table.
	p.rule(link.Rule{Priority: ruleEnd, Mark: markBase, Mask: filter.MarkMask, Table: tableBase})
	for _, peer := range peers {
		if peer.NodeID != p.nodeID && peer.Index != 0 && peer.Addr.IsValid() {
			p.meshPeer(peer)
		}
	}
}

// meshPeer makes another node's containers reachable, and leads replies to its
// clients back through it.
func (p *planner) meshPeer(peer assignment.Peer) {
	mac, table, mark := meshMAC(peer.Index), tableBase+peer.Index, uint32(markBase|peer.Index) //nolint:gosec // indexes are small
	p.w.link.Forwards = append(p.w.link.Forwards, link.Forward{Link: MeshLink, MAC: [6]byte(mac), Dst: peer.Addr})
	p.w.filter.Marks = append(p.w.filter.Marks, filter.Mark{MAC: mac, Mark: mark})
	for _, subnet := range peer.Mesh {
		if !p.usable(subnet.Addr()) {
			continue
		}
		if peer.Addr.Is4() == subnet.Addr().Is4() {
			p.w.filter.Homes = append(p.w.filter.Homes, filter.Home{Addr: peer.Addr, Mesh: subnet})
		}
		_, _, there := MeshAddrs(subnet)
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if subnet.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		p.w.link.Neighbours = append(p.w.link.Neighbours, link.Neighbour{Link: MeshLink, IP: there, MAC: [6]byte(mac)})
		p.w.link.Routes = append(p.w.link.Routes,
			link.Route{Dst: subnet.Masked(), Link: MeshLink, Via: there},
			link.Route{Dst: all, Link: MeshLink, Via: there, Table: table})
	}
	// Without iif the packet that carries this one, which has its mark, would
	// meet the rule too and go round in circles.
	p.rule(link.Rule{Priority: ruleBase + peer.Index, IIF: MeshBridge, Mark: mark, Mask: filter.MarkMask, Table: table})
}

// rule is one for both families.
func (p *planner) rule(r link.Rule) {
	p.w.link.Rules = append(p.w.link.Rules, r)
	if p.v6 {
		r.V6 = true
		p.w.link.Rules = append(p.w.link.Rules, r)
	}
}

func (p *planner) addr(name string, a netip.Addr) {
	p.w.link.Addrs = append(p.w.link.Addrs, link.Addr{Link: name, Prefix: netip.PrefixFrom(a, a.BitLen())})
}

func (p *planner) sysctl(path, value string) {
	p.w.link.Sysctls = append(p.w.link.Sysctls, link.Sysctl{Path: path, Value: value})
}

func (p *planner) meshSysctls() {
	p.sysctl("/proc/sys/net/ipv4/ip_forward", "1")
	for _, name := range []string{MeshBridge, MeshLink} {
		// Clients of the whole world come in here, with their own addresses.
		p.sysctl("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", "2")
		// For 127.0.0.1:PORT on this node; the filter keeps others out.
		p.sysctl("/proc/sys/net/ipv4/conf/"+name+"/route_localnet", "1")
	}
	p.bridged(MeshBridge)
	if !p.v6 {
		return
	}
	for _, name := range p.routers {
		p.sysctl("/proc/sys/net/ipv6/conf/"+name+"/accept_ra", "2")
	}
	p.sysctl("/proc/sys/net/ipv6/conf/all/forwarding", "1")
}

// bridged has the filter see what containers of one bridge send each other:
// replies of a service's backend must get the service's address.
func (p *planner) bridged(bridge string) {
	p.sysctl("/sys/class/net/"+bridge+"/bridge/nf_call_iptables", "1")
	if p.v6 {
		p.sysctl("/sys/class/net/"+bridge+"/bridge/nf_call_ip6tables", "1")
	}
}

// network joins the bridges of a cluster network.
func (p *planner) network(n assignment.Network) {
	local, port := p.self.Addr, p.port
	if n.Encrypted {
		local, port = p.tunnelAddr(p.self), SealedPort
		p.tunnel()
	}
	if !local.IsValid() {
		return
	}
	bridge, device := Bridge(n.VNI), VXLAN(n.VNI)
	mtu := NetworkMTU(n, p.mtu, p.self.Addr)
	p.w.link.Bridges = append(p.w.link.Bridges, link.Bridge{Name: bridge, MTU: mtu})
	p.w.link.VXLANs = append(p.w.link.VXLANs, link.VXLAN{Name: device, VNI: n.VNI, Local: local, Port: port, MTU: mtu, Master: bridge})
	p.w.filter.Bridges = append(p.w.filter.Bridges, bridge)
	if !n.Encrypted {
		p.w.filter.VNIs = append(p.w.filter.VNIs, n.VNI)
	}
	for _, pool := range n.Pools {
		p.w.filter.Gateways = append(p.w.filter.Gateways, pool.Gateway)
	}
	p.bridged(bridge)
	p.here[n.ID] = &joined{network: n, bridge: bridge, device: device}
}

// remote leads to an endpoint on another node.
func (p *planner) remote(n *joined, at assignment.EndpointNetwork, peer assignment.Peer) {
	dst := peer.Addr
	if n.network.Encrypted {
		dst = p.tunnelAddr(peer)
	}
	if !dst.IsValid() || len(at.Addrs) == 0 || !at.Addrs[0].Is4() {
		return
	}
	mac := EndpointMAC(at.Addrs[0])
	p.w.link.Forwards = append(p.w.link.Forwards, link.Forward{Link: n.device, MAC: mac, Dst: dst})
	for _, a := range at.Addrs {
		if p.usable(a) {
			p.w.link.Neighbours = append(p.w.link.Neighbours, link.Neighbour{Link: n.bridge, IP: a, MAC: mac})
		}
	}
}

// service answers at a service's addresses and published ports.
func (p *planner) service(s assignment.Service) {
	backends := p.backends[s.ID]
	for _, at := range s.Networks {
		n, here := p.here[at.NetworkID]
		if !here {
			continue
		}
		for _, vip := range at.VIPs {
			if !p.usable(vip) {
				continue
			}
			p.addr(n.bridge, vip)
			v := filter.VIP{Addr: vip, Backends: make([]netip.Addr, 0, len(backends))}
			for _, e := range backends {
				v.Backends = appendAddrs(v.Backends, e, at.NetworkID, vip)
			}
			p.w.filter.VIPs = append(p.w.filter.VIPs, v)
		}
	}
	p.published(s.Ports, backends)
}

// published answers at ports that are published on all nodes.
func (p *planner) published(ports []assignment.Port, backends []*assignment.Endpoint) {
	for _, port := range ports {
		v := filter.Port{Protocol: port.Protocol, Port: port.Published}
		for _, e := range backends {
			for _, a := range e.Mesh {
				if p.usable(a) {
					v.Backends = append(v.Backends, netip.AddrPortFrom(a, port.Target))
				}
			}
		}
		p.w.filter.Ports = append(p.w.filter.Ports, v)
	}
}

// appendAddrs adds the addresses of e on a network that are of like's family.
func appendAddrs(addrs []netip.Addr, e *assignment.Endpoint, networkID string, like netip.Addr) []netip.Addr {
	for i := range e.Networks {
		if e.Networks[i].NetworkID != networkID {
			continue
		}
		for _, a := range e.Networks[i].Addrs {
			if a.Is4() == like.Is4() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// meshMAC is the address of a node's MeshLink, by its place in the mesh.
func meshMAC(index int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x5a, 0, 0, byte(index >> 8), byte(index)} //nolint:gosec // the two low bytes
}

// EndpointMAC is the address that engines below API 1.44 give to a container,
// and that others are told to: 02:42 and the IPv4 address.
func EndpointMAC(a netip.Addr) [6]byte {
	b := a.As4()
	return [6]byte{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
