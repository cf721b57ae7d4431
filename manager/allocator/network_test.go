package allocator_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/manager/allocator"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func cluster(change ...func(*state.Cluster)) *state.Cluster {
	c := &state.Cluster{ClusterInfo: swarm.ClusterInfo{ID: "c1"}}
	for _, f := range change {
		f(c)
	}
	return c
}

// request asks for a network with these subnets.
func request(name string, subnets ...string) *network.CreateRequest {
	r := &network.CreateRequest{Name: name, CreateOptions: network.CreateOptions{Driver: "overlay"}}
	if len(subnets) > 0 {
		r.IPAM = &network.IPAM{}
	}
	for _, s := range subnets {
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{Subnet: s})
		if strings.Contains(s, ":") {
			r.EnableIPv6 = new(true)
		}
	}
	return r
}

func made(t testing.TB, v *state.View, id string, r *network.CreateRequest) *state.Network {
	t.Helper()
	n, err := allocator.NewNetwork(v, id, r)
	if err != nil {
		t.Fatalf("network %s: %v", id, err)
	}
	return n
}

func describe(n *state.Network) string {
	text := fmt.Sprint(n.VNI)
	for _, p := range n.Pools {
		text += fmt.Sprintf(" %s via %s", p.Subnet, p.Gateway)
		if p.Range.IsValid() {
			text += fmt.Sprintf(" of %s", p.Range)
		}
		if len(p.Reserved) > 0 {
			text += fmt.Sprintf(" but %v", p.Reserved)
		}
	}
	return text
}

func TestNewNetworkTakesTheLowestThatIsFree(t *testing.T) {
	ingress := &state.Network{VNI: 4096, Pools: []state.Pool{{Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}}
	ingress.ID, ingress.Spec.Name, ingress.Spec.Ingress = "ingress", "ingress", true
	with := func(change func(*network.CreateRequest), subnets ...string) *network.CreateRequest {
		r := request("x", subnets...)
		change(r)
		return r
	}
	small := cluster(func(c *state.Cluster) { c.DefaultAddrPool, c.SubnetSize = []string{"10.9.0.0/28", "10.8.0.0/24"}, 28 })
	meshed := cluster(func(c *state.Cluster) {
		c.DefaultAddrPool, c.MeshPool = []string{"10.0.0.0/14"}, netip.MustParsePrefix("10.0.0.0/15")
	})
	for _, c := range []struct {
		name    string
		cluster *state.Cluster
		others  []*network.CreateRequest
		request *network.CreateRequest
		want    string
	}{
		{"the first", cluster(), nil, request("x"), "4097 10.0.1.0/24 via 10.0.1.1"},
		{"the second", cluster(), []*network.CreateRequest{request("a")}, request("x"), "4098 10.0.2.0/24 via 10.0.2.1"},
		{"around a large one", cluster(), []*network.CreateRequest{request("a"), request("b", "10.0.2.0/23")}, request("x"), "4099 10.0.4.0/24 via 10.0.4.1"},
		{"beside a small one", cluster(), []*network.CreateRequest{request("a", "10.0.1.128/28")}, request("x"), "4098 10.0.2.0/24 via 10.0.2.1"},
		{"a given one", cluster(), nil, request("x", "172.20.0.0/16"), "4097 172.20.0.0/16 via 172.20.0.1"},
		{"from the second pool", small, []*network.CreateRequest{request("a")}, request("x"), "4098 10.8.0.0/28 via 10.8.0.1"},
		{"not from the mesh", meshed, nil, request("x"), "4097 10.2.0.0/24 via 10.2.0.1"},
		{"both families", cluster(), nil, with(func(r *network.CreateRequest) { r.EnableIPv6 = new(true) }), "4097 10.0.1.0/24 via 10.0.1.1 fdd0:f631:ca1d:8000::/64 via fdd0:f631:ca1d:8000::1"},
		{
			"the second of both families", cluster(),
			[]*network.CreateRequest{with(func(r *network.CreateRequest) { r.EnableIPv6 = new(true) })},
			with(func(r *network.CreateRequest) { r.EnableIPv6 = new(true) }), "4098 10.0.2.0/24 via 10.0.2.1 fdd0:f631:ca1d:8001::/64 via fdd0:f631:ca1d:8001::1",
		},
		{"IPv6 given", cluster(), nil, request("x", "2001:db8::/64"), "4097 10.0.1.0/24 via 10.0.1.1 2001:db8::/64 via 2001:db8::1"},
		{"IPv6 given first", cluster(), nil, request("x", "2001:db8::/64", "172.20.0.0/16"), "4097 172.20.0.0/16 via 172.20.0.1 2001:db8::/64 via 2001:db8::1"},
		{"all given", cluster(), nil, with(func(r *network.CreateRequest) {
			r.IPAM.Config[0].IPRange, r.IPAM.Config[0].Gateway = "172.20.1.0/24", "172.20.0.9"
			r.IPAM.Config[0].AuxAddress = map[string]string{"b": "172.20.1.2", "a": "172.20.1.1"}
		}, "172.20.0.0/16"), "4097 172.20.0.0/16 via 172.20.0.9 of 172.20.1.0/24 but [172.20.1.1 172.20.1.2]"},
		{"gateway beside a reserved address", cluster(), nil, with(func(r *network.CreateRequest) {
			r.IPAM.Config[0].AuxAddress = map[string]string{"a": "172.20.0.1"}
		}, "172.20.0.0/16"), "4097 172.20.0.0/16 via 172.20.0.2 but [172.20.0.1]"},
		{"a number", cluster(), nil, with(func(r *network.CreateRequest) { r.Options = map[string]string{allocator.OptionVNI: "5000"} }), "5000 10.0.1.0/24 via 10.0.1.1"},
		{"the smallest", cluster(), nil, request("x", "172.20.0.0/29"), "4097 172.20.0.0/29 via 172.20.0.1"},
	} {
		store := statetest.New(c.cluster, ingress)
		for i, r := range c.others {
			r.Name = fmt.Sprint("other", i)
			store.Put(made(t, store.View(), r.Name, r))
		}
		if got := describe(made(t, store.View(), "new", c.request)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestNewNetworkRefuses(t *testing.T) {
	store := statetest.New(cluster(func(c *state.Cluster) { c.DefaultAddrPool, c.SubnetSize = []string{"10.3.0.0/24"}, 24 }))
	store.Put(made(t, store.View(), "web", request("web")))
	ipam := func(c network.IPAMConfig) func(*network.CreateRequest) {
		return func(r *network.CreateRequest) { r.IPAM = &network.IPAM{Config: []network.IPAMConfig{c}} }
	}
	option := func(key, value string) func(*network.CreateRequest) {
		return func(r *network.CreateRequest) { r.Options = map[string]string{key: value} }
	}
	subnets := func(list ...string) func(*network.CreateRequest) {
		return func(r *network.CreateRequest) {
			r.IPAM, r.EnableIPv6 = request("x", list...).IPAM, request("x", list...).EnableIPv6
		}
	}
	for name, c := range map[string]struct {
		change func(*network.CreateRequest)
		want   string
	}{
		"no pool left":            {func(*network.CreateRequest) {}, "no free subnet of /24 is left in the cluster's address pools 10.3.0.0/24"},
		"overlap":                 {subnets("10.3.0.128/25"), "subnet 10.3.0.128/25 overlaps with 10.3.0.0/24 of network web"},
		"overlap from above":      {subnets("10.0.0.0/8"), "subnet 10.0.0.0/8 overlaps with 10.252.0.0/14, where the nodes' own networks are"},
		"mesh":                    {subnets("10.253.7.0/24"), "overlaps with 10.252.0.0/14"},
		"host bits":               {subnets("10.4.0.1/24"), "invalid network config: invalid subnet 10.4.0.1/24: it should be 10.4.0.0/24"},
		"no CIDR":                 {subnets("10.4.0.0"), "invalid subnet 10.4.0.0: invalid CIDR block notation"},
		"no subnet":               {ipam(network.IPAMConfig{Gateway: "10.4.0.1"}), "invalid subnet : invalid CIDR block notation"},
		"loopback":                {subnets("127.1.0.0/24"), "it must be one of unicast addresses"},
		"multicast":               {subnets("239.0.0.0/24"), "it must be one of unicast addresses"},
		"everything":              {subnets("0.0.0.0/0"), "it must be one of unicast addresses"},
		"link-local":              {subnets("fe80::/64"), "it must be one of unicast addresses"},
		"mapped":                  {subnets("::ffff:10.4.0.0/120"), "it must be one of unicast addresses"},
		"too small":               {subnets("10.4.0.0/30"), "10.4.0.0/30 is too small: beside the gateway and auxiliary addresses it has 1 addresses, and a service needs 2 at least"},
		"one address":             {subnets("10.4.0.0/32"), "invalid gateway"},
		"too small a range":       {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", IPRange: "10.4.0.8/32"}), "10.4.0.8/32 is too small"},
		"range outside":           {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", IPRange: "10.5.0.0/25"}), "parent subnet 10.4.0.0/24 doesn't contain ip-range"},
		"range too large":         {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", IPRange: "10.4.0.0/16"}), "CIDR block is bigger than its parent subnet"},
		"gateway outside":         {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", Gateway: "10.5.0.1"}), "invalid gateway 10.5.0.1: parent subnet 10.4.0.0/24 doesn't contain this address"},
		"gateway is the network":  {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", Gateway: "10.4.0.0"}), "it is no address of a host"},
		"gateway is broadcast":    {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", Gateway: "10.4.0.255"}), "it is no address of a host"},
		"gateway of another kind": {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", Gateway: "fd00::1"}), "parent subnet is an IPv4 block"},
		"auxiliary outside":       {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", AuxAddress: map[string]string{"r": "10.5.0.1"}}), "invalid auxiliary address r"},
		"auxiliary is gateway":    {ipam(network.IPAMConfig{Subnet: "10.4.0.0/24", Gateway: "10.4.0.9", AuxAddress: map[string]string{"r": "10.4.0.9"}}), "it is the gateway of subnet"},
		"two of a family":         {subnets("10.4.0.0/24", "10.5.0.0/24"), "a second subnet of one family, 10.5.0.0/24"},
		"IPv6 not enabled": {
			ipam(network.IPAMConfig{Subnet: "fd00::/64"}),
			"subnet fd00::/64: the network has no IPv6, set EnableIPv6 (--ipv6)",
		},
		"no IPv4":             {func(r *network.CreateRequest) { r.EnableIPv4 = new(false) }, "IPv4 cannot be disabled in a Swarm scoped network"},
		"unknown option":      {option("parent", "eth0"), "Options parent: not supported"},
		"encrypted how":       {option("encrypted", "perhaps"), `invalid option encrypted: "perhaps"`},
		"MTU":                 {option(allocator.OptionMTU, "100"), "allowed are 576 to 65485"},
		"MTU of words":        {option(allocator.OptionMTU, "big"), "allowed are 576 to 65485"},
		"MTU of IPv6":         {func(r *network.CreateRequest) { option(allocator.OptionMTU, "1000")(r); r.EnableIPv6 = new(true) }, "allowed are 1280 to 65485"},
		"VNI of the mesh":     {option(allocator.OptionVNI, "4095"), "4095 is that of the network between the nodes"},
		"VNI too large":       {option(allocator.OptionVNI, "16777216"), "allowed is one number from 1 to 16777215"},
		"VNIs":                {option(allocator.OptionVNI, "4100,4101"), "allowed is one number"},
		"VNI taken":           {func(r *network.CreateRequest) { subnets("10.4.0.0/24")(r); option(allocator.OptionVNI, "4097")(r) }, "VXLAN number 4097 is that of network web"},
		"driver":              {func(r *network.CreateRequest) { r.Driver = "macvlan" }, "Driver macvlan with scope swarm: not supported"},
		"scope":               {func(r *network.CreateRequest) { r.Scope = "local" }, `invalid Scope: "local"`},
		"IPAM driver":         {func(r *network.CreateRequest) { r.IPAM = &network.IPAM{Driver: "dhcp"} }, "IPAM.Driver dhcp: not supported"},
		"IPAM option":         {func(r *network.CreateRequest) { r.IPAM = &network.IPAM{Options: map[string]string{"a": "b"}} }, "IPAM.Options a: not supported"},
		"config only":         {func(r *network.CreateRequest) { r.ConfigOnly = true }, "ConfigOnly (--config-only): not supported"},
		"config from":         {func(r *network.CreateRequest) { r.ConfigFrom = &network.ConfigReference{Network: "x"} }, "ConfigFrom (--config-from): not supported"},
		"attachable ingress":  {func(r *network.CreateRequest) { r.Ingress, r.Attachable = true, true }, "ingress network cannot be attachable"},
		"ingress of a driver": {func(r *network.CreateRequest) { r.Ingress, r.Driver = true, "bridge" }, "only overlay driver is currently supported for ingress network"},
		"encrypted ingress":   {func(r *network.CreateRequest) { option("encrypted", "")(r); r.Ingress = true }, "Options encrypted of an ingress network: not supported"},
	} {
		r := request("x")
		c.change(r)
		_, err := allocator.NewNetwork(store.View(), "id", r)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) && !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotImplemented(err) {
			t.Errorf("%s: an error without a kind: %v", name, err)
		}
	}
}

func TestFreeAddrSkipsWhatIsGiven(t *testing.T) {
	store := statetest.New(cluster())
	r := request("x", "10.4.0.0/29")
	r.IPAM.Config[0].AuxAddress = map[string]string{"r": "10.4.0.3"}
	n := made(t, store.View(), "x", r)
	store.Put(n)
	for i, want := range []string{"10.4.0.2", "10.4.0.4", "10.4.0.5", "10.4.0.6", ""} {
		got, err := allocator.FreeAddr(store.View(), "x", n.Pools[0], netip.Addr{})
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "network x has no free address in 10.4.0.0/29: all 6 are in use") {
				t.Errorf("full: %s, %v", got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("address %d: %s, %v; want %s", i, got, err, want)
		}
		store.Put(&state.Attachment{ID: want, NetworkID: "x", Addrs: []netip.Prefix{netip.PrefixFrom(got, 29)}})
	}
	for wish, want := range map[string]string{"10.4.0.4": "is in use", "10.4.0.1": "is in use", "10.4.0.7": "none of a host", "10.5.0.1": "none of a host"} {
		if got, err := allocator.FreeAddr(store.View(), "x", n.Pools[0], netip.MustParseAddr(wish)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wish %s: %s, %v; want %q", wish, got, err, want)
		}
	}
}

// Whatever is made and removed in which order: numbers and subnets are never
// given twice, and what was removed is given again.
func TestNetworksNeverShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := statetest.New(cluster(func(c *state.Cluster) {
			c.DefaultAddrPool, c.SubnetSize = []string{"10.250.0.0/25", "10.251.0.0/27"}, 28
		}))
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				r := request("n")
				if given := rapid.SampledFrom([]string{"", "", "10.250.0.0/26", "10.250.0.64/29", "10.99.0.0/16", "10.99.1.0/24"}).Draw(t, "subnet"); given != "" {
					r = request("n", given)
				}
				if rapid.Bool().Draw(t, "IPv6") {
					r.EnableIPv6 = new(true)
				}
				n, err := allocator.NewNetwork(store.View(), fmt.Sprint("n", next), r)
				if err == nil {
					next++
					store.Put(n)
				} else if !errdefs.IsFailedPrecondition(err) {
					t.Fatal(err)
				}
			},
			"remove": func(t *rapid.T) {
				store.Apply(state.Delete(state.KindNetwork, fmt.Sprint("n", rapid.IntRange(0, max(next, 1)).Draw(t, "which"))))
			},
			"": func(t *rapid.T) {
				vnis, subnets := map[uint32]bool{}, []netip.Prefix{}
				for n := range store.View().Networks() {
					if vnis[n.VNI] {
						t.Fatalf("number %d twice", n.VNI)
					}
					vnis[n.VNI] = true
					for _, p := range n.Pools {
						for _, other := range subnets {
							if other.Overlaps(p.Subnet) {
								t.Fatalf("%s overlaps with %s", p.Subnet, other)
							}
						}
						subnets = append(subnets, p.Subnet)
					}
				}
			},
		})
		for i := range next {
			store.Apply(state.Delete(state.KindNetwork, fmt.Sprint("n", i)))
		}
		n, err := allocator.NewNetwork(store.View(), "last", request("last"))
		if err != nil || describe(n) != "4097 10.250.0.0/28 via 10.250.0.1" {
			t.Fatalf("after all are gone: %v, %v", n, err)
		}
	})
}

func BenchmarkNewNetwork(b *testing.B) {
	store := statetest.New(cluster())
	for i := range 1000 {
		store.Put(made(b, store.View(), fmt.Sprint("n", i), request("n")))
	}
	v := store.View()
	for b.Loop() {
		made(b, v, "x", request("x"))
	}
}
