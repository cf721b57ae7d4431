package link

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// message is what asks the kernel for a change of anything but a link. What is
// added replaces what has the same key.
func message(all links, c change) (*nl.NetlinkRequest, error) {
	switch x := c.what.(type) {
	case Addr:
		return addrMessage(all, c.add, x)
	case Forward:
		return neighMessage(all, c.add, x.Link, netlink.Ndmsg{Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT}, x.Dst, x.MAC)
	case entry:
		return neighMessage(all, c.add, x.Link, netlink.Ndmsg{Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP}, netip.Addr{}, x.MAC)
	case Neighbour:
		return neighMessage(all, c.add, x.Link, netlink.Ndmsg{Family: family(x.IP), State: netlink.NUD_PERMANENT}, x.IP, x.MAC)
	case Route:
		return routeMessage(all, c.add, x)
	case Rule:
		return ruleMessage(c.add, x), nil
	}
	return nil, fmt.Errorf("unknown change %v", c.what)
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// request begins a message of one of two types.
func request(add bool, adds, removes int) *nl.NetlinkRequest {
	if add {
		return nl.NewNetlinkRequest(adds, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	}
	return nl.NewNetlinkRequest(removes, 0)
}

func addrMessage(all links, add bool, a Addr) (*nl.NetlinkRequest, error) {
	index, err := all.index(a.Link)
	if err != nil {
		return nil, err
	}
	ip := a.Prefix.Addr()
	head := nl.NewIfAddrmsg(int(family(ip)))
	head.Index, head.Prefixlen = uint32(index), uint8(a.Prefix.Bits()) //nolint:gosec // in range
	m := request(add, unix.RTM_NEWADDR, unix.RTM_DELADDR)
	m.AddData(head)
	m.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip.AsSlice()))
	m.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip.AsSlice()))
	if ip.Is6() {
		m.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)))
	}
	return m, nil
}

func neighMessage(all links, add bool, link string, head netlink.Ndmsg, dst netip.Addr, mac [6]byte) (*nl.NetlinkRequest, error) {
	index, err := all.index(link)
	if err != nil {
		return nil, err
	}
	head.Index = uint32(index) //nolint:gosec // in range
	m := request(add, unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH)
	m.AddData(&head)
	if dst.IsValid() {
		m.AddData(nl.NewRtAttr(netlink.NDA_DST, dst.AsSlice()))
	}
	m.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, mac[:]))
	return m, nil
}

func routeMessage(all links, add bool, r Route) (*nl.NetlinkRequest, error) {
	head := nl.NewRtMsg()
	head.Family, head.Dst_len = family(r.Dst.Addr()), uint8(r.Dst.Bits()) //nolint:gosec // in range
	head.Table, head.Protocol = unix.RT_TABLE_UNSPEC, Protocol
	m := request(add, unix.RTM_NEWROUTE, unix.RTM_DELROUTE)
	m.AddData(head)
	m.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	table := uint32(unix.RT_TABLE_MAIN)
	if r.Table != 0 {
		table = uint32(r.Table) //nolint:gosec // in range
	}
	m.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(table)))
	if r.Blackhole {
		head.Type = unix.RTN_BLACKHOLE
		m.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(lastResort)))
		return m, nil
	}
	index, err := all.index(r.Link)
	if err != nil {
		return nil, err
	}
	m.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index)))) //nolint:gosec // in range
	if !r.Via.IsValid() {
		head.Scope = unix.RT_SCOPE_LINK
		return m, nil
	}
	head.Flags = unix.RTNH_F_ONLINK
	m.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	return m, nil
}

func ruleMessage(add bool, r Rule) *nl.NetlinkRequest {
	head := nl.NewRtMsg()
	head.Family, head.Table, head.Type = unix.AF_INET, unix.RT_TABLE_UNSPEC, nl.FR_ACT_TO_TBL
	if r.V6 {
		head.Family = unix.AF_INET6
	}
	m := nl.NewNetlinkRequest(unix.RTM_DELRULE, 0)
	if add { // rules cannot be replaced: each is its own key
		m = nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	}
	m.AddData(head)
	number := func(kind, value int) {
		m.AddData(nl.NewRtAttr(kind, nl.Uint32Attr(uint32(value)))) //nolint:gosec // in range
	}
	number(nl.FRA_PRIORITY, r.Priority)
	if r.Mark != 0 || r.Mask != 0 {
		number(nl.FRA_FWMARK, int(r.Mark))
	}
	if r.Mask != 0 {
		number(nl.FRA_FWMASK, int(r.Mask))
	}
	if r.Goto != 0 {
		head.Type = nl.FR_ACT_GOTO
		number(nl.FRA_GOTO, r.Goto)
	} else {
		number(nl.FRA_TABLE, r.Table)
	}
	if r.IIF != "" {
		m.AddData(nl.NewRtAttr(nl.FRA_IIFNAME, nl.ZeroTerminated(r.IIF)))
	}
	m.AddData(nl.NewRtAttr(nl.FRA_PROTOCOL, nl.Uint8Attr(Protocol)))
	return m
}
