//go:build docker

package filter

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// engineRules are those of an engine, as far as they matter here.
func (y *yard) engineRules() {
	for _, rule := range []string{"-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", "-A FORWARD -i shoal_gw -j ACCEPT", "-P FORWARD DROP"} {
		y.run("iptables " + rule)
	}
}

func TestDamageIsFoundAndRepaired(t *testing.T) {
	y := newYard(t)
	y.serve("b1", "80")
	y.serve("b2", "80")
	y.engineRules()
	f := newFilter(t)
	apply(t, f, both())
	audit := func(what string, clean bool) {
		t.Helper()
		r, err := f.Audit()
		if err != nil || (len(r.Repaired) == 0) != clean {
			t.Errorf("audit %s: err %v, repaired %q", what, err, r.Repaired)
		}
	}
	audit("at the beginning", true)
	for _, damage := range []string{
		"nft flush ruleset", "nft delete table inet shoal", "nft flush chain inet shoal backends", "nft flush table inet shoal",
		"nft delete element inet shoal ports { tcp . 8080 }", "nft add element inet shoal peers4 { 203.0.113.1 }",
		"nft add rule inet shoal backends drop", "nft flush chain inet shoal port-tcp-8080", "nft add chain inet shoal extra",
		"nft delete table inet shoal_zones", "nft flush chain inet shoal_zones zones", "nft add rule inet shoal_zones zones accept",
		"nft flush map inet shoal_zones zone",
	} {
		y.run(damage)
		audit("after "+damage, false)
		audit("again after "+damage, true)
		if damage == "nft flush ruleset" {
			y.engineRules()
			audit("of the engine's chain that is new", false)
		}
	}
	y.run("iptables -D DOCKER-USER 1")
	y.run("iptables -I DOCKER-USER -i shoal_other -j ACCEPT")
	audit("after a rule of the engine's chain was changed", false)
	audit("again after that", true)
	y.run("iptables -F DOCKER-USER")
	audit("after a flush of the engine's chain", false)
	listing := y.run("iptables -nvL DOCKER-USER")
	for _, rule := range []string{"shoal0", "shoal_gw", "ctstate RELATED,ESTABLISHED"} {
		if !strings.Contains(listing, rule) {
			t.Errorf("iptables does not list %s:\n%s", rule, listing)
		}
	}
	if backends, _ := y.asks("out", "192.0.2.1:8080", 24); len(backends) != 2 {
		t.Errorf("with the engine's policy to drop: answered by %v", backends)
	}
	y.run("nft add table ip other") // nobody's business
	audit("after a table of somebody else", true)
	if err := Purge(); err != nil {
		t.Fatal(err)
	}
	if left := y.run("nft list tables") + y.run("iptables -S DOCKER-USER"); strings.Contains(left, "shoal") {
		t.Errorf("purge leaves\n%s", left)
	}
}

// TestZonesStandWhateverIsMadeAnew: without the rule for a moment, connections
// that are open would be reset.
func TestZonesStandWhateverIsMadeAnew(t *testing.T) {
	y := newYard(t)
	apply(t, newFilter(t), both())
	if zones := y.run("nft list chain inet shoal_zones zones"); !strings.Contains(zones, "ct original zone set @ll,48,48 map @zone") {
		t.Errorf("the rule is not there:\n%s", zones)
	}
	y.run("nft add chain inet shoal_zones old") // a table that is made anew is without it
	f := newFilter(t)                           // another daemon
	w := both()
	w.Marks = append(w.Marks, Mark{MAC: net.HardwareAddr{2, 0x5a, 0, 0, 0, 3}, Mark: 0x5a000003})
	apply(t, f, w)
	w.Homes = []Home{{Addr: netip.MustParseAddr("192.0.2.2"), Mesh: netip.MustParsePrefix("10.252.2.0/24")}}
	w.Marks = w.Marks[1:]
	apply(t, f, w)
	if !strings.Contains(y.run("nft list chains inet"), "chain old") {
		t.Error("the table was made anew")
	}
	if zones := y.run("nft list map inet shoal_zones zone"); !strings.Contains(zones, "02:5a:00:00:00:03 :") || strings.Contains(zones, "02:5a:00:00:00:02 :") {
		t.Errorf("zones are\n%s", zones)
	}
}
