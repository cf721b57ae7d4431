package state

import (
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
)

// Pool is a subnet of a network and where addresses are taken from in it.
type Pool struct {
	Subnet  netip.Prefix
	Range   netip.Prefix `json:",omitzero"` // inside Subnet; zero: all of it
	Gateway netip.Addr   // the same on every node
	// Reserved are addresses that are never given out.
	Reserved []netip.Addr `json:",omitempty"`
}

// TaskNetwork is a network that a task is on, with its addresses there, one for
// each family. On the ingress network the node gives the address:
// Task.Status.Addrs has it.
type TaskNetwork struct {
	NetworkID string
	Addrs     []netip.Prefix `json:",omitempty"` // with the length of their subnets
}

// Attachment is the place on a network of a container that no service has:
// one that `docker run` started on a node.
type Attachment struct {
	ID string
	swarm.Meta
	NetworkID string
	NodeID    string
	Name      string // of the container; other containers find it under this
	Addrs     []netip.Prefix
	Aliases   []string `json:",omitempty"`
}

// Predefined reports whether a network exists on each engine by itself, so that
// services may name it and nothing of it is allocated.
func Predefined(network string) bool {
	return network == "bridge" || network == "host" || network == "none"
}

// OverlaysOf are the ids of the cluster networks that a spec attaches its tasks
// to, in the order of the spec. Ingress is not among them.
func OverlaysOf(spec *swarm.ServiceSpec) (ids []string) {
	for _, n := range spec.TaskTemplate.Networks {
		if !Predefined(n.Target) {
			ids = append(ids, n.Target)
		}
	}
	return ids
}

// Publishes reports whether a spec publishes ports on all nodes.
func Publishes(spec *swarm.ServiceSpec) bool {
	return spec.EndpointSpec != nil && slices.ContainsFunc(spec.EndpointSpec.Ports, func(p swarm.PortConfig) bool {
		return p.PublishMode != swarm.PortConfigPublishModeHost
	})
}

// NeedsAddresses reports whether a task with this spec waits for the allocator
// before it can be scheduled.
func NeedsAddresses(spec *swarm.ServiceSpec) bool {
	return len(OverlaysOf(spec)) > 0 || Publishes(spec)
}

// PortKey names a published port: "tcp/8080".
func PortKey(protocol swarm.PortConfigProtocol, port uint32) string {
	return string(protocol) + "/" + strconv.FormatUint(uint64(port), 10)
}

// AddrUsed reports whether an address of a cluster network is given to
// anything: a task that has not ended, a service, an attachment or a gateway.
// Subnets never overlap, so an address alone says of which network it is.
func (v *View) AddrUsed(a netip.Addr) bool {
	key := a.String()
	return first(v.tables.tasks.indexes[byAddr].equal(key)) != nil ||
		first(v.tables.services.indexes[byVIP].equal(key)) != nil ||
		first(v.tables.attachments.indexes[attachmentByAddr].equal(key)) != nil ||
		first(v.tables.networks.indexes[byGateway].equal(key)) != nil
}

// TasksOfNetwork yields the tasks on a network that have not ended.
func (v *View) TasksOfNetwork(networkID string) iter.Seq[*Task] {
	return v.tables.tasks.indexes[byNetwork].equal(networkID)
}

// TasksLeaving yields the running tasks that are to stop and are still known as
// backends somewhere: their nodes wait for Withdrawn.
func (v *View) TasksLeaving() iter.Seq[*Task] {
	return v.tables.tasks.indexes[byStage].equal(stageLeaving)
}

// ServicesOfNetwork yields the services whose spec names a cluster network.
func (v *View) ServicesOfNetwork(networkID string) iter.Seq[*Service] {
	return v.tables.services.indexes[serviceByNetwork].equal(networkID)
}

// ServicesPublished yields the services that publish a port on all nodes.
func (v *View) ServicesPublished() iter.Seq[*Service] {
	return v.tables.services.indexes[serviceByNetwork].equal("")
}

// ServicesOfPort yields the services that publish this port, in either mode;
// port is that of the endpoint, so an allocated one counts too.
func (v *View) ServicesOfPort(protocol swarm.PortConfigProtocol, port uint32) iter.Seq[*Service] {
	return v.tables.services.indexes[byPort].equal(PortKey(protocol, port))
}

// Networks yields all cluster networks by id.
func (v *View) Networks() iter.Seq[*Network] { return v.NetworksByPrefix("") }

// NetworkByVNI returns the network with this VXLAN network identifier, or nil.
func (v *View) NetworkByVNI(vni uint32) *Network {
	return first(v.tables.networks.indexes[byVNI].equal(vniKey(vni)))
}

// Ingress returns the network that publishes ports, nil if there is none.
func (v *View) Ingress() *Network {
	return first(v.tables.networks.indexes[byIngress].equal(""))
}

// NodeByMesh returns the node with this place in the mesh, or nil.
func (v *View) NodeByMesh(index int) *Node {
	return first(v.tables.nodes.indexes[byMesh].equal(strconv.Itoa(index)))
}

// Attachment returns the attachment with this id, or nil.
func (v *View) Attachment(id string) *Attachment { return v.tables.attachments.get(id) }

// Attachments yields all attachments by id.
func (v *View) Attachments() iter.Seq[*Attachment] { return v.tables.attachments.prefix("") }

// AttachmentsOfNode yields the attachments on a node.
func (v *View) AttachmentsOfNode(nodeID string) iter.Seq[*Attachment] {
	return v.tables.attachments.indexes[attachmentByNode].equal(nodeID)
}

// AttachmentsOfNetwork yields the attachments on a network.
func (v *View) AttachmentsOfNetwork(networkID string) iter.Seq[*Attachment] {
	return v.tables.attachments.indexes[attachmentByNetwork].equal(networkID)
}

func vniKey(vni uint32) string { return strconv.FormatUint(uint64(vni), 10) }

func addrKeys(addrs []netip.Prefix, yield func(string)) {
	for _, a := range addrs {
		yield(a.Addr().String())
	}
}

func taskAddrs(t *Task, yield func(string)) {
	if t.Status.State.Terminal() {
		return
	}
	for _, n := range t.Networks {
		addrKeys(n.Addrs, yield)
	}
}

func taskNetworks(t *Task, yield func(string)) {
	if t.Status.State.Terminal() {
		return
	}
	for _, n := range t.Networks {
		yield(n.NetworkID)
	}
}

// Leaving reports whether a task is to stop and its node waits for Withdrawn.
func (t *Task) Leaving() bool {
	return t.Desired >= taskstate.Shutdown && t.Status.State == taskstate.Running && !t.Withdrawn && len(t.Networks) > 0
}

func serviceVIPs(s *Service, yield func(string)) {
	for _, vip := range s.Endpoint.VirtualIPs {
		addr, _, _ := strings.Cut(vip.Addr, "/")
		yield(addr)
	}
}

func serviceNetworks(s *Service, yield func(string)) {
	for _, id := range OverlaysOf(&s.Spec) {
		yield(id)
	}
	if Publishes(&s.Spec) {
		yield("")
	}
}

func servicePorts(s *Service, yield func(string)) {
	for _, p := range s.Endpoint.Ports {
		if p.PublishedPort != 0 {
			yield(PortKey(p.Protocol, p.PublishedPort))
		}
	}
}

func networkGateways(n *Network, yield func(string)) {
	for _, p := range n.Pools {
		yield(p.Gateway.String())
		for _, a := range p.Reserved {
			yield(a.String())
		}
	}
}
