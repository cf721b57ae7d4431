package allocator

import (
	"net/netip"

	"shoal/raftstore/state"
)

// usage counts the addresses that are in use, from the events of the state, for
// the metrics. Nothing is decided by it.
type usage struct {
	used    map[string]*perFamily // by network id
	touched map[string]bool       // networks whose figures may have changed
	names   map[string]string     // of the networks that were shown, by id
}

// perFamily are figures for IPv4 and IPv6.
type perFamily struct{ v4, v6 int }

func newUsage() *usage {
	return &usage{used: map[string]*perFamily{}, touched: map[string]bool{}, names: map[string]string{}}
}

func (u *usage) event(e state.Event) {
	if e.Old != nil {
		u.count(e.Old, -1)
	}
	if e.New != nil {
		u.count(e.New, 1)
	}
}

// count adds what an object holds, or takes it off.
func (u *usage) count(o state.Object, sign int) {
	switch o := o.(type) {
	case *state.Network:
		u.touched[o.ID] = true
	case *state.Attachment:
		u.add(o.NetworkID, o.Addrs, sign)
	case *state.Service:
		for _, vip := range o.Endpoint.VirtualIPs {
			if a, err := netip.ParsePrefix(vip.Addr); err == nil {
				u.add(vip.NetworkID, []netip.Prefix{a}, sign)
			}
		}
	case *state.Task:
		if o.Status.State.Terminal() {
			return
		}
		for _, n := range o.Networks {
			u.add(n.NetworkID, n.Addrs, sign)
		}
	}
}

func (u *usage) add(networkID string, addrs []netip.Prefix, sign int) {
	f := u.used[networkID]
	if f == nil {
		f = &perFamily{}
		u.used[networkID] = f
	}
	for _, a := range addrs {
		if a.Addr().Is4() {
			f.v4 += sign
		} else {
			f.v6 += sign
		}
	}
	u.touched[networkID] = true
	if *f == (perFamily{}) {
		delete(u.used, networkID)
	}
}
