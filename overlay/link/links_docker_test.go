//go:build docker

package link

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// site is what a node on two networks wants: its mesh device without a bridge,
// and a device in the bridge of each network.
func site() Want {
	mac := func(n byte) [6]byte { return [6]byte{0x02, 0x42, 10, 0, 0, n} }
	node := netip.MustParseAddr("192.0.2.2")
	return Want{
		VXLANs: []VXLAN{
			{
				Name: "shoal0", VNI: 4095, Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MTU: 1450,
				MAC: net.HardwareAddr{0x02, 0x73, 0, 0, 0, 1},
			},
			{Name: "shoalx1000", VNI: 4096, Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MTU: 1450, Master: "shoalb1000"},
		},
		Bridges: []Bridge{{Name: "shoalb1000", MTU: 1450}, {Name: "shoal_gw", MTU: 1450}},
		Addrs: []Addr{
			{Link: "shoal0", Prefix: netip.MustParsePrefix("10.252.1.254/32")},
			{Link: "shoal0", Prefix: netip.MustParsePrefix("fd00:1::3/128")},
			{Link: "shoalb1000", Prefix: netip.MustParsePrefix("10.0.1.9/32")},
			{Link: "shoalb1000", Prefix: netip.MustParsePrefix("fd00:2::9/128")},
		},
		Forwards: []Forward{
			{Link: "shoal0", MAC: mac(200), Dst: node},
			{Link: "shoalx1000", MAC: mac(2), Dst: node},
			{Link: "shoalx1000", MAC: mac(3), Dst: netip.MustParseAddr("192.0.2.3")},
		},
		Neighbours: []Neighbour{
			{Link: "shoal0", IP: netip.MustParseAddr("10.252.2.254"), MAC: mac(200)},
			{Link: "shoal0", IP: netip.MustParseAddr("fd00:1:2::3"), MAC: mac(200)},
			{Link: "shoalb1000", IP: netip.MustParseAddr("10.0.1.2"), MAC: mac(2)},
			{Link: "shoalb1000", IP: netip.MustParseAddr("fd00:2::2"), MAC: mac(2)},
			{Link: "shoalb1000", IP: netip.MustParseAddr("10.0.1.3"), MAC: mac(3)},
		},
		Routes: []Route{
			{Dst: netip.MustParsePrefix("10.252.2.0/24"), Link: "shoal0", Via: netip.MustParseAddr("10.252.2.254")},
			{Dst: netip.MustParsePrefix("fd00:1:2::/64"), Link: "shoal0", Via: netip.MustParseAddr("fd00:1:2::3")},
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "shoal0", Via: netip.MustParseAddr("10.252.2.254"), Table: 7002},
			{Dst: netip.MustParsePrefix("::/0"), Link: "shoal0", Via: netip.MustParseAddr("fd00:1:2::3"), Table: 7002},
			{Dst: netip.MustParsePrefix("10.252.0.0/14"), Blackhole: true},
			{Dst: netip.MustParsePrefix("fd00:1::/48"), Blackhole: true},
			{Dst: netip.MustParsePrefix("10.9.0.0/16"), Link: "shoal_gw"},
		},
		Rules: []Rule{
			{Priority: 100, IIF: "shoal_gw", Mark: 2, Mask: 0xff00ffff, Table: 7002, V6: true},
			{Priority: 90, IIF: "shoal0", Goto: 32766},
		},
		Sysctls: []Sysctl{
			{Path: "/proc/sys/net/ipv4/conf/shoal0/rp_filter", Value: "2"},
			{Path: "/proc/sys/net/ipv4/conf/shoal_gw/rp_filter", Value: "2"},
			{Path: "/proc/sys/net/ipv4/ip_forward", Value: "1"},
			{Path: "/proc/sys/net/ipv6/conf/all/forwarding", Value: "1"},
			{Path: "/sys/class/net/shoalb1000/bridge/nf_call_iptables", Value: "1"},
		},
	}
}

// engine makes a bridge as Docker does, with a subnet's address.
func engine(name, addr string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, net.HardwareAddr{0x02, 0x42, 0xaa, 0xbb, 0xcc, byte(len(name))}
	b := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(b); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(b, a)
}

func engines() error {
	return errors.Join(engine("shoalb1000", "10.0.1.1/24"), engine("shoal_gw", "10.252.1.1/24"))
}

// still fails the test unless nothing differs.
func (s *space) still(t *testing.T, l *Links) {
	t.Helper()
	if r := s.audit(t, l); len(r.Repaired) > 0 || len(r.Waiting) > 0 {
		t.Errorf("audit repaired %q, waiting for %q; want nothing", r.Repaired, r.Waiting)
	}
}

// picture reads what there is.
func (s *space) picture(t *testing.T) picture {
	t.Helper()
	var p picture
	s.must(t, func() error {
		k, err := openKernel()
		if err != nil {
			return err
		}
		defer k.close()
		p, _, err = k.read(site().Sysctls)
		return err
	})
	return p
}

func TestApplyBuildsFromNothingAndComesToRest(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	l := s.links(t)
	r := s.apply(t, l, site())
	if len(r.Waiting) > 0 || len(r.Repaired) == 0 {
		t.Errorf("repaired %q, waiting for %q", r.Repaired, r.Waiting)
	}
	if r := s.apply(t, l, site()); r.Compared != 0 || len(r.Repaired) > 0 {
		t.Errorf("second time %+v, want nothing to do", r)
	}
	s.still(t, l)
	if want, _, err := wanted(site(), true); err != nil || len(diff(s.picture(t), want)) > 0 {
		t.Errorf("err %v, left to do %v", err, diff(s.picture(t), want))
	}
	after := s.links(t) // a new life
	if r := s.apply(t, after, site()); len(r.Repaired) > 0 {
		t.Errorf("after a restart repaired %q, want all adopted", r.Repaired)
	}
}

func TestChangesRemoveWhatIsNoLongerWanted(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	l := s.links(t)
	s.apply(t, l, site())
	w := site()
	w.VXLANs[1].Local = netip.MustParseAddr("192.0.2.77") // made anew, with all that is on it
	w.Forwards[1].Dst = netip.MustParseAddr("192.0.2.9")
	w.Forwards = w.Forwards[:2]
	w.Neighbours[2].MAC[5] = 77
	w.Routes[0].Via = netip.MustParseAddr("10.252.2.253")
	w.Routes[1].Via = netip.MustParseAddr("fd00:1:2::4")
	w.Routes = append(w.Routes[:2], w.Routes[3:]...)
	w.Rules[0].Mask = 0xff
	w.Addrs = w.Addrs[1:]
	r := s.apply(t, l, w)
	if len(r.Repaired) > 0 || r.Compared == 0 {
		t.Errorf("change told %+v, want no repairs", r)
	}
	s.still(t, l)
	s.apply(t, l, site())
	s.still(t, l)
	r = s.apply(t, l, Want{})
	if p := s.picture(t); len(r.Waiting) > 0 || p.size()-len(p.bridges)-len(p.sysctls) > 0 {
		t.Errorf("left behind: %+v", p)
	}
}

func TestPurgeLeavesOnlyTheEnginesBridges(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	s.apply(t, s.links(t), site())
	s.must(t, Purge)
	s.must(t, Purge)
	p := s.picture(t)
	if p.size()-len(p.bridges)-len(p.sysctls) > 0 || len(p.bridges) != 2 {
		t.Errorf("left behind: %+v", p)
	}
	s.must(t, func() error {
		link, err := netlink.LinkByName("shoalb1000")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if len(addrs) != 1 {
			t.Errorf("addresses of the engine's bridge: %v", addrs)
		}
		return err
	})
}

func TestBridgesThatAppearLaterAreTakenUp(t *testing.T) {
	s := newSpace(t)
	l := s.links(t)
	r := s.apply(t, l, site())
	want := []string{"bridge shoalb1000 does not exist yet", "bridge shoal_gw does not exist yet"}
	slices.Sort(want)
	slices.Sort(r.Waiting)
	if diff := cmp.Diff(want, r.Waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	if slices.ContainsFunc(s.picture(t).devices, func(d device) bool { return d.Name == "shoalx1000" }) {
		t.Error("the device of a network is there without its bridge")
	}
	s.must(t, func() error { return engine("shoalb1000", "10.0.1.1/24") })
	if r := s.apply(t, l, site()); len(r.Waiting) != 1 || len(r.Repaired) > 0 {
		t.Errorf("with one bridge: %+v", r)
	}
	s.must(t, func() error { return engine("shoal_gw", "10.252.1.1/24") })
	if r := s.audit(t, l); len(r.Waiting) > 0 || len(r.Repaired) > 0 {
		t.Errorf("with both bridges: %+v; nobody has broken anything", r)
	}
	s.still(t, l)
	s.must(t, func() error { // the engine makes its network anew
		link, err := netlink.LinkByName("shoalb1000")
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if r := s.audit(t, l); len(r.Waiting) != 1 {
		t.Errorf("without the bridge: %+v", r)
	}
	s.must(t, func() error { return engine("shoalb1000", "10.0.1.1/24") })
	s.audit(t, l)
	s.still(t, l)
}

func TestLeftoversNeverStandInTheWay(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	s.must(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "shoalxold"
		if err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: 4096, Port: 4789, Learning: true}); err != nil {
			return err
		}
		attrs.Name = "shoal0" // not even a VXLAN
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"})
	})
	l := s.links(t)
	s.apply(t, l, site())
	s.still(t, l)
}

func TestForeignThingsInTheWayAreNamed(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	var foreign netlink.Link
	s.must(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "flannel.1"
		foreign = &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 4096, Port: 4789}
		if err := netlink.LinkAdd(foreign); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		_, dst, _ := net.ParseCIDR("10.252.2.0/24")
		return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK})
	})
	l := s.links(t)
	err := s.in(func() error { _, err := l.Apply(site()); return err })
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "flannel.1") || !strings.Contains(err.Error(), "10.252.2.0/24") {
		t.Fatalf("err %v; want both named", err)
	}
	s.must(t, func() error {
		lo, _ := netlink.LinkByName("lo")
		return errors.Join(netlink.LinkDel(foreign), netlink.LinkSetDown(lo))
	})
	s.apply(t, l, site())
	s.still(t, l)
}

// dying does some steps and then no more.
type dying struct {
	kernel
	left *int
}

func (d dying) do(ops []op) []error {
	n := min(*d.left, len(ops))
	*d.left -= n
	errs := d.kernel.do(ops[:n])
	for range ops[n:] {
		errs = append(errs, errors.New("killed"))
	}
	return errs
}

func TestKilledBetweenAnyTwoStepsTheNextLifeConverges(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	other := site()
	other.VXLANs[0].MTU, other.VXLANs[1].VNI = 1400, 5000
	other.Forwards[0].Dst = netip.MustParseAddr("192.0.2.8")
	other.Neighbours, other.Routes, other.Rules = other.Neighbours[1:], other.Routes[2:], other.Rules[1:]
	for n, done := 0, false; !done; n++ {
		for _, w := range []Want{site(), other} { // from each to the other
			l := s.links(t)
			left := n
			l.open = func() (kernel, error) {
				k, err := openKernel()
				return dying{k, &left}, err
			}
			done = s.in(func() error { _, err := l.Apply(w); return err }) == nil
			l = s.links(t)
			s.apply(t, l, w)
			s.still(t, l)
		}
		if t.Failed() {
			t.Fatalf("after %d steps", n)
		}
	}
}

func TestIPv6SwitchedOffIsSaidOnce(t *testing.T) {
	s := newSpace(t)
	s.must(t, engines)
	s.must(t, func() error {
		return writeSysctl(Sysctl{Path: "/proc/sys/net/ipv6/conf/all/disable_ipv6", Value: "1"})
	})
	l := s.links(t)
	r := s.apply(t, l, site())
	if len(r.Waiting) != 1 || !strings.Contains(r.Waiting[0], "IPv6") {
		t.Errorf("waiting for %q, want a line about IPv6", r.Waiting)
	}
	if r := s.audit(t, l); len(r.Repaired) > 0 {
		t.Errorf("audit repaired %q", r.Repaired)
	}
	s.must(t, func() error {
		return writeSysctl(Sysctl{Path: "/proc/sys/net/ipv6/conf/all/disable_ipv6", Value: "0"})
	})
	s.audit(t, l)
	s.still(t, l)
}

func TestNewWorksInThisNamespace(t *testing.T) {
	s := newSpace(t)
	s.must(t, func() error {
		l, err := New(slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		r, err := l.Audit()
		if r.Compared != 0 || len(r.Repaired) > 0 {
			t.Errorf("audit before anything was asked: %+v", r)
		}
		return err
	})
}
