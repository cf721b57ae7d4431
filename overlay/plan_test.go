package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"shoal/overlay/filter"
	"shoal/overlay/link"
	"shoal/worker/assignment"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// peer is the node n<index> of a mesh, at 192.0.2.<index>.
func peer(index int) assignment.Peer {
	return assignment.Peer{
		NodeID: fmt.Sprintf("n%d", index), Name: fmt.Sprintf("h%d", index), Addr: addr(fmt.Sprintf("192.0.2.%d", index)), Index: index,
		Mesh:      []netip.Prefix{prefix(fmt.Sprintf("10.252.%d.0/24", index)), prefix(fmt.Sprintf("fd00:1:2:%x::/64", index))},
		TunnelKey: slices.Repeat([]byte{byte(index)}, 32),
	}
}

// frontNetwork is a network of two families, VNI 4097.
func frontNetwork() assignment.Network {
	return assignment.Network{ID: "front", Name: "front", VNI: 4097, Pools: []assignment.Pool{
		{Subnet: prefix("10.0.1.0/24"), Gateway: addr("10.0.1.1")}, {Subnet: prefix("fd00:9::/64"), Gateway: addr("fd00:9::1")},
	}}
}

// webFabric is n1 to n3 with a service of two tasks, one on n1 and one on n2, that
// publishes port 8080.
func webFabric() assignment.Known {
	task := func(id, node, a string, mesh ...netip.Addr) assignment.Endpoint {
		return assignment.Endpoint{
			ID: id, ServiceID: "web", NodeID: node, Name: "web.1." + id, Mesh: mesh, Serving: true,
			Networks: []assignment.EndpointNetwork{{NetworkID: "front", Addrs: []netip.Addr{addr("10.0.1." + a), addr("fd00:9::" + a)}}},
		}
	}
	return assignment.Known{}.With(assignment.Fabric{
		Config:   &assignment.FabricConfig{Port: 4789, Pool: prefix("10.252.0.0/14"), Keys: [][]byte{slices.Repeat([]byte{7}, 32)}},
		Peers:    []assignment.Peer{peer(1), peer(2), peer(3)},
		Networks: []assignment.Network{frontNetwork()},
		Services: []assignment.Service{{
			ID: "web", Name: "web", Ports: []assignment.Port{{Protocol: "tcp", Published: 8080, Target: 80}},
			Networks: []assignment.ServiceNetwork{{NetworkID: "front", VIPs: []netip.Addr{addr("10.0.1.2"), addr("fd00:9::2")}}},
		}},
		Endpoints: []assignment.Endpoint{
			task("t1", "n1", "10", addr("10.252.1.2"), addr("fd00:1:2:1::4")), task("t2", "n2", "11", addr("10.252.2.2")),
		},
	})
}

func here() facts { return facts{nodeID: "n1", key: make([]byte, 32), mtu: 1500, v6: true} }

func TestPlanLeadsToEveryEndpointElsewhere(t *testing.T) {
	w := plan(webFabric(), here())
	mac := [6]byte{0x02, 0x42, 10, 0, 1, 11}
	for _, want := range []link.Neighbour{
		{Link: "shoalb1001", IP: addr("10.0.1.11"), MAC: mac},
		{Link: "shoalb1001", IP: addr("fd00:9::11"), MAC: mac},
		{Link: "shoal0", IP: addr("10.252.2.254"), MAC: [6]byte{0x02, 0x5a, 0, 0, 0, 2}},
	} {
		if !slices.Contains(w.link.Neighbours, want) {
			t.Errorf("neighbour %v is missing in %v", want, w.link.Neighbours)
		}
	}
	if want := (link.Forward{Link: "shoalx1001", MAC: mac, Dst: addr("192.0.2.2")}); !slices.Contains(w.link.Forwards, want) {
		t.Errorf("forward %v is missing in %v", want, w.link.Forwards)
	}
	for _, f := range w.link.Forwards {
		if f.Dst == addr("192.0.2.1") {
			t.Errorf("forward %v leads to this node itself", f)
		}
	}
}

func TestPlanAnswersAtServiceAddresses(t *testing.T) {
	w := plan(webFabric(), here())
	for _, vip := range []string{"10.0.1.2/32", "fd00:9::2/128"} {
		if want := (link.Addr{Link: "shoalb1001", Prefix: prefix(vip)}); !slices.Contains(w.link.Addrs, want) {
			t.Errorf("address %v is missing in %v", want, w.link.Addrs)
		}
	}
	wantVIPs := []filter.VIP{
		{Addr: addr("10.0.1.2"), Backends: []netip.Addr{addr("10.0.1.10"), addr("10.0.1.11")}},
		{Addr: addr("fd00:9::2"), Backends: []netip.Addr{addr("fd00:9::10"), addr("fd00:9::11")}},
	}
	if got := fmt.Sprint(w.filter.VIPs); got != fmt.Sprint(wantVIPs) {
		t.Errorf("VIPs %v, want %v", got, wantVIPs)
	}
	wantPorts := []filter.Port{{Protocol: "tcp", Port: 8080, Backends: []netip.AddrPort{
		netip.MustParseAddrPort("10.252.1.2:80"), netip.MustParseAddrPort("[fd00:1:2:1::4]:80"), netip.MustParseAddrPort("10.252.2.2:80"),
	}}}
	if got := fmt.Sprint(w.filter.Ports); got != fmt.Sprint(wantPorts) {
		t.Errorf("ports %v, want %v", got, wantPorts)
	}
}

func TestPlanSendsNothingNewToWhatDoesNotServe(t *testing.T) {
	k := webFabric()
	e := k.Endpoints["t2"]
	e.Serving = false
	w := plan(k.With(assignment.Fabric{Endpoints: []assignment.Endpoint{e}}), here())
	for _, v := range w.filter.VIPs {
		if len(v.Backends) != 1 {
			t.Errorf("%v has backends %v, want the one that serves", v.Addr, v.Backends)
		}
	}
	// Its connections go on: it is known, and reachable.
	if !slices.Contains(w.filter.Known, addr("10.0.1.11")) || len(w.link.Forwards) != 3 {
		t.Errorf("known %v, forwards %v: the endpoint that drains is not among them", w.filter.Known, w.link.Forwards)
	}
}

// TestPlanHasAnAddressOnce: an engine gives the address of a container that has
// ended to the next one, while there is still a record of the first. When that
// goes, the address must not seem to have gone.
func TestPlanHasAnAddressOnce(t *testing.T) {
	k := webFabric()
	heir := k.Endpoints["t1"]
	heir.ID, heir.Networks = "t0", nil
	other := heir
	other.ID, other.NodeID, other.Mesh = "t9", "n2", k.Endpoints["t2"].Mesh
	both := plan(k.With(assignment.Fabric{Endpoints: []assignment.Endpoint{heir, other}}), here()).filter
	alone := plan(k, here()).filter
	if !slices.Equal(both.Known, alone.Known) || !slices.Equal(both.Local, alone.Local) || len(both.Local) == 0 {
		t.Errorf("known %v, local %v, want what two endpoints have: %v, %v", both.Known, both.Local, alone.Known, alone.Local)
	}
	if !slices.IsSortedFunc(both.Known, netip.Addr.Compare) || !slices.IsSortedFunc(both.Local, netip.Addr.Compare) {
		t.Errorf("known %v, local %v: not in order", both.Known, both.Local)
	}
}

func TestPlanLeadsRepliesBackThroughTheNodeTheyCameBy(t *testing.T) {
	w := plan(webFabric(), here())
	route := link.Route{Dst: prefix("0.0.0.0/0"), Link: "shoal0", Via: addr("10.252.3.254"), Table: 9003}
	if !slices.Contains(w.link.Routes, route) {
		t.Errorf("route %v is missing in %v", route, w.link.Routes)
	}
	rule := link.Rule{Priority: 9003, IIF: "shoal_gw", Mark: 0x5a000003, Mask: filter.MarkMask, Table: 9003}
	if !slices.Contains(w.link.Rules, rule) {
		t.Errorf("rule %v is missing in %v", rule, w.link.Rules)
	}
	for _, r := range w.link.Rules {
		if r.Mark != 0 && r.Table != tableBase && r.IIF == "" {
			t.Errorf("rule %v would catch the packet that carries the reply as well", r)
		}
	}
}

func TestPlanKeepsEncryptedNetworksInTheTunnel(t *testing.T) {
	sealed := frontNetwork()
	sealed.Encrypted = true
	k := webFabric().With(assignment.Fabric{Networks: []assignment.Network{sealed}})
	w := plan(k, here())
	if w.tunnel == nil || len(w.tunnel.Peers) != 2 || w.tunnel.MTU != 1420 {
		t.Fatalf("tunnel %+v, want one with two peers", w.tunnel)
	}
	for _, v := range w.link.VXLANs {
		if v.Name == "shoalx1001" && (v.Local != addr("10.252.1.253") || v.Port != SealedPort || v.MTU != 1370) {
			t.Errorf("device %+v is not inside of the tunnel", v)
		}
	}
	if slices.Contains(w.filter.VNIs, 4097) {
		t.Error("frames of the network are taken in the clear")
	}
	if f := w.link.Forwards[len(w.link.Forwards)-1]; f.Dst != addr("10.252.2.253") {
		t.Errorf("forward %v leads past the tunnel", f)
	}
	only := prefix("10.252.2.253/32")
	for _, want := range []link.Route{{Dst: only, Link: TunnelLink}, {Dst: only, Blackhole: true}} {
		if !slices.Contains(w.link.Routes, want) {
			t.Errorf("route %v is missing in %v", want, w.link.Routes)
		}
	}
}

func TestPlanLeavesOutAnEncryptedNetworkThatCannotBe(t *testing.T) {
	sealed := frontNetwork()
	sealed.Encrypted = true
	self := peer(1)
	self.TunnelKey = nil
	w := plan(webFabric().With(assignment.Fabric{Networks: []assignment.Network{sealed}, Peers: []assignment.Peer{self}}), here())
	if w.tunnel != nil || len(w.link.VXLANs) != 1 || len(w.filter.VIPs) != 0 {
		t.Errorf("tunnel %v, devices %v, VIPs %v: want nothing but the mesh", w.tunnel, w.link.VXLANs, w.filter.VIPs)
	}
}

func TestPlanWithoutAPlaceInTheMeshHasNoMesh(t *testing.T) {
	self := peer(1)
	self.Index, self.Mesh = 0, nil
	w := plan(webFabric().With(assignment.Fabric{Peers: []assignment.Peer{self}}), here())
	if len(w.link.Rules) != 0 || len(w.link.VXLANs) != 1 || w.link.VXLANs[0].Name != "shoalx1001" {
		t.Errorf("rules %v, devices %v: want the network's device alone", w.link.Rules, w.link.VXLANs)
	}
}

func TestPlanWithoutIPv6HasNone(t *testing.T) {
	f := here()
	f.v6 = false
	w := plan(webFabric(), f)
	if text := fmt.Sprintf("%v %v %v %v", w.link.Addrs, w.link.Neighbours, w.link.Routes, w.filter.VIPs); strings.Contains(text, "::") {
		t.Errorf("plan has IPv6: %s", text)
	}
}

func TestNamesInTheKernelFit(t *testing.T) {
	const longest = 15
	for _, name := range []string{Bridge(1<<24 - 1), VXLAN(1<<24 - 1), MeshBridge, MeshLink, TunnelLink} {
		if len(name) > longest || !strings.HasPrefix(name, "shoal") {
			t.Errorf("link name %q", name)
		}
	}
}

func TestMeshAddrsAreInTheSubnetAndDiffer(t *testing.T) {
	for _, subnet := range []string{"10.252.7.0/24", "10.252.0.0/28", "fd00:1:2:7::/64"} {
		gateway, tunnel, self := MeshAddrs(prefix(subnet))
		for _, a := range []netip.Addr{gateway, tunnel, self} {
			if !prefix(subnet).Contains(a) {
				t.Errorf("%s: %v is outside", subnet, a)
			}
		}
		if gateway == tunnel || tunnel == self || gateway == self {
			t.Errorf("%s: %v %v %v", subnet, gateway, tunnel, self)
		}
	}
}

// large is a node's fabric of 1,000 services with 10 tasks each, over 100
// networks and 100 nodes.
func large() assignment.Known {
	f := assignment.Fabric{Config: &assignment.FabricConfig{Port: 4789, Pool: prefix("10.252.0.0/14")}}
	for i := 1; i <= 100; i++ {
		f.Peers = append(f.Peers, peer(i))
		f.Networks = append(f.Networks, assignment.Network{
			ID: fmt.Sprintf("net%d", i), Name: fmt.Sprintf("net%d", i), VNI: uint32(4096 + i),
			Pools: []assignment.Pool{{Subnet: prefix(fmt.Sprintf("10.%d.0.0/16", i)), Gateway: addr(fmt.Sprintf("10.%d.0.1", i))}},
		})
	}
	for s := range 1000 {
		network, nth := s%100+1, s/100
		f.Services = append(f.Services, assignment.Service{
			ID: fmt.Sprintf("s%d", s), Name: fmt.Sprintf("svc%d", s), Ports: []assignment.Port{{Protocol: "tcp", Published: uint16(10000 + s), Target: 80}},
			Networks: []assignment.ServiceNetwork{{NetworkID: fmt.Sprintf("net%d", network), VIPs: []netip.Addr{addr(fmt.Sprintf("10.%d.0.%d", network, 2+nth))}}},
		})
		for i := range 10 {
			node := (s*10+i)%100 + 1
			f.Endpoints = append(f.Endpoints, assignment.Endpoint{
				ID: fmt.Sprintf("s%d.%d", s, i), ServiceID: fmt.Sprintf("s%d", s), Slot: i + 1, Name: fmt.Sprintf("svc%d.%d.x", s, i+1), NodeID: fmt.Sprintf("n%d", node), Serving: true,
				Networks: []assignment.EndpointNetwork{{NetworkID: fmt.Sprintf("net%d", network), Addrs: []netip.Addr{addr(fmt.Sprintf("10.%d.%d.%d", network, 1+nth, 10+i))}}},
				Mesh:     []netip.Addr{addr(fmt.Sprintf("10.252.%d.%d", node, 2+(s*10+i)/100))},
			})
		}
	}
	return assignment.Known{}.With(f)
}

func BenchmarkPlan(b *testing.B) {
	k := large()
	for b.Loop() {
		plan(k, here())
	}
}
