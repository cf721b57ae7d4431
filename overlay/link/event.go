package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Numbers of the kernel, for what has no wish to know of netlink.
const (
	familyBridge   = unix.AF_BRIDGE
	stateStatic    = netlink.NUD_NOARP
	statePermanent = netlink.NUD_PERMANENT
	flagSelf       = netlink.NTF_SELF
)

// sizeofRtMsg is the head of messages about routes and of those about rules.
const sizeofRtMsg = unix.SizeofRtMsg

// strange reports whether an event is of something that is ours and now is not
// as it should be.
func (e *events) strange(kind uint16, msg []byte) bool {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return len(msg) >= unix.SizeofIfInfomsg && e.strangeLink(kind == unix.RTM_DELLINK, msg)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		entry, ok := readEntry(msg)
		return ok && e.sight.look().strangeEntry(entry, kind == unix.RTM_DELNEIGH, e.own(entry.link), e.own(entry.master))
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return len(msg) >= unix.SizeofIfAddrmsg && e.strangeAddr(kind == unix.RTM_DELADDR, msg)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(msg) < sizeofRtMsg || nl.DeserializeRtMsg(msg).Flags&unix.RTM_F_CLONED != 0 {
			return false
		}
		return e.sight.look().strangeRoute(e.route(msg), msg[5], kind == unix.RTM_DELROUTE)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		if len(msg) < sizeofRtMsg {
			return false
		}
		r, protocol := readRule(msg)
		return protocol == Protocol && e.sight.look().rules[r] == (kind == unix.RTM_DELRULE)
	}
	return false
}

// own is the name of a link that is ours, else "".
func (e *events) own(index int) string {
	if name := e.links[index].name; strings.HasPrefix(name, prefix) {
		return name
	}
	return ""
}

// strangeLink reports whether a link looks other than when it was last told of.
// Much is told of bridges, with every container that comes.
func (e *events) strangeLink(gone bool, msg []byte) bool {
	head := nl.DeserializeIfInfomsg(msg)
	index := int(head.Index)
	before := e.links[index]
	if head.Family == unix.AF_BRIDGE {
		flags, _ := readPortFlags(msg)
		looks := fmt.Sprint(gone, flags)
		same := e.ports[index] == looks
		e.ports[index] = looks
		return !same && e.own(index) != ""
	}
	now := seen{name: before.name, kind: before.kind}
	looks := fmt.Sprint(head.Flags & unix.IFF_UP)
	eachAttr(msg[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			now.name = strings.TrimRight(string(value), "\x00")
			looks += now.name
		case unix.IFLA_MTU, unix.IFLA_ADDRESS, unix.IFLA_MASTER:
			looks += fmt.Sprintf(" %d:%x", kind, value)
		case unix.IFLA_LINKINFO:
			looks += readLinkInfo(value, &now)
		}
	})
	now.looks = looks
	if gone {
		delete(e.links, index)
		delete(e.ports, index)
	} else {
		e.links[index] = now
	}
	ours := strings.HasPrefix(now.name, prefix) || strings.HasPrefix(before.name, prefix)
	return (gone || now != before) && (ours || e.sight.look().links[now.name])
}

// readLinkInfo learns the kind of a link, and returns how a VXLAN is made up.
// What a bridge says of itself has clocks in it.
func readLinkInfo(info []byte, link *seen) (looks string) {
	eachAttr(info, func(kind uint16, value []byte) {
		switch kind {
		case nl.IFLA_INFO_KIND:
			link.kind = strings.TrimRight(string(value), "\x00")
		case nl.IFLA_INFO_DATA:
			if link.kind == "vxlan" {
				looks = fmt.Sprintf(" %x", value)
			}
		}
	})
	return looks
}

func (e *events) strangeAddr(gone bool, msg []byte) bool {
	link := e.links[int(binary.NativeEndian.Uint32(msg[4:]))]
	var local, addr netip.Addr
	eachAttr(msg[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			addr, _ = netip.AddrFromSlice(value)
		}
	})
	if !local.IsValid() {
		local = addr
	}
	a := Addr{Link: link.name, Prefix: netip.PrefixFrom(local, int(msg[1]))}
	return ownAddr(a, link.kind) && e.sight.look().addrs[a] == gone
}

// route reads as much of a route as ours have.
func (e *events) route(msg []byte) route {
	r := route{Route: Route{Table: int(msg[4]), Blackhole: msg[7] == unix.RTN_BLACKHOLE}}
	dst := netip.IPv4Unspecified()
	if msg[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	eachAttr(msg[sizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.Link = e.links[int(binary.NativeEndian.Uint32(value))].name
		case unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(value)
		case unix.RTA_PRIORITY:
			r.Metric = int(binary.NativeEndian.Uint32(value))
		case unix.RTA_TABLE:
			r.Table = int(binary.NativeEndian.Uint32(value))
		case unix.RTA_MULTIPATH:
			r.Odd = "several paths"
		case unix.RTA_PREFSRC:
			r.Odd = "source"
		}
	})
	r.Dst = netip.PrefixFrom(dst, int(msg[1]))
	if r.Blackhole {
		r.Link = "" // IPv6 says lo
	}
	return r
}

// readRule reads as much of a rule as ours have.
func readRule(msg []byte) (r rule, protocol uint8) {
	r = rule{Rule: Rule{V6: msg[0] == unix.AF_INET6}}
	if msg[1] != 0 || msg[2] != 0 {
		r.Odd = "with addresses"
	}
	eachAttr(msg[sizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case nl.FRA_PRIORITY:
			r.Priority = int(binary.NativeEndian.Uint32(value))
		case nl.FRA_IIFNAME:
			r.IIF = strings.TrimRight(string(value), "\x00")
		case nl.FRA_FWMARK:
			r.Mark = binary.NativeEndian.Uint32(value)
		case nl.FRA_FWMASK:
			r.Mask = binary.NativeEndian.Uint32(value)
		case nl.FRA_TABLE:
			r.Table = int(binary.NativeEndian.Uint32(value))
		case nl.FRA_GOTO:
			r.Goto = int(binary.NativeEndian.Uint32(value))
		case nl.FRA_OIFNAME:
			r.Odd = "oif"
		case nl.FRA_PROTOCOL:
			protocol = value[0]
		}
	})
	return r, protocol
}
