package api_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// overlay is a network in the state.
func overlay(id, name, subnet string, options ...func(*state.Network)) *state.Network {
	p := netip.MustParsePrefix(subnet)
	n := &state.Network{VNI: 4100, Pools: []state.Pool{{Subnet: p, Gateway: p.Addr().Next()}}}
	n.ID, n.Spec.Name, n.Spec.Labels = id, name, map[string]string{}
	n.DriverState = swarm.Driver{Name: "overlay", Options: map[string]string{"com.docker.network.driver.overlay.vxlanid_list": "4100"}}
	for _, o := range options {
		o(n)
	}
	return n
}

func ingress(n *state.Network) { n.Spec.Ingress, n.VNI = true, 4096 }

func attachable(n *state.Network) { n.Spec.Attachable = true }

// onNetwork puts a service's tasks on a network.
func onNetwork(id string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: id}}
	}
}

// networked is a cluster with a network in each state of use.
func networked(t *testing.T) *harness {
	web, webRev := statetest.Service("web", 1, onNetwork("front"))
	web.Endpoint.VirtualIPs = []swarm.EndpointVirtualIP{{NetworkID: "front", Addr: "10.0.1.2/24"}}
	shop, shopRev := statetest.Service("shop", 1, func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress"}}}
	})
	shop.Endpoint.Ports = shop.Spec.EndpointSpec.Ports
	on := func(id string, addrs ...string) func(*state.Task) {
		return func(t *state.Task) {
			n := state.TaskNetwork{NetworkID: id}
			for _, a := range addrs {
				n.Addrs = append(n.Addrs, netip.MustParsePrefix(a))
			}
			t.Networks = append(t.Networks, n)
		}
	}
	return newHarness(t, clusterObject(), statetest.Node("n1"), statetest.Node("n2"), web, webRev, shop, shopRev,
		overlay("front", "front", "10.0.1.0/24"), overlay("back", "back", "10.0.2.0/24", attachable), overlay("idle", "idle", "10.0.3.0/24", attachable),
		overlay("old", "old", "10.0.4.0/24"), overlay("oldest", "oldest", "10.0.5.0/24"), overlay("ing", "ingress", "10.0.0.0/24", ingress),
		statetest.Task("t1", "web", 1, "n1", on("front", "10.0.1.3/24")), statetest.Task("t2", "web", 1, "n2", on("old", "10.0.4.3/24")),
		statetest.Task("t3", "web", 1, "n2", on("oldest", "10.0.5.3/24"), statetest.Observed(taskstate.Failed)),
		statetest.Task("t4", "shop", 1, "n2", on("ing"), func(t *state.Task) { t.Status.Addrs = []netip.Addr{netip.MustParseAddr("10.252.1.9")} }),
		&state.Attachment{ID: "a1", NetworkID: "back", NodeID: "n2", Name: "box", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.2.2/24")}})
}

func TestGoldenNetworks(t *testing.T) {
	h := networked(t)
	create := network.CreateRequest{Name: "full", CreateOptions: network.CreateOptions{
		Driver: "overlay", EnableIPv6: new(true), Attachable: true, Internal: true, Labels: map[string]string{"a": "b"},
		Options: map[string]string{"encrypted": "", "com.docker.network.driver.mtu": "1300"},
		IPAM: &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{
			Subnet: "172.20.0.0/16", IPRange: "172.20.8.0/24", Gateway: "172.20.0.9", AuxAddress: map[string]string{"printer": "172.20.8.1"},
		}}},
	}}
	if status, text := h.call("POST", "/networks/create", create); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	for name, path := range map[string]string{
		"network": "/networks/full", "network-verbose": "/networks/front?verbose=true", "network-ingress": "/networks/ingress?verbose=true",
		"networks": `/networks?filters={"name":["^(back|idle)$"]}`, "network-missing": "/networks/nope",
	} {
		_, text := h.call("GET", path, nil)
		golden(t, name, text)
	}
	n := h.store.View().NetworkByName("full")
	if !n.Encrypted || n.MTU != 1300 || n.VNI != 4097 || len(n.Pools) != 2 {
		t.Errorf("stored: encrypted %v, MTU %d, VNI %d, pools %v", n.Encrypted, n.MTU, n.VNI, n.Pools)
	}
}

func TestRepeatedCreateIsOneNetwork(t *testing.T) {
	h := newHarness(t, clusterObject())
	body := network.CreateRequest{Name: "web", CreateOptions: network.CreateOptions{Driver: "overlay"}}
	_, first := h.call("POST", "/networks/create", body, "X-Shoal-Request: r1")
	_, again := h.call("POST", "/networks/create", body, "X-Shoal-Request: r1")
	if first != again || !strings.HasPrefix(first, `{"Id":"`) {
		t.Errorf("first %s, again %s", first, again)
	}
}

func TestNetworkFilters(t *testing.T) {
	h := networked(t)
	for filter, want := range map[string]string{
		`{}`:                            "back front idle ingress old oldest",
		`{"name":["old"]}`:              "old oldest",
		`{"name":["^old$"]}`:            "old",
		`{"id":["idl"]}`:                "idle",
		`{"driver":["overlay"]}`:        "back front idle ingress old oldest",
		`{"driver":["bridge"]}`:         "",
		`{"scope":["swarm"]}`:           "back front idle ingress old oldest",
		`{"scope":["local"]}`:           "",
		`{"type":["builtin"]}`:          "",
		`{"dangling":["true"]}`:         "idle oldest",
		`{"dangling":["false"]}`:        "back front ingress old",
		`{"label":["nope"]}`:            "",
		`{"name":["front","idle"]}`:     "front idle",
		`{"name":["f"],"id":["front"]}`: "front",
	} {
		_, text := h.call("GET", "/networks?filters="+url.QueryEscape(filter), nil)
		var list []network.Summary
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("%s: %v: %s", filter, err, text)
		}
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}

func TestRemoveNetworkNamesItsUsers(t *testing.T) {
	h := networked(t)
	before := h.hash()
	for ref, want := range map[string]string{
		"front":   "rpc error: code = FailedPrecondition desc = network front is in use by service web; network front is used by service web, task web.1.t1",
		"old":     "network old is in use by task t2; network old is used by task web.1.t2",
		"back":    "network back is in use by container a1; network back is used by container box on n2",
		"ingress": "ingress network cannot be removed because service shop depends on it; it is used by service shop, task shop.1.t4",
	} {
		h.refused(ref, "DELETE", "/networks/"+ref, nil, nil, http.StatusBadRequest, want)
	}
	h.refused("unknown", "DELETE", "/networks/nope", nil, nil, http.StatusNotFound, "network nope not found")
	h.refused("ambiguous", "DELETE", "/networks/i", nil, nil, http.StatusBadRequest, "network i is ambiguous (2 matches found)")
	if h.hash() != before {
		t.Error("a refused removal changed the state")
	}
	if status, text := h.call("DELETE", "/networks/idle", nil); status != http.StatusNoContent || text != "" || h.store.View().Network("idle") != nil {
		t.Errorf("remove an unused network: %d %s", status, text)
	}
}

func TestPruneLeavesWhatIsUsed(t *testing.T) {
	h := networked(t)
	h.store.Put(overlay("keep", "keep", "10.0.9.0/24", func(n *state.Network) { n.Spec.Labels = map[string]string{"keep": "me"} }))
	for _, c := range []struct {
		filter filters.Args
		want   []string
	}{
		{filters.NewArgs(filters.Arg("until", "1h")), nil},
		{filters.NewArgs(filters.Arg("label", "keep=you")), nil},
		{filters.NewArgs(filters.Arg("label!", "keep")), []string{"idle", "oldest"}},
		{filters.NewArgs(filters.Arg("label", "keep=me")), []string{"keep"}},
		{filters.NewArgs(), nil},
	} {
		report, err := h.docker.NetworksPrune(t.Context(), c.filter)
		if diff := cmp.Diff(c.want, report.NetworksDeleted); err != nil || diff != "" {
			t.Errorf("prune %v: %v (-want +got):\n%s", c.filter, err, diff)
		}
	}
	for _, name := range []string{"front", "back", "old", "ingress"} {
		if h.store.View().NetworkByName(name) == nil {
			t.Errorf("network %s is gone", name)
		}
	}
}

func TestBadNetworksAreRefused(t *testing.T) {
	h := networked(t)
	before := h.hash()
	named := func(name string) network.CreateRequest {
		return network.CreateRequest{Name: name, CreateOptions: network.CreateOptions{Driver: "overlay"}}
	}
	with := func(change func(*network.CreateRequest)) network.CreateRequest {
		r := named("new")
		change(&r)
		return r
	}
	subnet := func(s string) network.CreateRequest {
		return with(func(r *network.CreateRequest) { r.IPAM = &network.IPAM{Config: []network.IPAMConfig{{Subnet: s}}} })
	}
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		message            string
	}{
		{"bridge", "POST", "/networks/create", named("bridge"), 403, "operation is not permitted on predefined bridge network"},
		{"host", "POST", "/networks/create", named("host"), 403, "operation is not permitted on predefined host network"},
		{"none", "POST", "/networks/create", named("none"), 403, "operation is not permitted on predefined none network"},
		{"the gateway network", "POST", "/networks/create", named("shoal_gw"), 403, "operation is not permitted on predefined shoal_gw network"},
		{"no name", "POST", "/networks/create", named(""), 400, "meta: name must be provided"},
		{"long name", "POST", "/networks/create", named(strings.Repeat("a", 64)), 400, "name must be 63 characters or fewer"},
		{"name", "POST", "/networks/create", named("a b"), 400, "name must be valid as a DNS name component"},
		{"taken", "POST", "/networks/create", named("front"), 409, "network with name front already exists"},
		{"second ingress", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.Ingress = true }), 409, "ingress network (ing) is already present"},
		{"attachable ingress", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.Ingress, r.Attachable = true, true }), 400, "ingress network cannot be attachable"},
		{"predefined label", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.Labels = map[string]string{"com.docker.swarm.predefined": "true"} }), 403, "label com.docker.swarm.predefined is for internally created predefined networks"},
		{"label", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.Labels = map[string]string{"": "x"} }), 400, "a label needs a key"},
		{"no IPv4", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.EnableIPv4 = new(false) }), 400, "IPv4 cannot be disabled in a Swarm scoped network"},
		{"driver", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.Driver, r.Scope = "macvlan", "swarm" }), 501, "Driver macvlan with scope swarm: not supported"},
		{"option", "POST", "/networks/create", with(func(r *network.CreateRequest) { r.Options = map[string]string{"x": "y"} }), 501, "Options x: not supported"},
		{"overlap", "POST", "/networks/create", subnet("10.0.0.0/16"), 400, "subnet 10.0.0.0/16 overlaps with 10.0.2.0/24 of network back"},
		{"mesh", "POST", "/networks/create", subnet("10.254.0.0/24"), 400, "overlaps with 10.252.0.0/14"},
		{"too small", "POST", "/networks/create", subnet("10.7.0.0/30"), 400, "10.7.0.0/30 is too small"},
		{"no subnet", "POST", "/networks/create", subnet("ten"), 400, "invalid subnet ten: invalid CIDR block notation"},
		{"unknown field", "POST", "/networks/create", `{"Name":"x","Colour":"red"}`, 400, `unknown field "Colour"`},
		{"not JSON", "POST", "/networks/create", `{`, 400, "invalid JSON"},
		{"unknown", "GET", "/networks/nope", nil, 404, "network nope not found"},
		{"ambiguous", "GET", "/networks/i", nil, 400, "network i is ambiguous (2 matches found)"},
		{"verbose", "GET", "/networks/front?verbose=perhaps", nil, 400, "invalid value for verbose: perhaps"},
		{"filter", "GET", `/networks?filters={"colour":["red"]}`, nil, 400, "invalid filter 'colour'"},
		{"type filter", "GET", `/networks?filters={"type":["odd"]}`, nil, 400, "invalid filter: 'type'='odd'"},
		{"dangling filter", "GET", `/networks?filters={"dangling":["perhaps"]}`, nil, 400, "invalid filter 'dangling=[perhaps]'"},
		{"prune filter", "POST", `/networks/prune?filters={"name":["x"]}`, nil, 400, "invalid filter 'name'"},
		{"prune until", "POST", `/networks/prune?filters={"until":["soon"]}`, nil, 400, `invalid until filter "soon"`},
		{"prune until twice", "POST", `/networks/prune?filters={"until":["1h","2h"]}`, nil, 400, "more than one until filter specified"},

		{"attach to nothing", "POST", api.AttachmentPath, api.AttachRequest{NodeID: "n1", Name: "c"}, 400, "invalid Network: it is empty"},
		{"attach nowhere", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", Name: "c"}, 400, "invalid NodeID: it is empty"},
		{"attach nobody", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", NodeID: "n1"}, 400, "invalid Name"},
		{"attach to an unknown network", "POST", api.AttachmentPath, api.AttachRequest{Network: "nope", NodeID: "n1", Name: "c"}, 404, "network nope not found"},
		{"attach on an unknown node", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", NodeID: "n9", Name: "c"}, 404, "node n9 not found"},
		{"not attachable", "POST", api.AttachmentPath, api.AttachRequest{Network: "front", NodeID: "n1", Name: "c"}, 403, "Could not attach to network front: rpc error: code = PermissionDenied desc = network front not manually attachable"},
		{"attach to ingress", "POST", api.AttachmentPath, api.AttachRequest{Network: "ingress", NodeID: "n1", Name: "c"}, 403, "network ingress not manually attachable"},
		{"address taken", "POST", api.AttachmentPath, api.AttachRequest{Network: "back", NodeID: "n1", Name: "c", Addr: netip.MustParseAddr("10.0.2.2")}, 400, "address 10.0.2.2 of network back is in use"},
		{"address outside", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", NodeID: "n1", Name: "c", Addr: netip.MustParseAddr("10.9.0.1")}, 400, "address 10.9.0.1 is none of a host in subnet 10.0.3.0/24 of network idle"},
		{"IPv6 address", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", NodeID: "n1", Name: "c", Addr: netip.MustParseAddr("fd00::1")}, 400, "an IPv4 address can be asked for"},
		{"empty alias", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", NodeID: "n1", Name: "c", Aliases: []string{""}}, 400, "invalid Aliases[0]"},
		{"many aliases", "POST", api.AttachmentPath, api.AttachRequest{Network: "idle", NodeID: "n1", Name: "c", Aliases: make([]string, 65)}, 400, "invalid Aliases: 65 of them"},
		{"detach nothing", "DELETE", api.AttachmentPath + "/a9", nil, 404, "attachment a9 not found"},
		{"detach another's", "DELETE", api.AttachmentPath + "/a1?node=n1", nil, 404, "attachment a1 not found"},
	} {
		path, query, _ := strings.Cut(c.path, "?filters=")
		if query != "" {
			path += "?filters=" + url.QueryEscape(query)
		}
		h.refused(c.name, c.method, path, c.body, nil, c.status, c.message)
	}
	if h.hash() != before {
		t.Error("a refused request changed the state")
	}
}

func TestAttachmentsTakeAndGiveBackAddresses(t *testing.T) {
	h := networked(t)
	attach := func(r api.AttachRequest) (a api.Attachment) {
		t.Helper()
		status, text := h.call("POST", api.AttachmentPath, r)
		if err := json.Unmarshal([]byte(text), &a); status != http.StatusCreated || err != nil {
			t.Fatalf("attach: %d %s", status, text)
		}
		return a
	}
	first := attach(api.AttachRequest{Network: "back", NodeID: "n1", Name: "one", Aliases: []string{"uno"}})
	want := api.Attachment{
		NodeID: "n1", Name: "one", NetworkID: "back", Network: "back", VNI: 4100,
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.2.3/24")}, Gateway: netip.MustParseAddr("10.0.2.1"),
	}
	got := first
	got.ID, got.CreatedAt = "", want.CreatedAt
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("attachment (-want +got):\n%s", diff)
	}
	second := attach(api.AttachRequest{Network: "back", NodeID: "n1", Name: "two", Addr: netip.MustParseAddr("10.0.2.77")})
	if second.Addrs[0].Addr().String() != "10.0.2.77" {
		t.Errorf("wish: %v", second.Addrs)
	}
	_, text := h.call("GET", api.AttachmentPath+"?node=n1", nil)
	if !strings.Contains(text, first.ID) || !strings.Contains(text, second.ID) || strings.Contains(text, `"a1"`) {
		t.Errorf("list of n1: %s", text)
	}
	if status, text := h.call("DELETE", api.AttachmentPath+"/"+first.ID+"?node=n1", nil); status != http.StatusOK {
		t.Errorf("detach: %d %s", status, text)
	}
	if third := attach(api.AttachRequest{Network: "back", NodeID: "n1", Name: "three"}); third.Addrs[0] != first.Addrs[0] {
		t.Errorf("after a detach: %v, want %v again", third.Addrs, first.Addrs)
	}
}

func TestRemovingANodeGivesItsAddressesBack(t *testing.T) {
	h := networked(t)
	n := *h.store.View().Node("n2")
	n.Status.State = swarm.NodeStateDown
	h.store.Put(&n)
	if status, text := h.call("DELETE", "/nodes/n2", nil); status != http.StatusOK || h.store.View().Attachment("a1") != nil {
		t.Errorf("remove n2: %d %s, attachment %v", status, text, h.store.View().Attachment("a1"))
	}
}
