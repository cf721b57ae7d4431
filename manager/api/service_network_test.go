package api_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/manager/allocator"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func ingressNetwork() *state.Network {
	n := allocator.Ingress(netip.MustParsePrefix("10.0.0.0/8"), 24)
	n.ID = "ingressid"
	return n
}

// ipv6 adds a second pool to a network.
func ipv6(subnet string) func(*state.Network) {
	p := netip.MustParsePrefix(subnet)
	return func(n *state.Network) { n.Pools = append(n.Pools, state.Pool{Subnet: p, Gateway: p.Addr().Next()}) }
}

func published(ports ...uint32) *swarm.EndpointSpec {
	e := &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP}
	for _, p := range ports {
		e.Ports = append(e.Ports, swarm.PortConfig{Protocol: "tcp", TargetPort: 80, PublishedPort: p, PublishMode: "ingress"})
	}
	return e
}

func onNetworks(targets ...string) (list []swarm.NetworkAttachmentConfig) {
	for _, t := range targets {
		list = append(list, swarm.NetworkAttachmentConfig{Target: t})
	}
	return list
}

func TestServiceOnNetworksHasItsEndpointAtOnce(t *testing.T) {
	h := newHarness(t, ingressNetwork(), overlay("netfront", "front", "10.1.0.0/24"), overlay("netback", "back", "10.1.1.0/24", ipv6("fd01::/64")))
	spec := webSpec("web", 1)
	spec.EndpointSpec = published(8080, 0)
	spec.TaskTemplate.Networks = onNetworks("front", "netb") // by name, by the beginning of an id
	spec.TaskTemplate.Networks[0].Aliases = []string{"www", "site.example"}
	resp, err := h.docker.ServiceCreate(t.Context(), spec, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := h.docker.ServiceInspectWithRaw(t.Context(), resp.ID, swarm.ServiceInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := swarm.Endpoint{
		Spec: *published(8080, 0), Ports: published(8080, 30000).Ports,
		VirtualIPs: []swarm.EndpointVirtualIP{
			{NetworkID: "ingressid", Addr: "10.0.0.2/24"},
			{NetworkID: "netfront", Addr: "10.1.0.2/24"},
			{NetworkID: "netback", Addr: "10.1.1.2/24"},
			{NetworkID: "netback", Addr: "fd01::2/64"},
		},
	}
	if diff := cmp.Diff(want, got.Endpoint); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	s := h.service("web")
	for where, spec := range map[string]swarm.ServiceSpec{"service": s.Spec, "revision": h.store.View().Revision(s.ID, 1).Spec} {
		if n := spec.TaskTemplate.Networks; n[0].Target != "netfront" || n[1].Target != "netback" || len(n[0].Aliases) != 2 {
			t.Errorf("networks of the %s: %+v, want ids", where, n)
		}
	}

	spec.TaskTemplate.Networks = onNetworks("back")
	spec.EndpointSpec = published(0) // the entry of the dynamic port stays
	if _, err := h.docker.ServiceUpdate(t.Context(), resp.ID, got.Version, spec, swarm.ServiceUpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s = h.service("web")
	if p := s.Endpoint.Ports; len(p) != 1 || p[0].PublishedPort != 30000 {
		t.Errorf("ports after an update: %+v", p)
	}
	if diff := cmp.Diff([]swarm.EndpointVirtualIP{want.VirtualIPs[0], want.VirtualIPs[2], want.VirtualIPs[3]}, s.Endpoint.VirtualIPs); diff != "" {
		t.Errorf("addresses after an update (-want +got):\n%s", diff)
	}
	if h.store.View().AddrUsed(netip.MustParseAddr("10.1.0.2")) {
		t.Error("the address on a network that was left is still taken")
	}

	if _, err := h.docker.ServiceUpdate(t.Context(), resp.ID, s.Version, spec, swarm.ServiceUpdateOptions{Rollback: "previous"}); err != nil {
		t.Fatal(err)
	}
	s = h.service("web")
	if p, vips := s.Endpoint.Ports, s.Endpoint.VirtualIPs; len(p) != 2 || p[0].PublishedPort != 8080 || p[1].PublishedPort != 30000 || len(vips) != 4 {
		t.Errorf("endpoint after a rollback: %+v", s.Endpoint)
	}
}

func TestRollbackToATakenPortIsRefused(t *testing.T) {
	h := newHarness(t, ingressNetwork())
	create := func(name string, port uint32) {
		t.Helper()
		spec := webSpec(name, 1)
		spec.EndpointSpec = published(port)
		if status, text := h.call("POST", "/services/create", spec); status != http.StatusCreated {
			t.Fatalf("create %s: %d %s", name, status, text)
		}
	}
	create("web", 8080)
	update := webSpec("web", 1)
	update.EndpointSpec = published(9090)
	if status, text := h.call("POST", "/services/web/update?version="+h.service("web").Version.String(), update); status != http.StatusOK {
		t.Fatalf("update: %d %s", status, text)
	}
	create("other", 8080)
	before := h.hash()
	h.refused("rollback", "POST", "/services/web/update?rollback=previous&version="+h.service("web").Version.String(), update, nil, 400, "port '8080' is already in use by service 'other'")
	if h.hash() != before {
		t.Error("a refused rollback changed the state")
	}
}

func TestPortsNeedAnIngressNetwork(t *testing.T) {
	h := newHarness(t)
	spec := webSpec("web", 1)
	spec.EndpointSpec = published(80)
	h.refused("no ingress", "POST", "/services/create", spec, nil, 400, "rpc error: code = FailedPrecondition desc = service needs ingress network, but no ingress network is present")
	spec.EndpointSpec.Ports[0].PublishMode = "host"
	if status, text := h.call("POST", "/services/create", spec); status != http.StatusCreated {
		t.Errorf("host mode: %d %s", status, text)
	}
}

func TestHostPortsMayBeShared(t *testing.T) {
	h := newHarness(t)
	for _, name := range []string{"a", "b"} {
		spec := webSpec(name, 1)
		spec.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: "sctp", TargetPort: 80, PublishedPort: 80, PublishMode: "host"}}}
		if status, text := h.call("POST", "/services/create", spec); status != http.StatusCreated {
			t.Errorf("create %s: %d %s", name, status, text)
		}
	}
}

func TestLegacyNetworksAreThoseOfTheTasks(t *testing.T) {
	h := newHarness(t, overlay("netback", "back", "10.1.1.0/24"))
	spec := webSpec("web", 1)
	spec.Networks = onNetworks("back") //nolint:staticcheck // deprecated, and honoured
	if status, text := h.call("POST", "/v1.24/services/create", spec); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	s := h.service("web")
	if n := s.Spec.TaskTemplate.Networks; len(n) != 1 || n[0].Target != "netback" || len(s.Endpoint.VirtualIPs) != 1 {
		t.Errorf("networks %+v, endpoint %+v", n, s.Endpoint)
	}
}

func TestTasksShowTheirNetworks(t *testing.T) {
	s, r := statetest.Service("web", 1)
	node := statetest.Node("n1", func(n *state.Node) {
		n.MeshIndex, n.Mesh = 1, []netip.Prefix{netip.MustParsePrefix("10.252.1.0/24"), netip.MustParsePrefix("fd00::/64")}
	})
	task := statetest.Task("t1", "web", 1, "n1", func(t *state.Task) {
		t.Networks = []state.TaskNetwork{
			{NetworkID: "ingressid"},
			{NetworkID: "netback", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.1.7/24"), netip.MustParsePrefix("fd01::7/64")}},
		}
		t.Status.Addrs = []netip.Addr{netip.MustParseAddr("10.252.1.5"), netip.MustParseAddr("fd00::5")}
	})
	h := newHarness(t, s, r, node, task, ingressNetwork(), overlay("netback", "back", "10.1.1.0/24", ipv6("fd01::/64")))
	got, _, err := h.docker.TaskInspectWithRaw(t.Context(), "t1")
	if err != nil || len(got.NetworksAttachments) != 2 {
		t.Fatalf("networks %+v, err %v", got.NetworksAttachments, err)
	}
	first, second := got.NetworksAttachments[0], got.NetworksAttachments[1]
	if first.Network.Spec.Name != "ingress" || !first.Network.Spec.Ingress || cmp.Diff([]string{"10.252.1.5/24", "fd00::5/64"}, first.Addresses) != "" {
		t.Errorf("ingress: %+v", first)
	}
	if second.Network.ID != "netback" || second.Network.Spec.Name != "back" || cmp.Diff([]string{"10.1.1.7/24", "fd01::7/64"}, second.Addresses) != "" {
		t.Errorf("overlay: %+v", second)
	}
}

func TestWhyNewTasksWait(t *testing.T) {
	stuck := func(err string) *state.Task {
		return statetest.Task("t1", "web", 1, "", func(t *state.Task) {
			t.Status = taskstate.Status{State: taskstate.New, Message: allocator.MessageWaiting, Err: err}
		})
	}
	on := func(ids ...string) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { s.TaskTemplate.Networks = onNetworks(ids...) }
	}
	owner, _ := statetest.Service("owner", 1)
	owner.Endpoint = swarm.Endpoint{Ports: published(80).Ports, VirtualIPs: []swarm.EndpointVirtualIP{{NetworkID: "full", Addr: "10.1.1.2/30"}}}
	owner.Spec.TaskTemplate.Networks = onNetworks("full")
	for _, c := range []struct {
		name, err, evidence, fix string
		spec                     func(*swarm.ServiceSpec)
	}{
		{"full network", "network full has no free IPv4 address", "network full has 1 addresses, 0 of them free", "scale down what is on network full", on("full")},
		{"removed network", "network gone not found", "network gone has been removed", "docker service update --network-rm gone web", on("gone")},
		{"taken port", "service web: port '80' is already in use", "", "--publish-rm", func(s *swarm.ServiceSpec) { s.EndpointSpec = published(80) }},
	} {
		s, r := statetest.Service("web", 1, c.spec)
		h := newHarness(t, s, r, owner, stuck(c.err), ingressNetwork(), overlay("full", "full", "10.1.1.0/30"))
		for _, ref := range []string{"t1", "web"} {
			why := h.why(ref)
			if !strings.Contains(why.Cause, "it cannot be given what it needs: "+c.err) || !strings.Contains(strings.Join(why.Evidence, "\n"), c.evidence) || !strings.Contains(why.Fix, c.fix) {
				t.Errorf("%s, why %s: %+v", c.name, ref, why)
			}
		}
	}
	s, r := statetest.Service("web", 1, on("full"))
	h := newHarness(t, s, r, statetest.Task("t1", "web", 1, ""), overlay("full", "full", "10.1.1.0/24"))
	if why := h.why("t1"); !strings.Contains(why.Cause, "just been created") {
		t.Errorf("a fresh task: %+v", why)
	}
}
