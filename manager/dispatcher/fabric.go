package dispatcher

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/worker/assignment"
)

// What a cluster has that does not say otherwise.
const (
	defaultDataPort = 4789
	stackLabel      = "com.docker.stack.namespace"
)

// scope is what one node is told of the fabric at one view.
type scope struct {
	view    *state.View
	ingress string // id of the ingress network
	on      ids    // networks that the node is on, without ingress
}

func ingressOf(v *state.View) string {
	if n := v.Ingress(); n != nil {
		return n.ID
	}
	return ""
}

// networksOfNode are the networks that a node has a task or an attachment on,
// and how many.
func networksOfNode(v *state.View, nodeID string) map[string]int {
	on := map[string]int{}
	for t := range v.TasksOfNode(nodeID) {
		for _, id := range networksOfTask(v, t) {
			on[id]++
		}
	}
	for a := range v.AttachmentsOfNode(nodeID) {
		for _, id := range networksOfAttachment(v, a) {
			on[id]++
		}
	}
	return on
}

// present reports whether a task has, or may get, a container on its node.
func present(t *state.Task) bool { return assigned(t) && !t.Status.State.Terminal() }

// networksOfTask are the networks, without ingress, that the task's node must
// know because of it.
func networksOfTask(v *state.View, t *state.Task) (on []string) {
	if t == nil || !present(t) {
		return nil
	}
	ingress := ingressOf(v)
	for _, n := range t.Networks {
		if n.NetworkID != ingress {
			on = append(on, n.NetworkID)
		}
	}
	return on
}

func networksOfAttachment(v *state.View, a *state.Attachment) []string {
	if a == nil || a.NetworkID == ingressOf(v) {
		return nil
	}
	return []string{a.NetworkID}
}

// configOf is what holds for all nodes.
func configOf(v *state.View) assignment.FabricConfig {
	config := assignment.FabricConfig{Port: defaultDataPort, Pool: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 252}), 14)}
	c := v.Cluster()
	if c == nil {
		return config
	}
	if c.DataPathPort != 0 {
		config.Port = int(c.DataPathPort)
	}
	if c.MeshPool.IsValid() {
		config.Pool = c.MeshPool
	}
	config.Keys = c.OverlayKeys
	return config
}

// peerOf is a node as the others see it; not ok while its address is not known.
func peerOf(n *state.Node) (assignment.Peer, bool) {
	if n == nil {
		return assignment.Peer{}, false
	}
	host, _, _ := net.SplitHostPort(n.Addr) // "" if there is none
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addr, err = netip.ParseAddr(n.Status.Addr)
	}
	if err != nil {
		return assignment.Peer{}, false
	}
	return assignment.Peer{
		NodeID: n.ID, Name: n.Description.Hostname, Addr: addr.Unmap(),
		Index: n.MeshIndex, Mesh: n.Mesh, TunnelKey: n.TunnelKey,
	}, true
}

func networkOf(n *state.Network) (assignment.Network, bool) {
	if n == nil || n.Spec.Ingress {
		return assignment.Network{}, false
	}
	network := assignment.Network{
		ID: n.ID, Name: n.Spec.Name, VNI: n.VNI, MTU: n.MTU, Internal: n.Spec.Internal,
		Attachable: n.Spec.Attachable, Encrypted: n.Encrypted, Labels: n.Spec.Labels,
	}
	for _, p := range n.Pools {
		network.Pools = append(network.Pools, assignment.Pool{Subnet: p.Subnet, Gateway: p.Gateway})
	}
	return network, true
}

// serviceOf is a service with all its networks, and whether it publishes
// ports; not ok if there is no such service.
func serviceOf(s *state.Service) (service assignment.Service, published, ok bool) {
	if s == nil {
		return assignment.Service{}, false, false
	}
	service = assignment.Service{ID: s.ID, Name: s.Spec.Name, Stack: s.Spec.Labels[stackLabel]}
	service.DNSRR = s.Spec.EndpointSpec != nil && s.Spec.EndpointSpec.Mode == swarm.ResolutionModeDNSRR
	for _, n := range s.Spec.TaskTemplate.Networks {
		if !state.Predefined(n.Target) {
			service.Networks = append(service.Networks, assignment.ServiceNetwork{
				NetworkID: n.Target, VIPs: vipsOf(s, n.Target), Aliases: n.Aliases,
			})
		}
	}
	for _, p := range s.Endpoint.Ports {
		if p.PublishMode == swarm.PortConfigPublishModeHost || p.PublishedPort == 0 {
			continue
		}
		service.Ports = append(service.Ports, assignment.Port{
			Protocol:  cmp.Or(string(p.Protocol), string(swarm.PortConfigProtocolTCP)),
			Published: uint16(p.PublishedPort), //nolint:gosec // the API and the allocator see to it that a port is one
			Target:    uint16(p.TargetPort),    //nolint:gosec // likewise
		})
	}
	return service, state.Publishes(&s.Spec), true
}

func vipsOf(s *state.Service, networkID string) (vips []netip.Addr) {
	for _, vip := range s.Endpoint.VirtualIPs {
		if p, err := netip.ParsePrefix(vip.Addr); err == nil && vip.NetworkID == networkID {
			vips = append(vips, p.Addr())
		}
	}
	return vips
}

// endpointOf is a task or attachment with all its networks but ingress, and
// whether it is on that; not ok if there is none, or none that can be reached.
func endpointOf(v *state.View, id string) (e assignment.Endpoint, published, ok bool) {
	if t := v.Task(id); t != nil {
		return taskEndpoint(v, t)
	}
	a := v.Attachment(id)
	if a == nil || !up(v.Node(a.NodeID)) {
		return assignment.Endpoint{}, false, false
	}
	e = assignment.Endpoint{ID: a.ID, Name: a.Name, NodeID: a.NodeID, Serving: true}
	e.Networks = []assignment.EndpointNetwork{{NetworkID: a.NetworkID, Addrs: bare(a.Addrs), Aliases: a.Aliases}}
	return e, false, true
}

// taskEndpoint is a task as an endpoint. What is on a node that is down is
// none: connections to it are better reset than left hanging.
func taskEndpoint(v *state.View, t *state.Task) (e assignment.Endpoint, published, ok bool) {
	if !present(t) || !up(v.Node(t.NodeID)) {
		return assignment.Endpoint{}, false, false
	}
	e, published = describeTask(v, t)
	return e, published, true
}

// describeTask is a task as an endpoint, whatever became of its node.
func describeTask(v *state.View, t *state.Task) (e assignment.Endpoint, published bool) {
	e = assignment.Endpoint{
		ID: t.ID, ServiceID: t.ServiceID, Slot: t.Slot, Name: containerName(v, t), NodeID: t.NodeID,
		ContainerID: t.Status.ContainerID, Mesh: t.Status.Addrs,
		// A task of a job runs with Complete as its desired state.
		Serving: t.Status.State == taskstate.Running && t.Desired < taskstate.Shutdown,
	}
	ingress := ingressOf(v)
	for _, n := range t.Networks {
		if n.NetworkID == ingress {
			published = true
			continue
		}
		e.Networks = append(e.Networks, assignment.EndpointNetwork{NetworkID: n.NetworkID, Addrs: bare(n.Addrs)})
	}
	return e, published
}

// up reports whether what runs on a node can be reached, as far as is known.
func up(n *state.Node) bool { return n != nil && n.Status.State != swarm.NodeStateDown }

// containerName is what the worker calls the container of a task.
func containerName(v *state.View, t *state.Task) string {
	name := ""
	if r := v.Revision(t.ServiceID, t.Revision); r != nil {
		name = r.Spec.Name
	}
	slot := t.NodeID
	if t.Slot != 0 {
		slot = strconv.Itoa(t.Slot)
	}
	return name + "." + slot + "." + t.ID
}

func bare(prefixes []netip.Prefix) []netip.Addr {
	addrs := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		addrs[i] = p.Addr()
	}
	return addrs
}

// network, service and endpoint are what the node is told of the object with
// an id, not ok if that is nothing.

func (s scope) network(id string) (assignment.Network, bool) {
	if !s.on.has(id) {
		return assignment.Network{}, false
	}
	return networkOf(s.view.Network(id))
}

func (s scope) service(id string) (assignment.Service, bool) {
	service, published, ok := serviceOf(s.view.Service(id))
	service.Networks = kept(service.Networks, func(n assignment.ServiceNetwork) bool { return s.on.has(n.NetworkID) })
	return service, ok && (published || len(service.Networks) > 0)
}

func (s scope) endpoint(id string) (assignment.Endpoint, bool) {
	e, published, ok := endpointOf(s.view, id)
	e.Networks = kept(e.Networks, func(n assignment.EndpointNetwork) bool { return s.on.has(n.NetworkID) })
	return e, ok && (published || len(e.Networks) > 0)
}

// kept filters a list that was made for the caller; nil if nothing is left.
func kept[T any](list []T, keep func(T) bool) (left []T) {
	for _, x := range list {
		if keep(x) {
			left = append(left, x)
		}
	}
	return left
}
