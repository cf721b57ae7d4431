package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernel reads and changes what the kernel has.
type kernel struct{}

// dumped repeats a list that the kernel has changed while it was read; what the
// last try has seen must do.
func dumped[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 5
	for i := 1; ; i++ {
		got, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
		if i == tries {
			return got, nil
		}
	}
}

func (kernel) links() (links, error) {
	list, err := dumped(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	all := make(links, len(list))
	for _, l := range list {
		all[l.Attrs().Name] = l
	}
	return all, nil
}

// read returns what there is of ours.
func (k kernel) read(all links) (state, error) {
	s := state{devices: map[string]device{}, bridges: map[string]Bridge{}, entries: set[entry]{}, forwards: set[Forward]{}, neighbours: set[Neighbour]{}, addrs: set[Addr]{}, routes: set[Route]{}, rules: set[Rule]{}}
	names := all.names()
	for name, l := range all {
		if !owned(name) {
			continue
		}
		switch l := l.(type) {
		case *netlink.Vxlan:
			s.devices[name] = k.device(l, names)
		case *netlink.Bridge:
			if l.Attrs().Flags&net.FlagUp != 0 {
				s.bridges[name] = Bridge{Name: name, MTU: l.Attrs().MTU}
			}
		}
	}
	for _, part := range []func(state, links, map[int]string) error{k.readForwards, k.readNeighbours, k.readAddrs, k.readRoutes, k.readRules} {
		if err := part(s, all, names); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (kernel) device(l *netlink.Vxlan, names map[int]string) device {
	a := l.Attrs()
	local, _ := netip.AddrFromSlice(l.SrcAddr)
	d := device{
		vni: uint32(l.VxlanId), local: local.Unmap(), port: l.Port, mtu: a.MTU, mac: a.HardwareAddr.String(), //nolint:gosec // 24 bits
		master: names[a.MasterIndex], up: a.Flags&net.FlagUp != 0,
	}
	if l.Learning || l.VtepDevIndex != 0 || l.Group != nil && !l.Group.IsUnspecified() {
		d.port = 0 // not one that could be put right
	}
	if d.master != "" {
		d.muted = muted(a.Name)
	}
	return d
}

// brport are the settings of a bridge's port that leads to other nodes: nothing
// is learnt from there and nothing flooded to it, the bridge answers instead.
func brport() map[string]string {
	return map[string]string{
		"learning": "0", "unicast_flood": "0", "multicast_flood": "0", "broadcast_flood": "0", "neigh_suppress": "1",
	}
}

func portDir(name string) string { return filepath.Join("/sys/class/net", name, "brport") }

func muted(name string) bool {
	for file, want := range brport() {
		have, err := os.ReadFile(filepath.Join(portDir(name), file))
		if err != nil || strings.TrimSpace(string(have)) != want {
			return false
		}
	}
	return true
}

func mute(name string) error {
	for file, value := range brport() {
		if err := os.WriteFile(filepath.Join(portDir(name), file), []byte(value), 0o644); err != nil { //nolint:gosec // the kernel's own mode holds
			return err
		}
	}
	return nil
}

func (kernel) readForwards(s state, _ links, names map[int]string) error {
	list, err := dumped(func() ([]netlink.Neigh, error) { return netlink.NeighList(0, unix.AF_BRIDGE) })
	if err != nil {
		return fmt.Errorf("list forwarding entries: %w", err)
	}
	for _, n := range list {
		name := names[n.LinkIndex]
		if _, ours := s.devices[name]; !ours || len(n.HardwareAddr) != 6 {
			continue
		}
		mac := [6]byte(n.HardwareAddr)
		switch {
		case n.Flags&netlink.NTF_SELF != 0 && n.IP != nil:
			dst, _ := netip.AddrFromSlice(n.IP)
			s.forwards[Forward{Link: name, MAC: mac, Dst: dst.Unmap()}] = struct{}{}
		case n.MasterIndex != 0 && n.State&netlink.NUD_PERMANENT == 0 && n.Flags&netlink.NTF_SELF == 0:
			s.entries[entry{name, mac}] = struct{}{}
		}
	}
	return nil
}

func (kernel) readNeighbours(s state, _ links, names map[int]string) error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := dumped(func() ([]netlink.Neigh, error) { return netlink.NeighList(0, family) })
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for _, n := range list {
			if name := names[n.LinkIndex]; owned(name) && n.State&netlink.NUD_PERMANENT != 0 && len(n.HardwareAddr) == 6 {
				ip, _ := netip.AddrFromSlice(n.IP)
				s.neighbours[Neighbour{Link: name, IP: ip.Unmap(), MAC: [6]byte(n.HardwareAddr)}] = struct{}{}
			}
		}
	}
	return nil
}

// readAddrs leaves out what others put on our links: the engine's address of a
// bridge, which has the length of the subnet, and IPv6's link-local ones.
func (kernel) readAddrs(s state, all links, names map[int]string) error {
	list, err := dumped(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		name := names[a.LinkIndex]
		ip, ok := netip.AddrFromSlice(a.IP)
		if !owned(name) || !ok {
			continue
		}
		ip = ip.Unmap()
		bits, _ := a.Mask.Size()
		_, bridge := all[name].(*netlink.Bridge)
		if ip.IsLinkLocalUnicast() || bridge && bits != ip.BitLen() {
			continue
		}
		s.addrs[Addr{Link: name, Prefix: netip.PrefixFrom(ip, bits)}] = struct{}{}
	}
	return nil
}

// lastResort is the metric of black holes: any other route wins.
const lastResort = 0x0fffffff

func (kernel) readRoutes(s state, _ links, names map[int]string) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dumped(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			s.routes[routeOf(r, family, names)] = struct{}{}
		}
	}
	return nil
}

func routeOf(r netlink.Route, family int, names map[int]string) Route {
	out := Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if family == netlink.FAMILY_V6 {
		out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		ip, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		out.Dst = netip.PrefixFrom(ip.Unmap(), bits)
	}
	if r.Table != unix.RT_TABLE_MAIN {
		out.Table = r.Table
	}
	if r.Type == unix.RTN_BLACKHOLE {
		out.Blackhole = true
		return out
	}
	out.Link = names[r.LinkIndex]
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Via = via.Unmap()
	}
	return out
}

func (kernel) readRules(s state, _ links, _ map[int]string) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dumped(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for _, r := range list {
			if r.Protocol != Protocol {
				continue
			}
			rule := Rule{Priority: r.Priority, IIF: r.IifName, Mark: r.Mark, V6: family == netlink.FAMILY_V6}
			if r.Mask != nil {
				rule.Mask = *r.Mask
			}
			if r.Goto > 0 {
				rule.Goto = r.Goto
			} else {
				rule.Table = r.Table
			}
			s.rules[rule] = struct{}{}
		}
	}
	return nil
}

// missing reports whether an error says that what was to be removed is not there.
func missing(err error) bool {
	var noLink netlink.LinkNotFoundError
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL) ||
		errors.Is(err, unix.EOPNOTSUPP) || // of a bridge entry, once its bridge has gone
		errors.As(err, &noLink)
}

// setHairpin has a bridge's port of a container send back what it is asked to.
// One that has gone meanwhile needs nothing.
func setHairpin(name string) {
	path := filepath.Join(portDir(name), "hairpin_mode")
	if have, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(have)) != "1" {
		_ = os.WriteFile(path, []byte("1"), 0o644) //nolint:gosec // the kernel's own mode holds
	}
}

// reflectAll is setHairpin for the containers that are there.
func reflectAll(all links) {
	names := all.names()
	for name, l := range all {
		if bridge := names[l.Attrs().MasterIndex]; owned(bridge) && !owned(name) {
			setHairpin(name)
		}
	}
}
