package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func lines(ops []op) (out []string) {
	for _, o := range ops {
		out = append(out, o.String())
	}
	return out
}

var (
	nodeA = netip.MustParseAddr("192.0.2.1")
	nodeB = netip.MustParseAddr("192.0.2.2")
)

func vxlan(change func(*device)) device {
	d := VXLAN{Name: "shoalx1", VNI: 1, Local: nodeA, Port: 4789, MTU: 1450, Master: "shoalb1"}.device()
	change(&d)
	return d
}

func TestDiffOfDevices(t *testing.T) {
	want := vxlan(func(*device) {})
	for _, test := range []struct {
		name   string
		change func(*device)
		steps  int // 1: set, 2: made anew
	}{
		{"nothing", func(*device) {}, 0},
		{"another MAC address, which is not asked for", func(d *device) { d.MAC = "02:00:00:00:00:01" }, 0},
		{"mtu", func(d *device) { d.MTU = 1500 }, 1},
		{"no master", func(d *device) { d.Master, d.Flags = "", portFlags{} }, 1},
		{"down", func(d *device) { d.Up = false }, 1},
		{"a flag", func(d *device) { d.Flags.Flood = true }, 1},
		{"another master", func(d *device) { d.Master = "shoalb2" }, 2},
		{"vni", func(d *device) { d.VNI = 2 }, 2},
		{"local", func(d *device) { d.Local = nodeB }, 2},
		{"port", func(d *device) { d.Port = 1 }, 2},
		{"learning", func(d *device) { d.Odd = "learning" }, 2},
		{"kind", func(d *device) { d.Kind = "veth" }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			have := picture{devices: []device{vxlan(test.change)}}
			if ops := diff(have, picture{devices: []device{want}}); len(ops) != test.steps {
				t.Errorf("steps %q, want %d", lines(ops), test.steps)
			}
		})
	}
}

func TestDiffSetsAgainWhatGoesWithADevice(t *testing.T) {
	f := Forward{Link: "shoalx1", MAC: [6]byte{1}, Dst: nodeB}
	n := Neighbour{Link: "shoalx1", IP: nodeB, MAC: [6]byte{1}}
	r := Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: "shoalx1"}.full()
	s := Sysctl{Path: "/proc/sys/net/ipv4/conf/shoalx1/rp_filter", Value: "2"}
	p := picture{
		devices: []device{vxlan(func(*device) {})}, forwards: []forward{{Forward: f}},
		neighbours: []Neighbour{n}, routes: []route{r}, sysctls: []Sysctl{s},
	}
	have := p
	have.devices = []device{vxlan(func(d *device) { d.VNI = 7 })}
	got := lines(diff(have, p))
	if len(got) != 6 || slices.ContainsFunc(got[1:], func(s string) bool { return strings.Contains(s, "not wanted") }) {
		t.Errorf("steps %q; want the device removed, then all set", got)
	}
	have.devices = nil
	if got := lines(diff(have, picture{})); len(got) != 3 { // things on links that are not ours to remove
		t.Errorf("steps %q; want three removals", got)
	}
}

func TestDiffReplacesWhatHasTheSamePlace(t *testing.T) {
	have := picture{
		neighbours: []Neighbour{{Link: "b", IP: nodeA, MAC: [6]byte{1}}},
		routes:     []route{Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: "a"}.full()},
		forwards:   []forward{{Forward: Forward{Link: "x", MAC: [6]byte{1}, Dst: nodeA}, Odd: true}},
		statics:    []static{{Link: "x", MAC: [6]byte{1}, Odd: true}},
	}
	want := picture{
		neighbours: []Neighbour{{Link: "b", IP: nodeA, MAC: [6]byte{2}}},
		routes:     []route{Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: "b"}.full()},
		forwards:   []forward{{Forward: Forward{Link: "x", MAC: [6]byte{1}, Dst: nodeA}}},
		statics:    []static{{Link: "x", MAC: [6]byte{1}}},
	}
	for _, o := range diff(have, want) {
		if o.del || o.have == nil {
			t.Errorf("step %q; want nothing but replacements", o)
		}
	}
}

func TestChangesAreThoseOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lists := rapid.SliceOfN(rapid.IntRange(0, 12), 0, 12)
		old, next := lists.Draw(t, "old"), lists.Draw(t, "next")
		gone, come := changes(old, next)
		set := setOf(old)
		for _, g := range gone {
			if !set[g] {
				t.Fatalf("%d went twice, or was not there", g)
			}
			delete(set, g)
		}
		for _, c := range come {
			set[c] = true
		}
		if diff := cmp.Diff(setOf(next), set); diff != "" {
			t.Fatalf("gone %v, come %v (-want +got):\n%s", gone, come, diff)
		}
	})
}

func TestWantedRefusesWhatReachesBeyond(t *testing.T) {
	bad := map[string]Want{
		"a device with a foreign name": {VXLANs: []VXLAN{{Name: "eth0", Local: nodeA, Port: 1}}},
		"a device with a long name":    {VXLANs: []VXLAN{{Name: "shoal0123456789ab", Local: nodeA, Port: 1}}},
		"a device without an address":  {VXLANs: []VXLAN{{Name: "shoal0", Port: 1}}},
		"a foreign bridge":             {Bridges: []Bridge{{Name: "docker0"}}},
		"an address on a foreign link": {Addrs: []Addr{{Link: "eth0", Prefix: netip.PrefixFrom(nodeA, 32)}}},
		"a route to nowhere":           {Routes: []Route{{Dst: netip.PrefixFrom(nodeA, 32)}}},
		"a way of another family":      {Routes: []Route{{Dst: netip.PrefixFrom(nodeA, 32), Link: "shoal0", Via: netip.MustParseAddr("fd00::1")}}},
		"a rule that goes back":        {Rules: []Rule{{Priority: 100, Goto: 50}}},
	}
	for name, w := range bad {
		if _, _, err := wanted(w, true); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestRulesAndRoutesAreFilledIn(t *testing.T) {
	w := Want{
		Rules:  []Rule{{Priority: 1, Mark: 7, Table: 9, V6: true}},
		Routes: []Route{{Dst: netip.MustParsePrefix("fd00::1/64"), Blackhole: true, Link: "x"}, {Dst: netip.MustParsePrefix("10.1.2.3/8"), Link: "x"}},
	}
	p, dropped, err := wanted(w, true)
	want := picture{
		rules: []rule{
			{Rule: Rule{Priority: 1, Mark: 7, Mask: 0xffffffff, Table: 9}},
			{Rule: Rule{Priority: 1, Mark: 7, Mask: 0xffffffff, Table: 9, V6: true}},
		},
		routes: []route{
			{Route: Route{Dst: netip.MustParsePrefix("fd00::/64"), Table: 254, Blackhole: true}, Metric: lastResort},
			{Route: Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Table: 254, Link: "x"}},
		},
	}
	if fmt.Sprint(p.rules, p.routes) != fmt.Sprint(want.rules, want.routes) || dropped != 0 || err != nil {
		t.Errorf("got %v %v, dropped %d, err %v", p.rules, p.routes, dropped, err)
	}
	if p, dropped, _ := wanted(w, false); dropped != 2 || len(p.rules) != 1 || len(p.routes) != 1 {
		t.Errorf("without IPv6 %v %v, dropped %d", p.rules, p.routes, dropped)
	}
}

func TestFilesAreOnTheirLinks(t *testing.T) {
	for path, link := range map[string]string{
		"/proc/sys/net/ipv4/conf/shoal0/rp_filter":   "shoal0",
		"/proc/sys/net/ipv6/conf/all/forwarding":     "",
		"/proc/sys/net/ipv4/ip_forward":              "",
		"/sys/class/net/shoalb1/bridge/nf_call_arpt": "shoalb1",
	} {
		if got := (Sysctl{Path: path}).on(); got != link {
			t.Errorf("%s is on %q, want %q", path, got, link)
		}
	}
}
