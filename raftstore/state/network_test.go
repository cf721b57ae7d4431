package state_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func prefixes(list ...string) (parsed []netip.Prefix) {
	for _, p := range list {
		parsed = append(parsed, netip.MustParsePrefix(p))
	}
	return parsed
}

// front is a network of both families on which something is reserved.
func front() *state.Network {
	n := &state.Network{VNI: 4097, Encrypted: true, MTU: 1400, Pools: []state.Pool{
		{
			Subnet: netip.MustParsePrefix("10.0.1.0/24"), Range: netip.MustParsePrefix("10.0.1.128/25"),
			Gateway: netip.MustParseAddr("10.0.1.1"), Reserved: []netip.Addr{netip.MustParseAddr("10.0.1.129")},
		},
		{Subnet: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1")},
	}}
	n.ID, n.Spec.Name, n.Spec.Attachable = "net1", "front", true
	n.DriverState = swarm.Driver{Name: "overlay"}
	return n
}

// onFront is a service on that network which publishes a port, and its revision.
func onFront() (*state.Service, *state.Revision) {
	s, r := statetest.Service("web", 2, func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "net1", Aliases: []string{"www"}}}
		s.EndpointSpec = &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP, Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishMode: "ingress"}}}
	})
	s.Endpoint = swarm.Endpoint{
		Spec:       *s.Spec.EndpointSpec,
		Ports:      []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishedPort: 30000, PublishMode: "ingress"}},
		VirtualIPs: []swarm.EndpointVirtualIP{{NetworkID: "net1", Addr: "10.0.1.130/24"}, {NetworkID: "net1", Addr: "fd00:1::2/64"}},
	}
	return s, r
}

// taskOnFront is a task of that service which nodes still send connections to.
func taskOnFront() *state.Task {
	t := statetest.Task("t1", "web", 1, "n1", statetest.Desired(taskstate.Shutdown))
	t.Networks = []state.TaskNetwork{{NetworkID: "net1", Addrs: prefixes("10.0.1.131/24", "fd00:1::3/64")}, {NetworkID: "ingress"}}
	t.Status.Addrs = []netip.Addr{netip.MustParseAddr("172.28.0.2")}
	return t
}

func attached() *state.Attachment {
	return &state.Attachment{
		ID: "att1", NetworkID: "net1", NodeID: "n1", Name: "probe",
		Addrs: prefixes("10.0.1.132/24", "fd00:1::4/64"), Aliases: []string{"tool"},
	}
}

// goldenNetworks holds each kind and field that came with networks.
func goldenNetworks() [][]state.Change {
	cluster := &state.Cluster{
		MeshPool: netip.MustParsePrefix("172.28.0.0/14"), OverlayKeys: [][]byte{{5, 6}, {7, 8}},
		OverlayKeyAt: time.Unix(1_699_999_000, 0).UTC(), FeatureLevel: 1,
	}
	cluster.ID, cluster.Spec.Name = "cluster1", "default"
	node := statetest.Node("n1")
	node.MeshIndex, node.Mesh, node.TunnelKey = 3, prefixes("172.28.0.0/20", "fd5a::/64"), []byte{9, 10}
	ingress := &state.Network{VNI: 4096, Pools: []state.Pool{{Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}}
	ingress.ID, ingress.Spec.Name, ingress.Spec.Ingress = "ingress", "ingress", true
	service, revision := onFront()
	withdrawn := taskOnFront()
	withdrawn.ID, withdrawn.Withdrawn = "t2", true
	withdrawn.Networks = []state.TaskNetwork{{NetworkID: "net1", Addrs: prefixes("10.0.1.133/24")}}
	return [][]state.Change{
		{state.Put(cluster), state.Put(node)},
		{state.Put(ingress), state.Put(front())},
		{state.Put(service), state.Put(revision), state.Put(taskOnFront()), state.Put(withdrawn)},
		{state.Put(attached()), state.Delete(state.KindAttachment, "gone")},
	}
}

// drawAttachment draws one whose address others may want as well.
func drawAttachment(t *rapid.T, key string) *state.Attachment {
	a := attached()
	a.ID, a.NodeID = key, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "attached to")
	a.Addrs = prefixes(rapid.SampledFrom([]string{"10.0.1.131/24", "10.0.1.132/24"}).Draw(t, "address"))
	return a
}

func drawNetworked(t *rapid.T, key string, s taskstate.State) *state.Task {
	on := taskOnFront()
	on.ID, on.Status.State = key, s
	on.Withdrawn = rapid.Bool().Draw(t, "withdrawn")
	return on
}

func TestIndexesOfNetworks(t *testing.T) {
	service, revision := onFront()
	ended := taskOnFront()
	ended.ID, ended.Status.State, ended.Networks = "t9", taskstate.Failed, []state.TaskNetwork{{NetworkID: "net1", Addrs: prefixes("10.0.1.140/24")}}
	node := statetest.Node("n1")
	node.MeshIndex = 3
	v := statetest.View(front(), service, revision, taskOnFront(), ended, attached(), node)
	for what, c := range map[string]struct{ got, want []string }{
		"tasks of network":        {ids(v.TasksOfNetwork("net1")), []string{"t1"}},
		"tasks of ingress":        {ids(v.TasksOfNetwork("ingress")), []string{"t1"}},
		"tasks leaving":           {ids(v.TasksLeaving()), []string{"t1"}},
		"services of network":     {ids(v.ServicesOfNetwork("net1")), []string{"web"}},
		"services published":      {ids(v.ServicesPublished()), []string{"web"}},
		"services of port":        {ids(v.ServicesOfPort("tcp", 30000)), []string{"web"}},
		"services of port in udp": {ids(v.ServicesOfPort("udp", 30000)), nil},
		"attachments of network":  {ids(v.AttachmentsOfNetwork("net1")), []string{"att1"}},
		"attachments of node":     {ids(v.AttachmentsOfNode("n1")), []string{"att1"}},
		"attachments elsewhere":   {ids(v.AttachmentsOfNode("n2")), nil},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	if n := v.NetworkByVNI(4097); n == nil || n.ID != "net1" {
		t.Errorf("NetworkByVNI(4097) = %v", n)
	}
	if n := v.NodeByMesh(3); n == nil || n.ID != "n1" {
		t.Errorf("NodeByMesh(3) = %v", n)
	}
	if v.Ingress() != nil {
		t.Error("there is an ingress network where none was put")
	}
}

// An address is free only if nothing at all has it: given twice, two containers
// would answer to it.
func TestAddrUsedKnowsEveryOwner(t *testing.T) {
	service, revision := onFront()
	ended := taskOnFront()
	ended.ID, ended.Status.State, ended.Networks = "t9", taskstate.Failed, []state.TaskNetwork{{NetworkID: "net1", Addrs: prefixes("10.0.1.140/24")}}
	store := statetest.New(front(), service, revision, taskOnFront(), ended, attached())
	for addr, want := range map[string]bool{
		"10.0.1.1": true, "fd00:1::1": true, // gateways
		"10.0.1.129": true,                    // reserved
		"10.0.1.130": true, "fd00:1::2": true, // of the service
		"10.0.1.131": true, "fd00:1::3": true, // of a task
		"10.0.1.132": true, "fd00:1::4": true, // of a container
		"10.0.1.140": false,                     // its task has ended
		"10.0.1.141": false, "fd00:1::5": false, // of nobody
	} {
		if got := store.View().AddrUsed(netip.MustParseAddr(addr)); got != want {
			t.Errorf("AddrUsed(%s) = %v", addr, got)
		}
	}
	store.Apply(state.Delete(state.KindAttachment, "att1"), state.Delete(state.KindTask, "t1"), state.Delete(state.KindService, "web"))
	for _, addr := range []string{"10.0.1.130", "10.0.1.131", "10.0.1.132", "fd00:1::4"} {
		if store.View().AddrUsed(netip.MustParseAddr(addr)) {
			t.Errorf("%s is used after its owner has gone", addr)
		}
	}
}
