package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shoal/overlay/dns"
	"shoal/worker/assignment"
)

func ips(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func knownOf(networks []assignment.Network, services []assignment.Service, endpoints ...assignment.Endpoint) assignment.Known {
	return assignment.Known{}.With(assignment.Fabric{Full: true, Networks: networks, Services: services, Endpoints: endpoints})
}

func front() assignment.Network {
	return assignment.Network{ID: "n1", Name: "Front", Pools: []assignment.Pool{{Subnet: netip.MustParsePrefix("10.0.1.0/24")}}}
}

func back() assignment.Network {
	return assignment.Network{ID: "n2", Name: "back", Internal: true, Pools: []assignment.Pool{{Subnet: netip.MustParsePrefix("10.0.2.0/24")}}}
}

func web() assignment.Service {
	return assignment.Service{ID: "s1", Name: "shop_web", Stack: "shop", Networks: []assignment.ServiceNetwork{
		{NetworkID: "n1", VIPs: ips("10.0.1.2", "fd00:1::2"), Aliases: []string{"web", "Site"}},
	}}
}

// task is a running task of a service in a slot on a node, with one address.
func task(service string, slot int, node, network, addr string) assignment.Endpoint {
	id := fmt.Sprintf("%s-%d-%s", service, slot, addr)
	return assignment.Endpoint{
		ID: id, ServiceID: service, Slot: slot, Name: "c-" + id, NodeID: node, Serving: true,
		Networks: []assignment.EndpointNetwork{{NetworkID: network, Addrs: ips(addr)}},
	}
}

func with(e assignment.Endpoint, change func(*assignment.Endpoint)) assignment.Endpoint {
	change(&e)
	return e
}

// zonesOf are the zones of a table by name, with addresses as text.
func zonesOf(t *dns.Table) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, c := range t.Clients {
		for _, z := range c.Zones {
			out[z.Network] = map[string]string{}
			for name, addrs := range z.Names {
				out[z.Network][name] = fmt.Sprint(addrs)
			}
			for addr, name := range z.Reverse {
				out[z.Network]["PTR "+addr.String()] = name
			}
		}
	}
	return out
}

func TestNamesOfServicesTasksAndAttachments(t *testing.T) {
	k := knownOf(
		[]assignment.Network{front(), back()},
		[]assignment.Service{web()},
		with(task("s1", 1, "here", "n1", "10.0.1.5"), func(e *assignment.Endpoint) {
			e.Name, e.ContainerID = "shop_web.1.abc", "0123456789ABcdef"
		}),
		with(task("s1", 2, "there", "n1", "10.0.1.6"), func(e *assignment.Endpoint) { e.Name = "shop_web.2.def" }),
		with(task("s1", 2, "there", "n1", "10.0.1.7"), func(e *assignment.Endpoint) { e.Name, e.Serving = "shop_web.2.old", false }),
		with(task("s1", 3, "there", "n1", "10.0.1.8"), func(e *assignment.Endpoint) { e.Name, e.Serving = "shop_web.3.new", false }),
		assignment.Endpoint{ID: "a1", Name: "probe", ContainerID: "fedcba98765432", NodeID: "there", Serving: true, Networks: []assignment.EndpointNetwork{
			{NetworkID: "n1", Addrs: ips("10.0.1.9"), Aliases: []string{"tool"}},
		}},
	)
	want := map[string]map[string]string{"front": {
		"shop_web": "[10.0.1.2 fd00:1::2]", "web": "[10.0.1.2 fd00:1::2]", "site": "[10.0.1.2 fd00:1::2]",
		"web.shop": "[10.0.1.2 fd00:1::2]", "web.shop.svc.shoal": "[10.0.1.2 fd00:1::2]", "shop_web.svc.shoal": "[10.0.1.2 fd00:1::2]",
		"svc.shoal": "[]", "shop.svc.shoal": "[]",
		"tasks.shop_web": "[10.0.1.5 10.0.1.6]", "tasks.web": "[10.0.1.5 10.0.1.6]", "tasks.site": "[10.0.1.5 10.0.1.6]",
		"shop_web.1": "[10.0.1.5]", "shop_web.2": "[10.0.1.6]", "shop_web.3": "[10.0.1.8]",
		"shop_web.1.abc": "[10.0.1.5]", "0123456789ab": "[10.0.1.5]", "0123456789abcdef": "[10.0.1.5]",
		"shop_web.2.def": "[10.0.1.6]", "shop_web.2.old": "[10.0.1.7]", "shop_web.3.new": "[10.0.1.8]",
		"probe": "[10.0.1.9]", "tool": "[10.0.1.9]", "fedcba987654": "[10.0.1.9]", "fedcba98765432": "[10.0.1.9]",
		"PTR 10.0.1.2": "shop_web.Front", "PTR fd00:1::2": "shop_web.Front", "PTR 10.0.1.5": "shop_web.1.abc.Front",
		"PTR 10.0.1.6": "shop_web.2.def.Front", "PTR 10.0.1.7": "shop_web.2.old.Front", "PTR 10.0.1.8": "shop_web.3.new.Front",
		"PTR 10.0.1.9": "probe.Front",
	}}
	table := new(namer).table(k, "here")
	if diff := cmp.Diff(want, zonesOf(table)); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
	if len(table.Clients) != 1 || table.Clients[ips("10.0.1.5")[0]] == nil {
		t.Errorf("clients %v, want the one container of this node", slices.Collect(maps.Keys(table.Clients)))
	}
}

func TestNamesWithoutVIPAreTheTasksThatServe(t *testing.T) {
	rr := assignment.Service{ID: "s2", Name: "db", DNSRR: true, Networks: []assignment.ServiceNetwork{{NetworkID: "n1", Aliases: []string{"store"}}}}
	idle := assignment.Service{ID: "s3", Name: "idle", DNSRR: true, Networks: []assignment.ServiceNetwork{{NetworkID: "n1"}}}
	k := knownOf([]assignment.Network{front()}, []assignment.Service{rr, idle},
		task("s2", 1, "here", "n1", "10.0.1.5"), task("s2", 2, "there", "n1", "10.0.1.4"),
		with(task("s2", 3, "there", "n1", "10.0.1.6"), func(e *assignment.Endpoint) { e.Serving = false }))
	got := zonesOf(new(namer).table(k, "here"))["front"]
	for name, want := range map[string]string{
		"db": "[10.0.1.4 10.0.1.5]", "store": "[10.0.1.4 10.0.1.5]", "tasks.db": "[10.0.1.4 10.0.1.5]", "tasks.store": "[10.0.1.4 10.0.1.5]",
		"idle": "[]", "tasks.idle": "[]",
	} {
		if addrs, ok := got[name]; !ok || addrs != want {
			t.Errorf("%s: %q, want %s", name, addrs, want)
		}
	}
}

func TestClashingNamesBelongToServicesThenAliases(t *testing.T) {
	on := func(vip string, aliases ...string) []assignment.ServiceNetwork {
		return []assignment.ServiceNetwork{{NetworkID: "n1", VIPs: ips(vip), Aliases: aliases}}
	}
	services := []assignment.Service{
		{ID: "s1", Name: "a", Networks: on("10.0.1.10", "b", "both")},
		{ID: "s2", Name: "b", Networks: on("10.0.1.20", "both", "c")},
	}
	container := func(id, name, addr string) assignment.Endpoint {
		return assignment.Endpoint{ID: id, Name: name, NodeID: "here", Networks: []assignment.EndpointNetwork{{NetworkID: "n1", Addrs: ips(addr)}}}
	}
	k := knownOf([]assignment.Network{front()}, services,
		container("e1", "a", "10.0.1.101"), container("e2", "c", "10.0.1.102"),
		container("e3", "twin", "10.0.1.103"), container("e4", "twin", "10.0.1.104"))
	got := zonesOf(new(namer).table(k, "here"))["front"]
	for name, want := range map[string]string{
		"a": "[10.0.1.10]", "b": "[10.0.1.20]", "c": "[10.0.1.20]", "both": "[10.0.1.10 10.0.1.20]", "twin": "[10.0.1.103 10.0.1.104]",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	if addrs := k.Services["s1"].Networks[0].VIPs; len(addrs) != 1 || addrs[0] != ips("10.0.1.10")[0] {
		t.Errorf("what is known was written to: %v", addrs)
	}
}

func TestClientsSeeTheirNetworksAlone(t *testing.T) {
	both := with(task("s1", 1, "here", "n2", "10.0.2.5"), func(e *assignment.Endpoint) {
		e.Networks = append(e.Networks, assignment.EndpointNetwork{NetworkID: "n1", Addrs: ips("10.0.1.5", "fd00:1::5")})
		e.Mesh = ips("10.252.1.5")
	})
	k := knownOf([]assignment.Network{front(), back(), {ID: "n3", Name: "elsewhere"}}, []assignment.Service{web()}, both,
		task("s1", 2, "here", "n2", "10.0.2.6"), task("s1", 3, "there", "n3", "10.0.3.6"),
		with(task("s1", 4, "here", "n2", "10.0.2.7"), func(e *assignment.Endpoint) { e.Mesh = ips("10.252.1.7") }),
		task("s1", 5, "here", "n9", "10.0.9.5"), // its network is not known yet
		with(task("s1", 6, "here", "ingress", "10.0.8.5"), func(e *assignment.Endpoint) { e.Networks, e.Mesh = nil, ips("10.252.1.8") }),
	)
	table := new(namer).table(k, "here")
	got := map[string]string{}
	for addr, c := range table.Clients {
		text := ""
		for _, z := range c.Zones {
			text += z.Network + " "
		}
		got[addr.String()] = fmt.Sprintf("%sno forward: %v", text, c.NoForward)
	}
	want := map[string]string{
		"10.0.1.5": "front back no forward: false", "fd00:1::5": "front back no forward: false",
		"10.0.2.5": "front back no forward: false", "10.252.1.5": "front back no forward: false",
		"10.0.2.6": "back no forward: true", "10.0.2.7": "back no forward: false", "10.252.1.7": "back no forward: false",
		"10.0.9.5": "no forward: true", "10.252.1.8": "no forward: false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
	if got := table.Clients[ips("10.0.1.5")[0]].Zones[0].Subnets; len(got) != 1 || got[0].String() != "10.0.1.0/24" {
		t.Errorf("subnets %v", got)
	}
}

// fabric has services spread over networks, with ten tasks each, one in ten
// on the node "here", and n networks in all.
func fabric(services, networks int) assignment.Known {
	f := assignment.Fabric{Full: true}
	for n := range networks {
		f.Networks = append(f.Networks, assignment.Network{
			ID: fmt.Sprintf("n%d", n), Name: fmt.Sprintf("network-%d", n),
			Pools: []assignment.Pool{{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 0}), 16)}},
		})
	}
	addr := func(n, i int) []netip.Addr {
		return []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n), byte(i >> 8), byte(i)})}
	}
	for s := range services {
		n := s % networks
		id, network := fmt.Sprintf("service%d", s), fmt.Sprintf("n%d", n)
		f.Services = append(f.Services, assignment.Service{
			ID: id, Name: fmt.Sprintf("stack-%d_app-%d", s%50, s), Stack: fmt.Sprintf("stack-%d", s%50),
			Networks: []assignment.ServiceNetwork{{NetworkID: network, VIPs: addr(n, 10_000+s), Aliases: []string{fmt.Sprintf("app-%d", s)}}},
		})
		for slot := range 10 {
			i := s*10 + slot
			f.Endpoints = append(f.Endpoints, assignment.Endpoint{
				ID: fmt.Sprintf("task%021d", i), ServiceID: id, Slot: slot + 1, NodeID: []string{"here", "there"}[min(slot, 1)],
				Name: fmt.Sprintf("stack-%d_app-%d.%d.task%021d", s%50, s, slot+1, i), ContainerID: fmt.Sprintf("%012x%052d", i, i),
				Serving: slot != 9, Networks: []assignment.EndpointNetwork{{NetworkID: network, Addrs: addr(n, i)}},
			})
		}
	}
	return assignment.Known{}.With(f)
}

// changes are all kinds of what can become of a fabric.
func changes() []assignment.Fabric {
	k := fabric(20, 4)
	e, s, n := k.Endpoints[fmt.Sprintf("task%021d", 7)], k.Services["service2"], k.Networks["n1"]
	stopped, moved, renamed, grown := e, e, n, s
	stopped.Serving = false
	moved.ID, moved.Networks = "moved", []assignment.EndpointNetwork{{NetworkID: "n3", Addrs: ips("10.3.9.9")}}
	renamed.Name = "other"
	grown.Name, grown.Networks = "grown", append(slices.Clone(s.Networks), assignment.ServiceNetwork{NetworkID: "n0", VIPs: ips("10.0.9.9")})
	return []assignment.Fabric{
		{},
		{Endpoints: []assignment.Endpoint{stopped}},
		{Endpoints: []assignment.Endpoint{moved}, Gone: &assignment.Gone{Endpoints: []string{e.ID}}},
		{Networks: []assignment.Network{renamed}},
		{Services: []assignment.Service{grown}},
		{Gone: &assignment.Gone{Services: []string{"service3"}}},
		{Gone: &assignment.Gone{Networks: []string{"n2"}}},
		{Networks: []assignment.Network{k.Networks["n2"]}},
		{Full: true},
	}
}

func TestRememberedNamesAreThoseMadeAnew(t *testing.T) {
	k, n := fabric(20, 4), new(namer)
	n.table(k, "here")
	for i, change := range changes() {
		k = k.With(change)
		if diff := cmp.Diff(new(namer).table(k, "here"), n.table(k, "here"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("change %d (-anew +remembered):\n%s", i, diff)
		}
	}
}

func TestOneChangeMakesOneZoneAnew(t *testing.T) {
	k, n := fabric(20, 4), new(namer)
	n.table(k, "here")
	before := maps.Clone(n.zones)
	n.table(k.With(changes()[1]), "here")
	for id, z := range n.zones {
		if anew := before[id] != z; anew != (id == "n0") {
			t.Errorf("zone of %s made anew: %v", id, anew)
		}
	}
}

func BenchmarkNames(b *testing.B) {
	k := fabric(1000, 100)
	for b.Loop() {
		new(namer).table(k, "here")
	}
}

func BenchmarkNamesAfterOneChange(b *testing.B) {
	k, n := fabric(1000, 100), new(namer)
	n.table(k, "here")
	e := k.Endpoints[fmt.Sprintf("task%021d", 70)]
	for b.Loop() {
		e.Serving = !e.Serving
		b.StopTimer()
		k = k.With(assignment.Fabric{Endpoints: []assignment.Endpoint{e}})
		b.StartTimer()
		n.table(k, "here")
	}
}
