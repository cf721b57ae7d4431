package filter

import (
	"bytes"
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

// doubtTime is for how long a connection has to be without an answer before it is
// moved from a backend that has stopped. 300ms: an answer comes at once or not at
// all, and a client asks again after a second (RFC 6298).
const doubtTime = 300 * time.Millisecond

// doubts are connections that had no answer yet when they were looked at.
type doubts struct {
	flows []flow
	due   time.Time
}

// flow is a connection as the kernel has told it.
type flow struct {
	family byte
	told   []byte
}

// ResetFlows forgets the connections of endpoints that Apply has found to be
// gone, until ctx ends.
func (f *Filter) ResetFlows(ctx context.Context) error {
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	var open []doubts
	for {
		var due <-chan time.Time
		if len(open) > 0 {
			due = time.After(time.Until(open[0].due))
		}
		var n int
		var err error
		select {
		case <-f.flows.wake:
			var found []flow
			if n, found, err = f.flows.forget(doomed.forget); len(found) > 0 {
				open = append(open, doubts{found, time.Now().Add(doubtTime)})
			}
		case <-due:
			n, err = open[0].forget()
			open = open[1:]
		case <-ctx.Done():
			return ctx.Err()
		}
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
func (f *flows) forget(do func(doomed) (int, []flow, error)) (n int, found []flow, err error) {
	f.mu.Lock()
	d := f.doomed
	f.doomed, f.back, f.busy = doomed{}, doomed{}, true
	f.mu.Unlock()
	n, found, err = do(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy = false
	if err != nil {
		f.doomed = d.without(f.back).and(f.doomed)
		f.wakeLocked()
	}
	return n, found, err
}

// forget removes connections: to and from addresses that are gone, and to
// backends that have stopped serving those of UDP. The next packet of any other
// is one that nobody knows: of TCP it is answered with a reset. It returns those
// to backends that have stopped serving which have no answer, yet: a client that
// asks again must not find the backend gone.
func (d doomed) forget() (n int, found []flow, err error) {
	var failed []error
	for _, q := range d.queries() {
		list, err := q.list()
		if err != nil {
			failed = append(failed, err)
		}
		for _, told := range list {
			switch d.fateOf(told) {
			case spared:
			case doubted:
				found = append(found, flow{q.family, told})
			case lost:
				if err := remove(q.family, told); err != nil {
					failed = append(failed, err)
					continue
				}
				n++
			}
		}
	}
	return n, found, errors.Join(failed...)
}

// forget removes those that still have no answer. Each is looked at again right
// before: an answer that comes in between belongs to a connection that nobody
// would know.
func (d doubts) forget() (n int, err error) {
	var failed []error
	for _, c := range d.flows {
		now, err := c.again()
		if err == nil && now != nil && !answered(now) {
			if err = remove(c.family, now); err == nil {
				n++
			}
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return n, errors.Join(failed...)
}

// again returns what the kernel tells of the connection now, nil if it is gone
// or another has its addresses.
func (c flow) again() ([]byte, error) {
	r := conntrackRequest(c.family, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK)
	for _, kind := range []uint16{nl.CTA_TUPLE_ORIG, nl.CTA_ZONE} {
		if value := attrBytes(c.told, kind); value != nil {
			flags := 0
			if kind == nl.CTA_TUPLE_ORIG {
				flags = unix.NLA_F_NESTED
			}
			r.AddData(nl.NewRtAttr(flags|int(kind), value))
		}
	}
	told, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case isGone(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look at a connection: %w", err)
	case len(told) == 0 || !bytes.Equal(attrBytes(told[0], nl.CTA_ID), attrBytes(c.told, nl.CTA_ID)):
		return nil, nil
	}
	return told[0], nil
}

// fate is what becomes of a connection.
type fate int

const (
	spared fate = iota
	doubted
	lost
)

func (d doomed) fateOf(told []byte) fate {
	attrs, err := nl.ParseRouteAttr(told[sizeofNfgenmsg:])
	if err != nil {
		return spared
	}
	var client, target, backend netip.Addr
	var protocol byte
	for _, a := range attrs {
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case nl.CTA_TUPLE_ORIG:
			client, target, protocol = tupleOf(a.Value)
		case nl.CTA_TUPLE_REPLY:
			backend, _, _ = tupleOf(a.Value)
		}
	}
	switch {
	case over(told):
		return spared
	case d.gone[client] || d.gone[backend]:
		return lost
	case !d.stopped[backend] || target == backend:
		return spared
	case protocol == unix.IPPROTO_UDP:
		return lost
	case answered(told):
		return spared
	}
	return doubted
}

// over reports whether a connection of TCP has ended. There is nothing to reset,
// and much to spoil: there are thousands of them, and a client that uses its port
// again meanwhile has a new connection in the place of the old one, which the
// kernel would take for it: it numbers them by where they are in memory.
func over(told []byte) bool {
	state := attrBytes(told, nl.CTA_PROTOINFO)
	for _, kind := range []uint16{nl.CTA_PROTOINFO_TCP, nl.CTA_PROTOINFO_TCP_STATE} {
		state = attrOf(state, kind)
	}
	return len(state) == 1 && (state[0] == nl.TCP_CONNTRACK_TIME_WAIT || state[0] == nl.TCP_CONNTRACK_CLOSE)
}

func answered(told []byte) bool {
	status := attrBytes(told, nl.CTA_STATUS)
	return len(status) == 4 && binary.BigEndian.Uint32(status)&seenReply != 0
}
