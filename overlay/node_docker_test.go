//go:build docker

package overlay

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"shoal/worker/assignment"
)

// A big cluster: what its nodes have to be able to keep up with.
const (
	bigNodes    = 20
	bigNetworks = 100
	bigServices = 1000 // a tenth of which publish a port
	bigTasks    = 10   // of each
)

// bigFabric is that cluster.
func bigFabric() assignment.Known {
	f := assignment.Fabric{Config: &assignment.FabricConfig{Port: DefaultPort, Pool: prefix("10.252.0.0/14")}}
	for i := range bigNodes {
		f.Peers = append(f.Peers, peer(i+1))
	}
	for i := range bigNetworks {
		f.Networks = append(f.Networks, assignment.Network{ID: fmt.Sprintf("net%03d", i), Name: fmt.Sprintf("net%d", i), VNI: uint32(4097 + i), Pools: []assignment.Pool{
			{Subnet: prefix(fmt.Sprintf("10.%d.0.0/16", i)), Gateway: addr(fmt.Sprintf("10.%d.0.1", i))},
		}})
	}
	for i := range bigServices {
		network, nth := i%bigNetworks, i/bigNetworks
		s := assignment.Service{ID: fmt.Sprintf("svc%04d", i), Name: fmt.Sprintf("app%d_web", i), Stack: fmt.Sprintf("app%d", i), Networks: []assignment.ServiceNetwork{
			{NetworkID: f.Networks[network].ID, VIPs: []netip.Addr{bigAddr(network, 1, nth)}, Aliases: []string{"web"}},
		}}
		if nth == 0 {
			s.Ports = []assignment.Port{{Protocol: "tcp", Published: uint16(20000 + i), Target: 80}}
		}
		f.Services = append(f.Services, s)
		for n := range bigTasks {
			f.Endpoints = append(f.Endpoints, bigTask(s, n, bigAddr(network, 2, nth*bigTasks+n), len(f.Endpoints)))
		}
	}
	return assignment.Known{}.With(f)
}

func bigAddr(network, block, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(network), byte(block), byte(n)})
}

// bigTask is the number-th task of all.
func bigTask(s assignment.Service, slot int, a netip.Addr, number int) assignment.Endpoint {
	id, node := fmt.Sprintf("task%05d", number*7919%100000), 1+number%bigNodes
	return assignment.Endpoint{
		ID: id, ServiceID: s.ID, Slot: slot + 1, Name: fmt.Sprintf("%s.%d.%s", s.Name, slot+1, id), ContainerID: fmt.Sprintf("%064x", number),
		NodeID: fmt.Sprintf("n%d", node), Serving: true,
		Networks: []assignment.EndpointNetwork{{NetworkID: s.Networks[0].NetworkID, Addrs: []netip.Addr{a}}},
		Mesh:     []netip.Addr{netip.AddrFrom4([4]byte{10, 252 + byte(number/bigNodes/200), byte(node), byte(2 + number/bigNodes%200)})},
	}
}

// bigHost is a host with what the engine would have made.
func bigHost(b *testing.B, k assignment.Known) {
	b.Helper()
	inNamespace(b)
	names := []string{"up0", MeshBridge}
	for _, n := range k.Networks {
		names = append(names, Bridge(n.VNI))
	}
	for _, name := range names {
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		bridge.Name = name
		if err := netlink.LinkAdd(bridge); err != nil {
			b.Fatal(err)
		}
		if err := netlink.LinkSetUp(bridge); err != nil {
			b.Fatal(err)
		}
	}
	run(b, "ip addr add 192.0.2.1/24 dev up0")
}

// round is parts.apply with the time that each part takes added to spent.
func round(b *testing.B, p *parts, k assignment.Known, spent map[string]time.Duration) {
	b.Helper()
	began := time.Now()
	lap := func(part string, err error) {
		if err != nil {
			b.Fatalf("%s: %v", part, err)
		}
		spent[part] += time.Since(began)
		began = time.Now()
	}
	var f finding
	at := facts{nodeID: p.cfg.NodeID, key: p.cfg.TunnelKey, mtu: UnderlayMTU(k.Peers[p.cfg.NodeID].Addr), v6: HasIPv6(), routers: routerLinks()}
	lap("facts", nil)
	w := plan(k, at)
	lap("plan", nil)
	guard := guarding(p.last, w.filter)
	if !p.began {
		guard = w.filter
	}
	if !reflect.DeepEqual(guard, p.last) {
		lap("filter", p.setFilter(guard, &f))
	}
	lap("links", p.setLinks(w.link, &f))
	resolver, err := p.listen(k)
	w.filter.Resolver = resolver
	p.names.Set(p.namer.table(k, p.cfg.NodeID))
	lap("names", err)
	lap("filter", p.setFilter(w.filter, &f))
	if len(f.waiting) > 0 {
		b.Fatalf("%d things wait, as %s", len(f.waiting), f.waiting[0])
	}
}

// BenchmarkNode sets a node of the big cluster up from nothing, and then replaces
// the address of one task again and again.
func BenchmarkNode(b *testing.B) {
	before := bigFabric()
	bigHost(b, before)
	p, err := newParts(Config{NodeID: "n1", TunnelKey: make([]byte, 32), Log: slog.Default()})
	if err != nil {
		b.Fatal(err)
	}
	defer p.close(p.cfg.Log)
	rebuild := map[string]time.Duration{}
	round(b, p, before, rebuild)
	moved := before.Endpoints["task07919"]
	moved.Networks = slices.Clone(moved.Networks)
	moved.Networks[0].Addrs = []netip.Addr{bigAddr(0, 3, 1)}
	after := before.With(assignment.Fabric{Endpoints: []assignment.Endpoint{moved}})
	change := map[string]time.Duration{}
	for i := 0; b.Loop(); i++ {
		round(b, p, []assignment.Known{after, before}[i%2], change)
	}
	report(b, "rebuild", rebuild, 1)
	report(b, "change", change, b.N)
	began := time.Now()
	f, err := p.audit()
	if err != nil || len(f.repaired) > 0 {
		b.Errorf("audit: err %v, repaired %d, as %q", err, len(f.repaired), f.repaired[:min(3, len(f.repaired))])
	}
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/audit")
}

// report tells what a round has cost, in all and by part.
func report(b *testing.B, what string, spent map[string]time.Duration, rounds int) {
	b.Helper()
	var all time.Duration
	for part, took := range spent {
		all += took
		b.ReportMetric(took.Seconds()*1000/float64(rounds), "ms/"+what+"-"+part)
	}
	b.ReportMetric(all.Seconds()*1000/float64(rounds), "ms/"+what)
}
