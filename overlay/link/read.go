package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtnetlink is the kernel, through netlink and files.
type rtnetlink struct {
	handle *netlink.Handle
	many   *nl.NetlinkSocket // for many changes at a time
	index  map[string]int    // of links
	odd    map[rule]netlink.Rule
}

func openKernel() (kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	many, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &rtnetlink{handle: handle, many: many, index: map[string]int{}}, nil
}

func (k *rtnetlink) close() {
	k.handle.Close()
	k.many.Close()
}

// v6 reports whether IPv6 is there and switched on for the node.
func (k *rtnetlink) v6() bool {
	value, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && strings.TrimSpace(string(value)) == "0"
}

// dump repeats what the kernel says may be incomplete, because something
// changed meanwhile; after some times it takes what there is.
func dump(list func() error) error {
	const tries = 5
	for range tries {
		if err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return nil
}

// reading is a picture while it is drawn.
type reading struct {
	*rtnetlink
	picture
	kinds map[string]string
	names map[int]string // of links by index
	ports map[int]portFlags
}

func (k *rtnetlink) read(files []Sysctl) (picture, map[string]string, error) {
	r := &reading{rtnetlink: k}
	k.odd = map[rule]netlink.Rule{}
	for _, part := range []struct {
		what string
		read func() error
	}{
		{"ports of bridges", r.readPorts},
		{"links", r.readLinks},
		{"addresses", r.readAddrs},
		{"forwarding entries", r.readForwards},
		{"neighbours", r.readNeighbours},
		{"routes", func() error { return r.readRoutes(netlink.FAMILY_V4) }},
		{"routes of IPv6", func() error { return r.readRoutes(netlink.FAMILY_V6) }},
		{"rules", func() error { return r.readRules(netlink.FAMILY_V4) }},
		{"rules of IPv6", func() error { return r.readRules(netlink.FAMILY_V6) }},
	} {
		if err := dump(part.read); err != nil {
			return picture{}, nil, fmt.Errorf("list %s: %w", part.what, err)
		}
	}
	for _, f := range files {
		if value, err := os.ReadFile(f.Path); err == nil {
			r.sysctls = append(r.sysctls, Sysctl{Path: f.Path, Value: strings.TrimSpace(string(value))})
		}
	}
	return r.picture, r.kinds, nil
}

// kind looks at one link; "": there is none.
func (k *rtnetlink) kind(name string) (string, error) {
	link, err := k.handle.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at link %s: %w", name, err)
	}
	k.index[name] = link.Attrs().Index
	return link.Type(), nil
}

// readPorts learns the flags of all ports of bridges: a list of links does not
// have them.
func (r *reading) readPorts() error {
	r.ports = map[int]portFlags{}
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, func(msg []byte) bool {
		if flags, is := readPortFlags(msg); is {
			r.ports[int(nl.DeserializeIfInfomsg(msg).Index)] = flags
		}
		return true
	})
}

// readPortFlags finds the flags in a message about a port.
func readPortFlags(msg []byte) (flags portFlags, is bool) {
	eachAttr(msg[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		if kind != unix.IFLA_PROTINFO {
			return
		}
		is = true
		eachAttr(value, func(kind uint16, value []byte) {
			if flag := flags.attr(kind); flag != nil {
				*flag = value[0] != 0
			}
		})
	})
	return flags, is
}

// attr is the flag that an attribute of a port is about.
func (f *portFlags) attr(kind uint16) *bool {
	switch kind {
	case nl.IFLA_BRPORT_LEARNING:
		return &f.Learning
	case nl.IFLA_BRPORT_UNICAST_FLOOD:
		return &f.Flood
	case nl.IFLA_BRPORT_MCAST_FLOOD:
		return &f.McastFlood
	case nl.IFLA_BRPORT_BCAST_FLOOD:
		return &f.BcastFlood
	case nl.IFLA_BRPORT_NEIGH_SUPPRESS:
		return &f.NeighSuppress
	case nl.IFLA_BRPORT_ISOLATED:
		return &f.Isolated
	}
	return nil
}

// eachAttr walks over the attributes of a message without making a list of
// them: there may be many messages.
func eachAttr(b []byte, do func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		do(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}

func (r *reading) readLinks() error {
	links, err := r.handle.LinkList()
	if links == nil {
		return err
	}
	r.index, r.names, r.kinds = map[string]int{}, map[int]string{}, map[string]string{}
	r.devices, r.bridges = nil, nil
	for _, link := range links {
		a := link.Attrs()
		r.index[a.Name], r.names[a.Index], r.kinds[a.Name] = a.Index, a.Name, link.Type()
	}
	for _, link := range links {
		a := link.Attrs()
		switch {
		case !strings.HasPrefix(a.Name, prefix):
		case link.Type() == "bridge":
			r.bridges = append(r.bridges, bridge{Name: a.Name, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0})
		default:
			r.devices = append(r.devices, r.device(link))
		}
	}
	return err
}

func (r *reading) device(link netlink.Link) device {
	a := link.Attrs()
	d := device{
		Name: a.Name, Kind: link.Type(), MTU: a.MTU, MAC: a.HardwareAddr.String(),
		Up: a.Flags&net.FlagUp != 0, Master: r.names[a.MasterIndex], Flags: r.ports[a.Index],
	}
	if x, is := link.(*netlink.Vxlan); is {
		d.VNI, d.Port, d.Odd = uint32(x.VxlanId), x.Port, oddities(x)
		d.Local, _ = netip.AddrFromSlice(x.SrcAddr)
	}
	return d
}

// oddities lists what no VXLAN of ours has.
func oddities(x *netlink.Vxlan) string {
	var odd []string
	for _, o := range []struct {
		is   bool
		name string
	}{
		{x.Learning, "learning"},
		{x.VtepDevIndex != 0, "on a lower device"},
		{len(x.Group) > 0 && !x.Group.IsUnspecified(), "with a group"},
		{x.FlowBased, "external"},
		{x.Proxy, "proxy"},
		{x.GBP, "gbp"},
		{x.RSC, "route short-circuit"},
	} {
		if o.is {
			odd = append(odd, o.name)
		}
	}
	return strings.Join(odd, ", ")
}

func (r *reading) readAddrs() error {
	addrs, err := r.handle.AddrList(nil, netlink.FAMILY_ALL)
	r.addrs = nil
	for _, a := range addrs {
		if addr, ok := addrOf(a.IPNet, r.names[a.LinkIndex]); ok && ownAddr(addr, r.kinds[addr.Link]) {
			r.addrs = append(r.addrs, addr)
		}
	}
	return err
}

func addrOf(n *net.IPNet, link string) (Addr, bool) {
	ip, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return Addr{Link: link, Prefix: netip.PrefixFrom(ip.Unmap(), bits)}, ok
}

// ownAddr reports whether an address is ours to remove. The engine's own ones
// on bridges have the length of their subnets; link-local ones are the
// kernel's.
func ownAddr(a Addr, kind string) bool {
	if !strings.HasPrefix(a.Link, prefix) || (a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast()) {
		return false
	}
	return kind != "bridge" || a.Prefix.IsSingleIP()
}
