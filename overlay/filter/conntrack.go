package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	sizeofNfgenmsg = 4
	seenReply      = 1 << 1 // IPS_SEEN_REPLY
)

// tupleOf is what one direction of a flow says.
func tupleOf(b []byte) (source, target netip.Addr, protocol byte) {
	each := func(b []byte, what func(kind uint16, value []byte)) {
		attrs, err := nl.ParseRouteAttr(b)
		if err != nil {
			return
		}
		for _, a := range attrs {
			what(a.Attr.Type&nl.NLA_TYPE_MASK, a.Value)
		}
	}
	each(b, func(kind uint16, value []byte) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			each(value, func(kind uint16, value []byte) {
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					source, _ = netip.AddrFromSlice(value)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					target, _ = netip.AddrFromSlice(value)
				}
			})
		case nl.CTA_TUPLE_PROTO:
			each(value, func(kind uint16, value []byte) {
				if kind == nl.CTA_PROTO_NUM && len(value) == 1 {
					protocol = value[0]
				}
			})
		}
	})
	return source, target, protocol
}

// query asks for the flows of a family: of an address in one direction, or all.
type query struct {
	family    byte
	direction int        // nl.CTA_TUPLE_ORIG or CTA_TUPLE_REPLY; 0: all
	source    netip.Addr // of that direction
}

// fewAddrs are cheaper to ask for one by one: each question has the kernel walk
// its whole table, but copy next to nothing of it.
const fewAddrs = 8

func (d doomed) queries() (list []query) {
	for _, f := range families() {
		var some []query
		for a := range d.gone {
			if a.Is4() == (f.nfproto == unix.NFPROTO_IPV4) {
				some = append(some, query{f.nfproto, nl.CTA_TUPLE_ORIG, a}, query{f.nfproto, nl.CTA_TUPLE_REPLY, a})
			}
		}
		for a := range d.stopped {
			if a.Is4() == (f.nfproto == unix.NFPROTO_IPV4) && !d.gone[a] {
				some = append(some, query{f.nfproto, nl.CTA_TUPLE_REPLY, a})
			}
		}
		if len(some) > fewAddrs {
			some = []query{{family: f.nfproto}}
		}
		list = append(list, some...)
	}
	return list
}

// Attributes of <linux/netfilter/nfnetlink_conntrack.h> that the library lacks,
// and the kernel's bit for a filter that compares sources (nf_conntrack_netlink.c).
const (
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	filterSource        = 1 << 0
)

// list returns the flows as the kernel tells them, some of them with an error.
func (q query) list() ([][]byte, error) {
	r := conntrackRequest(q.family, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	if q.direction != 0 {
		for _, a := range q.filter() {
			r.AddData(a)
		}
	}
	found, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil && !isGone(err) {
		return found, fmt.Errorf("list connections: %w", err)
	}
	return found, nil
}

func (q query) filter() []*nl.RtAttr {
	kind := nl.CTA_IP_V4_SRC
	if q.source.Is6() {
		kind = nl.CTA_IP_V6_SRC
	}
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|q.direction, nil)
	tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(kind, q.source.AsSlice())
	which := ctaFilterOrigFlags
	if q.direction == nl.CTA_TUPLE_REPLY {
		which = ctaFilterReplyFlags
	}
	compare := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	compare.AddRtAttr(which, binary.NativeEndian.AppendUint32(nil, filterSource))
	return []*nl.RtAttr{tuple, compare}
}

// remove forgets a flow, named by all that the kernel has told of it.
func remove(family byte, flow []byte) error {
	r := conntrackRequest(family, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	r.AddRawData(flow[sizeofNfgenmsg:])
	if _, err := r.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !isGone(err) {
		return fmt.Errorf("forget a connection: %w", err)
	}
	return nil
}

func conntrackRequest(family byte, operation, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return r
}

func isGone(err error) bool { return errors.Is(err, unix.ENOENT) }
