package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// entry is a message about a neighbour or a forwarding entry.
type entry struct {
	family uint8
	link   int
	state  uint16
	flags  uint8
	ip     netip.Addr // of the neighbour, or the node behind a VXLAN
	mac    [6]byte
	hasMAC bool // not those that are being removed
	master int
	vlan   bool
	odd    bool // it has a port, a network or a link of its own
}

func readEntry(msg []byte) (e entry, ok bool) {
	if len(msg) < unix.SizeofNdMsg {
		return entry{}, false
	}
	e = entry{
		family: msg[0],
		link:   int(binary.NativeEndian.Uint32(msg[4:])),
		state:  binary.NativeEndian.Uint16(msg[8:]),
		flags:  msg[10],
	}
	eachAttr(msg[unix.SizeofNdMsg:], func(kind uint16, value []byte) {
		switch kind {
		case netlink.NDA_DST:
			e.ip, _ = netip.AddrFromSlice(value)
		case netlink.NDA_LLADDR:
			if len(value) == len(e.mac) {
				e.mac, e.hasMAC = [6]byte(value), true
			}
		case netlink.NDA_MASTER:
			e.master = int(binary.NativeEndian.Uint32(value))
		case netlink.NDA_VLAN:
			e.vlan = true
		case netlink.NDA_PORT, netlink.NDA_VNI, netlink.NDA_IFINDEX:
			e.odd = true
		}
	})
	return e, true
}

func listEntries(family uint8, do func(entry)) error {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	req.AddData(&netlink.Ndmsg{Family: family})
	return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH, func(msg []byte) bool {
		if e, ok := readEntry(msg); ok && e.hasMAC {
			do(e)
		}
		return true
	})
}

// readForwards reads the entries of our VXLANs and those of bridges that say
// that something is behind such a port. The addresses of the port itself, which
// the bridge has as permanent entries, are not among them.
func (r *reading) readForwards() error {
	r.forwards, r.statics = nil, nil
	vxlans := map[int]string{}
	for _, d := range r.devices {
		if d.Kind == "vxlan" {
			vxlans[r.index[d.Name]] = d.Name
		}
	}
	return listEntries(unix.AF_BRIDGE, func(e entry) {
		name := vxlans[e.link]
		switch {
		case name == "":
		case e.flags&netlink.NTF_SELF != 0:
			if e.ip.IsValid() {
				f := Forward{Link: name, MAC: e.mac, Dst: e.ip}
				r.forwards = append(r.forwards, forward{Forward: f, Odd: e.odd || e.state != netlink.NUD_PERMANENT})
			}
		case e.state&netlink.NUD_PERMANENT == 0 && !e.vlan: // those with a VLAN are copies
			r.statics = append(r.statics, static{Link: name, MAC: e.mac, Odd: e.state != netlink.NUD_NOARP})
		}
	})
}

func (r *reading) readNeighbours() error {
	r.neighbours = nil
	return listEntries(unix.AF_UNSPEC, func(e entry) {
		name := r.names[e.link]
		if strings.HasPrefix(name, prefix) && e.ip.IsValid() && e.state == netlink.NUD_PERMANENT {
			r.neighbours = append(r.neighbours, Neighbour{Link: name, IP: e.ip, MAC: e.mac})
		}
	})
}

func (r *reading) readRoutes(family int) error {
	v6 := family == netlink.FAMILY_V6
	list := without(r.routes, func(r route) bool { return r.Dst.Addr().Is6() == v6 })
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Protocol: Protocol}
	err := r.handle.RouteListFilteredIter(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL,
		func(n netlink.Route) bool {
			list = append(list, routeOf(n, r.names))
			return true
		})
	r.routes = list
	return err
}

func routeOf(n netlink.Route, names map[int]string) route {
	out := route{Metric: n.Priority, Route: Route{Table: n.Table, Blackhole: n.Type == unix.RTN_BLACKHOLE}}
	out.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if n.Family == netlink.FAMILY_V6 {
		out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if n.Dst != nil {
		ip, _ := netip.AddrFromSlice(n.Dst.IP)
		bits, _ := n.Dst.Mask.Size()
		if n.Family == netlink.FAMILY_V4 {
			ip = ip.Unmap() // the library's default route
		}
		out.Dst = netip.PrefixFrom(ip, bits)
	}
	if !out.Blackhole {
		out.Link = names[n.LinkIndex]
		out.Via, _ = netip.AddrFromSlice(n.Gw)
	}
	switch {
	case len(n.MultiPath) > 0:
		out.Odd = "several paths"
	case n.Via != nil:
		out.Odd = "via " + n.Via.String()
	case n.Src != nil:
		out.Odd = "source " + n.Src.String()
	case n.Tos != 0:
		out.Odd = fmt.Sprintf("tos %d", n.Tos)
	case !out.Blackhole && n.Type != unix.RTN_UNICAST:
		out.Odd = fmt.Sprintf("type %d", n.Type)
	case n.MTU != 0:
		out.Odd = fmt.Sprintf("mtu %d", n.MTU)
	}
	return out
}

func (r *reading) readRules(family int) error {
	v6 := family == netlink.FAMILY_V6
	r.rules = without(r.rules, func(r rule) bool { return r.V6 == v6 })
	rules, err := r.handle.RuleList(family)
	for _, n := range rules {
		// A kernel without IPv6 answers with the rules of IPv4.
		if n.Protocol != Protocol || n.Family != family {
			continue
		}
		own := ruleOf(n)
		r.rules = append(r.rules, own)
		if own.Odd != "" {
			r.odd[own] = n
		}
	}
	return err
}

func ruleOf(n netlink.Rule) rule {
	out := rule{Rule: Rule{
		Priority: n.Priority, IIF: n.IifName, Mark: n.Mark, Table: n.Table,
		Goto: max(n.Goto, 0), V6: n.Family == netlink.FAMILY_V6,
	}}
	if n.Mask != nil {
		out.Mask = *n.Mask
	}
	var odd []string
	for _, prefix := range []struct {
		word string
		net  *net.IPNet
	}{{"from", n.Src}, {"to", n.Dst}} {
		if prefix.net != nil {
			odd = append(odd, prefix.word+" "+prefix.net.String())
		}
	}
	if n.OifName != "" {
		odd = append(odd, "oif "+n.OifName)
	}
	if n.Invert {
		odd = append(odd, "not")
	}
	if n.SuppressPrefixlen >= 0 || n.SuppressIfgroup >= 0 || n.Tos != 0 || n.IPProto != 0 || n.Dport != nil || n.Sport != nil || n.UIDRange != nil {
		odd = append(odd, "more conditions")
	}
	out.Odd = strings.Join(odd, ", ")
	return out
}
