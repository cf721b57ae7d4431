package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// change carries one out.
func (k kernel) change(all links, c change) error {
	switch x := c.what.(type) {
	case named:
		return k.changeDevice(all, c.add, x)
	case Bridge:
		return k.setBridge(all, x)
	case Addr:
		return k.changeAddr(all, c.add, x)
	case Forward:
		return k.changeNeigh(all, c.add, x.Link, netlink.Neigh{Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT, IP: x.Dst.AsSlice(), HardwareAddr: x.MAC[:]})
	case entry:
		return k.changeNeigh(all, c.add, x.Link, netlink.Neigh{Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: x.MAC[:]})
	case Neighbour:
		return k.changeNeigh(all, c.add, x.Link, netlink.Neigh{State: netlink.NUD_PERMANENT, IP: x.IP.AsSlice(), HardwareAddr: x.MAC[:]})
	case Route:
		return k.changeRoute(all, c.add, x)
	case Rule:
		return k.changeRule(c.add, x)
	}
	return fmt.Errorf("unknown change %v", c.what)
}

func (k kernel) changeDevice(all links, add bool, d named) error {
	link := all[d.name]
	if link != nil && (!add || !d.fits(link)) {
		if err := netlink.LinkDel(link); err != nil && !missing(err) {
			return err
		}
		delete(all, d.name)
		link = nil
	}
	if !add {
		return nil
	}
	if link == nil {
		if err := k.makeDevice(all, d); err != nil {
			return err
		}
		link = all[d.name]
	}
	return k.setDevice(all, link, d)
}

// fits reports whether a link is the device, but for what can be set.
func (d named) fits(l netlink.Link) bool {
	v, ok := l.(*netlink.Vxlan)
	return ok && d.was != nil && uint32(v.VxlanId) == d.vni && d.was.local == d.local && d.was.port == d.port //nolint:gosec // 24 bits
}

// makeDevice makes a VXLAN device. One of ours that has its number, from an
// earlier life, goes first.
func (kernel) makeDevice(all links, d named) error {
	for name, l := range all {
		other, ok := l.(*netlink.Vxlan)
		if !ok || uint32(other.VxlanId) != d.vni || other.Port != d.port { //nolint:gosec // 24 bits
			continue
		}
		if !owned(name) {
			return fmt.Errorf("VXLAN %d on UDP port %d is %s's, which is not shoal's: remove that device, or give the cluster another port with --data-path-port", d.vni, d.port, name)
		}
		if err := netlink.LinkDel(l); err != nil && !missing(err) {
			return err
		}
		delete(all, name)
	}
	v := &netlink.Vxlan{
		LinkAttrs: netlink.NewLinkAttrs(), VxlanId: int(d.vni), SrcAddr: d.local.AsSlice(), Port: d.port,
		Learning: false, L2miss: false, L3miss: false,
	}
	v.Name, v.MTU = d.name, d.mtu
	if d.mac != "" {
		v.HardwareAddr, _ = net.ParseMAC(d.mac) // it was made from an address
	}
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	made, err := netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	all[d.name] = made
	return nil
}

// setDevice sets what can be set on a device that is there.
func (kernel) setDevice(all links, link netlink.Link, d named) error {
	a := link.Attrs()
	if d.mac != "" && a.HardwareAddr.String() != d.mac {
		mac, _ := net.ParseMAC(d.mac) // it was made from an address
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return err
		}
	}
	if a.MTU != d.mtu {
		if err := netlink.LinkSetMTU(link, d.mtu); err != nil {
			return err
		}
	}
	if d.master != "" {
		master, err := all.index(d.master)
		if err != nil {
			return err
		}
		if a.MasterIndex != master {
			if err := netlink.LinkSetMasterByIndex(link, master); err != nil {
				return err
			}
		}
		if err := mute(d.name); err != nil {
			return err
		}
	} else if a.MasterIndex != 0 {
		if err := netlink.LinkSetNoMaster(link); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func (kernel) setBridge(all links, b Bridge) error {
	link := all[b.Name]
	if link == nil {
		return netlink.LinkNotFoundError{}
	}
	if b.MTU != 0 && link.Attrs().MTU != b.MTU {
		if err := netlink.LinkSetMTU(link, b.MTU); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func (kernel) changeAddr(all links, add bool, a Addr) error {
	link := all[a.Link]
	if link == nil {
		return netlink.LinkNotFoundError{}
	}
	ip := a.Prefix.Addr()
	addr := &netlink.Addr{IPNet: ipNet(a.Prefix)}
	if ip.Is6() {
		addr.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	}
	if !add {
		return netlink.AddrDel(link, addr)
	}
	return netlink.AddrReplace(link, addr)
}

func (kernel) changeNeigh(all links, add bool, name string, n netlink.Neigh) error {
	index, err := all.index(name)
	if err != nil {
		return err
	}
	n.LinkIndex = index
	if !add {
		return netlink.NeighDel(&n)
	}
	return netlink.NeighSet(&n)
}

func (kernel) changeRoute(all links, add bool, r Route) error {
	route := &netlink.Route{Dst: ipNet(r.Dst), Protocol: Protocol, Table: r.Table}
	if r.Table == 0 {
		route.Table = unix.RT_TABLE_MAIN
	}
	if r.Blackhole {
		route.Type, route.Priority = unix.RTN_BLACKHOLE, lastResort
	} else {
		index, err := all.index(r.Link)
		if err != nil {
			return err
		}
		route.LinkIndex, route.Scope = index, netlink.SCOPE_LINK
		if r.Via.IsValid() {
			route.Gw, route.Scope = r.Via.AsSlice(), netlink.SCOPE_UNIVERSE
			route.SetFlag(netlink.FLAG_ONLINK)
		}
	}
	if !add {
		return netlink.RouteDel(route)
	}
	return netlink.RouteReplace(route)
}

func (kernel) changeRule(add bool, r Rule) error {
	rule := netlink.NewRule()
	rule.Priority, rule.IifName, rule.Mark, rule.Protocol = r.Priority, r.IIF, r.Mark, Protocol
	rule.Family = netlink.FAMILY_V4
	if r.V6 {
		rule.Family = netlink.FAMILY_V6
	}
	if r.Mask != 0 {
		rule.Mask = &r.Mask
	}
	if r.Goto != 0 {
		rule.Goto = r.Goto
	} else {
		rule.Table = r.Table
	}
	if !add {
		return netlink.RuleDel(rule)
	}
	if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
