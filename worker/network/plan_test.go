package network

import (
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"shoal/worker/assignment"
	"shoal/worker/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs() cmp.Option { return cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}) }

func TestMTUFitsTheUnderlay(t *testing.T) {
	for _, c := range []struct {
		underlay  int
		addr      string
		encrypted bool
		want      int
	}{
		{1500, "192.0.2.1", false, 1450},
		{1500, "192.0.2.1", true, 1370},
		{9000, "192.0.2.1", false, 1450}, // as on all nodes, whatever theirs is
		{9000, "192.0.2.1", true, 1450},
		{1400, "192.0.2.1", false, 1350},
		{1400, "192.0.2.1", true, 1270},
		{1500, "2001:db8::1", false, 1430},
		{1500, "2001:db8::1", true, 1370},
	} {
		if got := fit(c.underlay, addr(c.addr), c.encrypted); got != c.want {
			t.Errorf("over %d from %s, encrypted %v: %d, want %d", c.underlay, c.addr, c.encrypted, got, c.want)
		}
	}
}

func TestSpecOfANetwork(t *testing.T) {
	n := internal()
	n.Labels = map[string]string{"a": "b", NetworkLabel: "forged", AttachableLabel: "true"}
	want := engine.NetworkSpec{
		Name: "db", Bridge: "shoalb1002", Internal: true, MTU: 1450,
		Labels: map[string]string{"a": "b", ClusterLabel: testCluster, NetworkLabel: n.ID, AttachableLabel: "false", InternalLabel: "true"},
		Subnets: []engine.Subnet{
			{Prefix: prefix("10.0.2.0/24"), Gateway: addr("10.0.2.1"), Range: prefix("10.0.2.1/32")},
			{Prefix: prefix("fd00:2::/64"), Gateway: addr("fd00:2::1"), Range: prefix("fd00:2::1/128")},
		},
	}
	if diff := cmp.Diff(want, networkSpec(n, testCluster, 1450, true), addrs()); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	want.Subnets, want.MTU, n.MTU = want.Subnets[:1], 1300, 1300
	if diff := cmp.Diff(want, networkSpec(n, testCluster, 1450, false), addrs()); diff != "" {
		t.Errorf("spec without IPv6 (-want +got):\n%s", diff)
	}
	if n.Labels[NetworkLabel] != "forged" {
		t.Error("the labels of the network were changed")
	}
}

func TestSpecOfTheGatewayNetwork(t *testing.T) {
	want := engine.NetworkSpec{
		Name: "shoal_gw", Bridge: "shoal_gw", MTU: 1450, Labels: map[string]string{ClusterLabel: testCluster},
		Subnets: []engine.Subnet{
			{Prefix: prefix("10.252.1.0/24"), Gateway: addr("10.252.1.1"), Reserved: []netip.Addr{addr("10.252.1.253"), addr("10.252.1.254")}},
			{Prefix: prefix("fd00:1::/64"), Gateway: addr("fd00:1::1"), Reserved: []netip.Addr{addr("fd00:1::2"), addr("fd00:1::3")}},
		},
	}
	if diff := cmp.Diff(want, gatewaySpec(self(), testCluster, 1450, true), addrs()); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestWhoIsOnTheGatewayNetwork(t *testing.T) {
	k := assignment.Known{}.With(*fabric(web(), internal()))
	published := task(internal())
	published.Networks = append(published.Networks, assignment.TaskNetwork{NetworkID: "in", Ingress: true})
	host := task(internal())
	host.Spec = &assignment.Spec{HostPorts: make([]swarm.PortConfig, 1)}
	for name, c := range map[string]struct {
		task assignment.Task
		want bool
	}{
		"internal only": {task(internal()), false}, "one that is not": {task(internal(), web()), true},
		"published": {published, true}, "host port": {host, true},
	} {
		if got := needsGateway(c.task, k); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
