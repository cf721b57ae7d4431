package api

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// presentNetwork is what clients see of a network, in the form that the
// engine gives its own.
func presentNetwork(n *state.Network) network.Inspect {
	out := network.Inspect{
		Name: n.Spec.Name, ID: n.ID, Created: n.CreatedAt, Scope: "swarm", Driver: "overlay",
		EnableIPv4: true, EnableIPv6: n.Spec.IPv6Enabled, IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Internal: n.Spec.Internal, Attachable: n.Spec.Attachable, Ingress: n.Spec.Ingress,
		Options: maps.Clone(n.DriverState.Options),
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if len(n.Spec.Labels) > 0 { // else null, as with Swarm
		out.Labels = n.Spec.Labels
	}
	for _, p := range n.Pools {
		c := network.IPAMConfig{Subnet: p.Subnet.String(), Gateway: p.Gateway.String()}
		if p.Range.IsValid() {
			c.IPRange = p.Range.String()
		}
		for _, a := range p.Reserved { // the names that came with them are not kept
			if c.AuxAddress == nil {
				c.AuxAddress = map[string]string{}
			}
			c.AuxAddress[a.String()] = a.String()
		}
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	return out
}

// peersOf are the nodes that a network is on: those with a task or a container
// there. Ingress is on all.
func peersOf(v *state.View, n *state.Network) (peers []network.PeerInfo) {
	ids := map[string]bool{}
	if n.Spec.Ingress {
		for node := range v.Nodes() {
			ids[node.ID] = node.Status.State != swarm.NodeStateDown
		}
	} else {
		for t := range v.TasksOfNetwork(n.ID) {
			ids[t.NodeID] = true
		}
		for a := range v.AttachmentsOfNetwork(n.ID) {
			ids[a.NodeID] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if node := v.Node(id); node != nil && ids[id] {
			peers = append(peers, network.PeerInfo{Name: hostnameOf(v, id), IP: nodeIP(node)})
		}
	}
	return peers
}

// nodeIP is where packets for a node go to.
func nodeIP(n *state.Node) string {
	if host, _, err := net.SplitHostPort(n.Addr); err == nil {
		return host
	}
	return n.Status.Addr
}

// servicesOn are the services on a network with their tasks there.
func servicesOn(v *state.View, n *state.Network) map[string]network.ServiceInfo {
	services := v.ServicesOfNetwork(n.ID)
	if n.Spec.Ingress {
		services = v.ServicesPublished()
	}
	out := map[string]network.ServiceInfo{}
	for s := range services {
		info := network.ServiceInfo{VIP: "<nil>", Ports: []string{}, Tasks: []network.Task{}} // what Docker says of no address
		for _, vip := range s.Endpoint.VirtualIPs {
			if vip.NetworkID == n.ID && info.VIP == "<nil>" {
				info.VIP, _, _ = strings.Cut(vip.Addr, "/")
			}
		}
		for _, p := range s.Endpoint.Ports {
			if n.Spec.Ingress && p.PublishMode != swarm.PortConfigPublishModeHost {
				info.Ports = append(info.Ports, fmt.Sprintf("Target: %d, Publish: %d", p.TargetPort, p.PublishedPort))
			}
		}
		for t := range v.TasksOfService(s.ID) {
			if task, ok := taskOn(v, t, n); ok {
				info.Tasks = append(info.Tasks, task)
			}
		}
		out[s.Spec.Name] = info
	}
	return out
}

func taskOn(v *state.View, t *state.Task, n *state.Network) (network.Task, bool) {
	node := v.Node(t.NodeID)
	i := slices.IndexFunc(t.Networks, func(tn state.TaskNetwork) bool { return tn.NetworkID == n.ID })
	if node == nil || i < 0 || t.Status.State.Terminal() {
		return network.Task{}, false
	}
	addr := ""
	if n.Spec.Ingress {
		addr = firstAddr(t.Status.Addrs)
	} else if addrs := t.Networks[i].Addrs; len(addrs) > 0 {
		addr = addrs[0].Addr().String()
	}
	return network.Task{
		Name: TaskName(v, t), EndpointID: t.ID, EndpointIP: addr, Info: map[string]string{"Host IP": nodeIP(node)},
	}, true
}

func firstAddr(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return ""
	}
	return addrs[0].String()
}
