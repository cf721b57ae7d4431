package allocator

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"shoal/raftstore/state"
)

// space is what a pool gives addresses from. Each has a number, from 0.
type space struct {
	pool  state.Pool
	first netip.Addr
	size  uint64 // a power of two
}

func spaceOf(p state.Pool) space {
	from := p.Range
	if !from.IsValid() {
		from = p.Subnet
	}
	from = from.Masked()
	host := from.Addr().BitLen() - from.Bits()
	return space{pool: p, first: from.Addr(), size: 1 << min(host, 62)} // more than anybody uses
}

// at is the address with a number.
func (s space) at(n uint64) netip.Addr {
	if s.first.Is4() {
		b := s.first.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n)) //nolint:gosec // less than size
		return netip.AddrFrom4(b)
	}
	b := s.first.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+n)
	return netip.AddrFrom16(b)
}

// has reports whether a is one of the space's addresses.
func (s space) has(a netip.Addr) bool {
	bits := s.pool.Subnet.Bits()
	if s.pool.Range.IsValid() {
		bits = s.pool.Range.Bits()
	}
	return netip.PrefixFrom(s.first, bits).Contains(a)
}

// special reports whether an address means the subnet as a whole.
func (s space) special(a netip.Addr) bool {
	subnet := s.pool.Subnet.Masked()
	return a == subnet.Addr() || a.Is4() && a == highest(subnet)
}

// usable is how many addresses the space can give.
func (s space) usable() uint64 {
	subnet := s.pool.Subnet.Masked()
	never := map[netip.Addr]bool{subnet.Addr(): true, s.pool.Gateway: true}
	if subnet.Addr().Is4() {
		never[highest(subnet)] = true
	}
	for _, a := range s.pool.Reserved {
		never[a] = true
	}
	n := s.size
	for a := range never {
		if s.has(a) {
			n--
		}
	}
	return n
}

// highest is the last address of an IPv4 subnet.
func highest(subnet netip.Prefix) netip.Addr {
	b := subnet.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(1<<(32-subnet.Bits())-1)) //nolint:gosec // at most 32 bits
	return netip.AddrFrom4(b)
}

// families are the pools of a network: those of IPv4, those of IPv6. Everything
// on the network gets one address of each.
func families(n *state.Network) (families [][]space) {
	var v4, v6 []space
	for _, p := range n.Pools {
		if p.Subnet.Addr().Is4() {
			v4 = append(v4, spaceOf(p))
		} else {
			v6 = append(v6, spaceOf(p))
		}
	}
	for _, f := range [][]space{v4, v6} {
		if len(f) > 0 {
			families = append(families, f)
		}
	}
	return families
}

func usableOf(family []space) (n uint64) {
	for _, s := range family {
		n += s.usable()
	}
	return n
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// giver hands out addresses and ports: those that are free in a view and were
// not given before, which the view does not show yet.
type giver struct {
	view  *state.View
	addrs map[netip.Addr]bool
	ports map[string][]owner // by state.PortKey
}

func newGiver(v *state.View) *giver {
	return &giver{view: v, addrs: map[netip.Addr]bool{}, ports: map[string][]owner{}}
}

// address gives the first free address of a family at or after number start.
func (g *giver) address(family []space, start uint64) (netip.Prefix, bool) {
	for _, s := range family {
		for i := range s.size {
			a := s.at((start + i) & (s.size - 1))
			if s.special(a) || g.addrs[a] || g.view.AddrUsed(a) {
				continue
			}
			g.addrs[a] = true
			return netip.PrefixFrom(a, s.pool.Subnet.Bits()), true
		}
	}
	return netip.Prefix{}, false
}

// takeBack makes addresses free again that were given in vain.
func (g *giver) takeBack(addrs []netip.Prefix) {
	for _, a := range addrs {
		delete(g.addrs, a.Addr())
	}
}

// exhausted says what of a network is used up, by whom, and what would help.
func (g *giver) exhausted(n *state.Network, family []space) error {
	_, services, attachments := holders(g.view, n, family)
	all := usableOf(family)
	tasks := all - min(all, services+attachments) // those given a moment ago, too
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
		"network %s has no free %s address: all %d are in use (%d by tasks, %d by services, %d by attached containers); "+
			"scale something on it down, or create a network with a larger subnet and use that",
		n.Spec.Name, familyName(family[0].first), all, tasks, services, attachments))
}

// holders counts who has addresses of a family.
func holders(v *state.View, n *state.Network, family []space) (tasks, services, attachments uint64) {
	within := func(a netip.Addr) bool {
		return slices.ContainsFunc(family, func(s space) bool { return s.has(a) })
	}
	count := func(addrs []netip.Prefix) (n uint64) {
		for _, a := range addrs {
			if within(a.Addr()) {
				n++
			}
		}
		return n
	}
	for t := range v.TasksOfNetwork(n.ID) {
		for _, on := range t.Networks {
			if on.NetworkID == n.ID {
				tasks += count(on.Addrs)
			}
		}
	}
	for s := range v.ServicesOfNetwork(n.ID) {
		for _, vip := range s.Endpoint.VirtualIPs {
			if a, err := netip.ParsePrefix(vip.Addr); err == nil && vip.NetworkID == n.ID {
				services += count([]netip.Prefix{a})
			}
		}
	}
	for a := range v.AttachmentsOfNetwork(n.ID) {
		attachments += count(a.Addrs)
	}
	return tasks, services, attachments
}

// Room is how many addresses a network can give, and how many of them are not
// in use, in the family that has the fewest left.
func Room(v *state.View, n *state.Network) (all, free uint64) {
	for i, family := range families(n) {
		tasks, services, attachments := holders(v, n, family)
		usable := usableOf(family)
		if left := usable - min(usable, tasks+services+attachments); i == 0 || left < free {
			all, free = usable, left
		}
	}
	return all, free
}
