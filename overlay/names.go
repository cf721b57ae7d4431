package overlay

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"shoal/overlay/dns"
	"shoal/worker/assignment"
)

// Suffix is the domain of ours: web.svc.shoal is the service web whatever a
// search list adds to shorter names, and nobody else is asked about it.
const Suffix = "svc.shoal"

// shortID is how much of its id is a container's hostname.
const shortID = 12

// namer makes tables of names. It remembers the last one, so that a change
// costs only the networks that it is of. It is not safe for concurrent use.
type namer struct {
	known assignment.Known
	zones map[string]*dns.Zone // by id of their network
}

// table is what containers of a node can ask for by name. Known shares what did
// not change since the last call, as Known.With leaves it.
func (n *namer) table(k assignment.Known, nodeID string) *dns.Table {
	var stale map[string]bool
	if len(n.zones) > 0 {
		stale = staleNetworks(n.known, k)
	}
	zones := map[string]*dns.Zone{}
	members := map[string]*members{}
	local := endpointsOf(k, nodeID)
	for _, e := range local {
		for _, on := range e.Networks {
			if _, ok := k.Networks[on.NetworkID]; !ok {
				continue
			}
			if old := n.zones[on.NetworkID]; old != nil && !stale[on.NetworkID] {
				zones[on.NetworkID] = old
			} else if members[on.NetworkID] == nil {
				members[on.NetworkID] = newMembers()
			}
		}
	}
	if len(members) > 0 {
		gather(k, members)
	}
	for id, m := range members {
		zones[id] = m.zone(k.Networks[id])
	}
	n.known, n.zones = k, zones
	return &dns.Table{Clients: clients(k, local, zones), Suffixes: []string{Suffix}}
}

// endpointsOf are the endpoints on a node: those that serve come last, so that
// what they say of an address holds.
func endpointsOf(k assignment.Known, nodeID string) (local []*assignment.Endpoint) {
	for _, e := range k.Endpoints {
		if e.NodeID == nodeID {
			local = append(local, new(e))
		}
	}
	slices.SortFunc(local, byServing)
	return local
}

func byServing(a, b *assignment.Endpoint) int {
	if a.Serving != b.Serving {
		if b.Serving {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.ID, b.ID)
}

// clients are the containers of this node by their addresses. One on a network
// that is not known yet is kept as quiet as if that were internal.
func clients(k assignment.Known, local []*assignment.Endpoint, zones map[string]*dns.Zone) map[netip.Addr]*dns.Client {
	out := make(map[netip.Addr]*dns.Client, 2*len(local))
	for _, e := range local {
		c := &dns.Client{NoForward: len(e.Mesh) == 0}
		networks := make([]assignment.Network, 0, len(e.Networks))
		for _, on := range e.Networks {
			if network, ok := k.Networks[on.NetworkID]; ok {
				networks = append(networks, network)
				c.NoForward = c.NoForward && network.Internal
			}
			for _, a := range on.Addrs {
				out[a] = c
			}
		}
		slices.SortFunc(networks, func(a, b assignment.Network) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		})
		for _, network := range networks {
			c.Zones = append(c.Zones, zones[network.ID])
		}
		for _, a := range e.Mesh {
			out[a] = c
		}
	}
	return out
}

// members are what has names on one network.
type members struct {
	services  []serviceOn
	endpoints []endpointOn
	tasks     map[string][]netip.Addr // of a service, those that serve
}

type serviceOn struct {
	service *assignment.Service
	on      *assignment.ServiceNetwork
}

type endpointOn struct {
	endpoint *assignment.Endpoint
	service  string // its name, "" without one
	on       *assignment.EndpointNetwork
}

func newMembers() *members { return &members{tasks: map[string][]netip.Addr{}} }

// gather finds the members of networks in what is known.
func gather(k assignment.Known, networks map[string]*members) {
	for _, s := range k.Services {
		for i := range s.Networks {
			if m := networks[s.Networks[i].NetworkID]; m != nil {
				m.services = append(m.services, serviceOn{new(s), &s.Networks[i]})
			}
		}
	}
	for _, e := range k.Endpoints {
		for i := range e.Networks {
			if m := networks[e.Networks[i].NetworkID]; m != nil {
				m.add(endpointOn{new(e), k.Services[e.ServiceID].Name, &e.Networks[i]})
			}
		}
	}
	for _, m := range networks {
		slices.SortFunc(m.services, func(a, b serviceOn) int { return cmp.Compare(a.service.ID, b.service.ID) })
		for _, addrs := range m.tasks {
			slices.SortFunc(addrs, netip.Addr.Compare)
		}
	}
}

func (m *members) add(e endpointOn) {
	m.endpoints = append(m.endpoints, e)
	if service := e.endpoint.ServiceID; service != "" && e.endpoint.Serving {
		m.tasks[service] = append(m.tasks[service], e.on.Addrs...)
	}
}

// zone gives names to members. What is said later holds: containers have the
// least claim to a name, then slots, aliases, and services the most.
func (m *members) zone(network assignment.Network) *dns.Zone {
	z := &dns.Zone{
		Network: strings.ToLower(network.Name),
		Names:   make(map[string][]netip.Addr, 4*len(m.endpoints)+6*len(m.services)),
		Reverse: make(map[netip.Addr]string, len(m.endpoints)+len(m.services)),
	}
	for _, p := range network.Pools {
		z.Subnets = append(z.Subnets, p.Subnet)
	}
	names := nameSet(z.Names)
	m.nameContainers(names)
	m.nameSlots(names)
	m.nameAliases(names)
	m.nameServices(names)
	for _, serving := range []bool{false, true} { // who serves has an address more than who does not
		for _, e := range m.endpoints {
			if e.endpoint.Serving == serving {
				nameAddrs(z.Reverse, e.endpoint.Name+"."+network.Name, e.on.Addrs)
			}
		}
	}
	for _, s := range m.services {
		nameAddrs(z.Reverse, s.service.Name+"."+network.Name, s.on.VIPs)
	}
	return z
}

func nameAddrs(reverse map[netip.Addr]string, name string, addrs []netip.Addr) {
	for _, a := range addrs {
		reverse[a] = name
	}
}

func (m *members) nameContainers(names nameSet) {
	for _, e := range m.endpoints {
		names.join(e.endpoint.Name, e.on.Addrs)
		names.join(e.endpoint.ContainerID, e.on.Addrs)
		if len(e.endpoint.ContainerID) > shortID {
			names.join(e.endpoint.ContainerID[:shortID], e.on.Addrs)
		}
		for _, alias := range e.on.Aliases {
			names.join(alias, e.on.Addrs)
		}
	}
}

// nameSlots names the task that serves in a slot, or those that may, as long as
// none does.
func (m *members) nameSlots(names nameSet) {
	type slot struct {
		service string
		number  int
	}
	serving := make(map[slot][]netip.Addr, len(m.endpoints))
	live := map[slot][]netip.Addr{}
	for _, e := range m.endpoints {
		at := slot{e.service, e.endpoint.Slot}
		switch {
		case at.service == "" || at.number == 0:
		case e.endpoint.Serving:
			serving[at] = union(serving[at], e.on.Addrs)
		default:
			live[at] = union(live[at], e.on.Addrs)
		}
	}
	for at, addrs := range live {
		if serving[at] == nil {
			serving[at] = addrs
		}
	}
	for at, addrs := range serving {
		names.put(at.service+"."+strconv.Itoa(at.number), addrs)
	}
}

func (m *members) nameAliases(names nameSet) {
	aliases := nameSet{}
	for _, s := range m.services {
		for _, alias := range s.on.Aliases {
			aliases.join(alias, m.addrs(s))
			aliases.join("tasks."+alias, m.tasks[s.service.ID])
		}
	}
	for name, addrs := range aliases {
		names.put(name, addrs)
	}
}

func (m *members) nameServices(names nameSet) {
	for _, s := range m.services {
		if s.service.Stack == "" {
			continue
		}
		short := strings.TrimPrefix(s.service.Name, s.service.Stack+"_")
		inStack := short + "." + s.service.Stack
		names.put(inStack, m.addrs(s))
		names.put(inStack+"."+Suffix, m.addrs(s))
	}
	for _, s := range m.services {
		names.put(s.service.Name, m.addrs(s))
		names.put(s.service.Name+"."+Suffix, m.addrs(s))
		names.put("tasks."+s.service.Name, m.tasks[s.service.ID])
	}
	names.exists(Suffix)
	for _, s := range m.services {
		if s.service.Stack != "" {
			names.exists(s.service.Stack + "." + Suffix)
		}
	}
}

// addrs are what the name of a service means.
func (m *members) addrs(s serviceOn) []netip.Addr {
	if s.service.DNSRR {
		return m.tasks[s.service.ID]
	}
	return s.on.VIPs
}

// nameSet is the names of a zone, in lower case. Lists of addresses are shared
// with what is known, so they are never written to.
type nameSet map[string][]netip.Addr

func (n nameSet) put(name string, addrs []netip.Addr) {
	if name != "" {
		n[strings.ToLower(name)] = addrs
	}
}

// join is for a name that several may have: it means all of them.
func (n nameSet) join(name string, addrs []netip.Addr) {
	n.put(name, union(n[strings.ToLower(name)], addrs))
}

// exists keeps a name that others are under from being denied, which would deny
// those too.
func (n nameSet) exists(name string) {
	if _, ok := n[strings.ToLower(name)]; !ok {
		n.put(name, nil)
	}
}

func union(a, b []netip.Addr) []netip.Addr {
	if len(a) == 0 {
		return b
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}
