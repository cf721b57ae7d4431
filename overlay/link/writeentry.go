package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// bundle is how many messages go to the kernel at once: the answers to them fit
// into the smallest receive buffer.
const bundle = 100

// isEntry reports whether a step is one message about a neighbour or a
// forwarding entry.
func (o op) isEntry() bool {
	switch o.item.(type) {
	case forward, static, Neighbour:
		return true
	}
	return false
}

// doEntries sends a bundle of steps to the kernel and collects the answers.
func (k *rtnetlink) doEntries(ops []op) []error {
	errs := make([]error, len(ops))
	place := make(map[uint32]int, len(ops)) // of a step by its number
	var out []byte
	for i, o := range ops {
		req, err := k.message(o)
		if err != nil {
			errs[i] = stepError(o, "look up the link of", err)
			continue
		}
		place[req.Seq] = i
		out = append(out, req.Serialize()...)
	}
	err := unix.Sendto(k.many.GetFd(), out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for err == nil && len(place) > 0 {
		err = k.answers(func(number uint32, answer error) {
			if i, is := place[number]; is {
				errs[i] = stepError(ops[i], entryVerb(ops[i]), answer)
				delete(place, number)
			}
		})
	}
	for _, i := range place { // of those nothing is known
		errs[i] = stepError(op{item: ops[i].item}, "ask netlink to change", err)
	}
	return errs
}

func entryVerb(o op) string {
	if o.del {
		return "remove"
	}
	return "set"
}

// answers takes in the answers that are there.
func (k *rtnetlink) answers(take func(number uint32, answer error)) error {
	msgs, _, err := k.many.Receive()
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
			continue
		}
		var answer error
		if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
			answer = syscall.Errno(-code)
		}
		take(m.Header.Seq, answer)
	}
	return nil
}

// message makes the request for one entry.
func (k *rtnetlink) message(o op) (*nl.NetlinkRequest, error) {
	index, err := k.indexOf(o.item.on())
	if err != nil {
		return nil, err
	}
	kind, flags := unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK
	if o.del {
		kind, flags = unix.RTM_DELNEIGH, unix.NLM_F_ACK
	}
	req := nl.NewNetlinkRequest(kind, flags)
	head := &netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index)}
	req.AddData(head)
	switch i := o.item.(type) {
	case forward:
		head.State, head.Flags = netlink.NUD_PERMANENT, netlink.NTF_SELF
		req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, i.MAC[:]))
		req.AddData(nl.NewRtAttr(netlink.NDA_DST, i.Dst.AsSlice()))
	case static:
		head.State, head.Flags = netlink.NUD_NOARP, netlink.NTF_MASTER
		req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, i.MAC[:]))
	case Neighbour:
		head.Family, head.State = family(i.IP), netlink.NUD_PERMANENT
		req.AddData(nl.NewRtAttr(netlink.NDA_DST, i.IP.AsSlice()))
		req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, i.MAC[:]))
	}
	return req, nil
}

func family(ip netip.Addr) uint8 {
	if ip.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (k *rtnetlink) doRoute(del bool, r route) error {
	n := &netlink.Route{
		Dst: ipNet(r.Dst), Table: r.Table, Priority: r.Metric, Protocol: Protocol,
		Type: unix.RTN_UNICAST, Scope: netlink.SCOPE_LINK,
	}
	if r.Blackhole {
		n.Type, n.Scope = unix.RTN_BLACKHOLE, netlink.SCOPE_UNIVERSE
	}
	if del {
		n.Type, n.Scope = 0, netlink.SCOPE_NOWHERE // any
		return k.handle.RouteDel(n)
	}
	if !r.Blackhole {
		index, err := k.indexOf(r.Link)
		if err != nil {
			return err
		}
		n.LinkIndex = index
	}
	if r.Via.IsValid() {
		n.Gw, n.Scope, n.Flags = r.Via.AsSlice(), netlink.SCOPE_UNIVERSE, unix.RTNH_F_ONLINK
	}
	err := k.handle.RouteAdd(n)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := k.ownRoute(r); err != nil {
		return err
	}
	return k.handle.RouteReplace(n)
}

// ownRoute refuses if the place of a route is taken by one that is not ours.
func (k *rtnetlink) ownRoute(r route) error {
	filter := &netlink.Route{Table: r.Table, Protocol: Protocol}
	foreign := 0
	err := dump(func() error {
		foreign = 0
		return k.handle.RouteListFilteredIter(int(family(r.Dst.Addr())), filter, netlink.RT_FILTER_TABLE,
			func(n netlink.Route) bool {
				there := routeOf(n, nil)
				if there.Dst == r.Dst && there.Metric == r.Metric && n.Protocol != Protocol {
					foreign = max(int(n.Protocol), 1)
				}
				return true
			})
	})
	if err == nil && foreign != 0 {
		err = fmt.Errorf("there is another route to %s (protocol %d), which is not shoal's: %w", r.Dst, foreign, errdefs.ErrAlreadyExists)
	}
	return err
}

func (k *rtnetlink) doRule(del bool, r rule) error {
	n, isOdd := k.odd[r]
	if !isOdd {
		n = *netlink.NewRule()
		n.Priority, n.IifName, n.Mark, n.Table, n.Protocol = r.Priority, r.IIF, r.Mark, r.Table, Protocol
		n.Family = netlink.FAMILY_V4
		if r.V6 {
			n.Family = netlink.FAMILY_V6
		}
		if r.Mask != 0 {
			n.Mask = &r.Mask
		}
		if r.Goto != 0 {
			n.Goto = r.Goto
		}
	}
	if del {
		return k.handle.RuleDel(&n)
	}
	if err := k.handle.RuleAdd(&n); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
