package filter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"shoal/internal/backoff"
)

// flows forgets connections, away from those who change rules: on a busy host
// the kernel's list of them is long.
type flows struct {
	wake chan struct{} // 1: there is something to forget

	mu     sync.Mutex
	doomed doomed
	busy   bool   // forget runs
	back   doomed // what has come back since it began
}

// doomed are endpoints whose connections are to be forgotten.
type doomed struct {
	gone map[netip.Addr]bool // of every protocol
	// stopped lose what this node has led to them, and can lead elsewhere: UDP, which
	// knows no end, and what has had no answer.
	stopped map[netip.Addr]bool
}

func newFlows() *flows { return &flows{wake: make(chan struct{}, 1)} }

// doom adds what is to be forgotten, but for what has come back since.
func (f *flows) doom(d, back doomed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doomed = f.doomed.without(back).and(d)
	if f.busy {
		f.back = f.back.without(d).and(back)
	}
	f.wakeLocked()
}

func (f *flows) wakeLocked() {
	if len(f.doomed.gone)+len(f.doomed.stopped) == 0 {
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (d doomed) and(o doomed) doomed {
	join := func(a, b map[netip.Addr]bool) map[netip.Addr]bool {
		if len(b) == 0 {
			return a
		}
		both := maps.Clone(b)
		maps.Copy(both, a)
		return both
	}
	return doomed{join(d.gone, o.gone), join(d.stopped, o.stopped)}
}

func (d doomed) without(o doomed) doomed {
	rest := func(a, b map[netip.Addr]bool) map[netip.Addr]bool {
		if len(a) == 0 || len(b) == 0 {
			return a
		}
		left := maps.Clone(a)
		maps.DeleteFunc(left, func(addr netip.Addr, _ bool) bool { return b[addr] })
		return left
	}
	return doomed{rest(d.gone, o.gone), rest(d.stopped, o.stopped)}
}

// ResetFlows forgets the connections of endpoints that Apply has found to be
// gone, until ctx ends.
func (f *Filter) ResetFlows(ctx context.Context) error {
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		select {
		case <-f.flows.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := f.flows.forget(doomed.forget)
		if n > 0 {
			f.log.Debug("connections of endpoints that are gone were reset", "count", n)
		}
		if err == nil {
			retry.Reset()
			continue
		}
		f.log.Warn("connections of endpoints that are gone are not reset yet", "error", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// forget does what is to be done; what fails stays so, but for what has come
// back meanwhile.
func (f *flows) forget(do func(doomed) (int, error)) (n int, err error) {
	f.mu.Lock()
	d := f.doomed
	f.doomed, f.back, f.busy = doomed{}, doomed{}, true
	f.mu.Unlock()
	n, err = do(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
	if err != nil {
		f.doomed = d.without(f.back).and(f.doomed)
		f.wakeLocked()
	}
	return n, err
}

// forget removes connections: to and from addresses that are gone, and to
// backends that have stopped serving those of UDP, and those without an answer:
// a client that asks again must not find them gone. The next packet of any other
// is one that nobody knows: of TCP it is answered with a reset.
func (d doomed) forget() (n int, err error) {
	var failed []error
	for _, q := range d.queries() {
		found, err := q.list()
		if err != nil {
			failed = append(failed, err)
		}
		for _, flow := range found {
			if !d.has(flow) {
				continue
			}
			if err := remove(q.family, flow); err != nil {
				failed = append(failed, err)
				continue
			}
			n++
		}
	}
	return n, errors.Join(failed...)
}

// has looks at a flow as the kernel has told it.
func (d doomed) has(flow []byte) bool {
	attrs, err := nl.ParseRouteAttr(flow[sizeofNfgenmsg:])
	if err != nil {
		return false
	}
	var client, target, backend netip.Addr
	var protocol byte
	answered := false
	for _, a := range attrs {
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case nl.CTA_TUPLE_ORIG:
			client, target, protocol = tupleOf(a.Value)
		case nl.CTA_TUPLE_REPLY:
			backend, _, _ = tupleOf(a.Value)
		case nl.CTA_STATUS:
			answered = len(a.Value) == 4 && binary.BigEndian.Uint32(a.Value)&seenReply != 0
		}
	}
	return d.gone[client] || d.gone[backend] || d.stopped[backend] && target != backend && (protocol == unix.IPPROTO_UDP || !answered)
}

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
