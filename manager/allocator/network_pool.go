package allocator

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"

	"shoal/raftstore/state"
)

// What a cluster has that says nothing of its pools. The mesh pool is taken out
// of the default pool: no network gets any of it.
const (
	defaultPool     = "10.0.0.0/8"
	defaultMesh     = "10.252.0.0/14"
	defaultPoolSize = 24
)

// minBits keeps a subnet inside of what is unicast.
const minBits = 8

// readPools checks the pools that were asked for, IPv4 first.
func readPools(r *network.CreateRequest) (pools []state.Pool, err error) {
	if r.IPAM == nil {
		return nil, nil
	}
	// The engine's own words for what is wrong inside of a subnet. IPv6 is
	// looked at always: it would be left out in silence.
	if err := network.ValidateIPAM(r.IPAM, true); err != nil {
		return nil, invalid("%s", strings.ReplaceAll(err.Error(), "config:\n", "config: "))
	}
	for _, c := range r.IPAM.Config {
		p, err := readPool(c)
		if err != nil {
			return nil, err
		}
		family := p.Subnet.Addr().Is6()
		if family && !enabled(r.EnableIPv6, false) {
			return nil, invalid("subnet %s: the network has no IPv6, set EnableIPv6 (--ipv6)", p.Subnet)
		}
		if slices.ContainsFunc(pools, func(o state.Pool) bool { return o.Subnet.Addr().Is6() == family }) {
			return nil, unsupported("a second subnet of one family, "+p.Subnet.String(), "a network has one IPv4 and one IPv6 subnet: give it a larger one, or make two networks")
		}
		pools = append(pools, p)
	}
	slices.SortFunc(pools, func(a, b state.Pool) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	return pools, nil
}

func readPool(c network.IPAMConfig) (p state.Pool, err error) {
	p.Subnet, err = netip.ParsePrefix(c.Subnet)
	switch {
	case err != nil:
		return p, invalid("invalid subnet %s: invalid CIDR block notation", c.Subnet)
	case p.Subnet.Addr().Is4In6() || !p.Subnet.Addr().IsGlobalUnicast() || p.Subnet.Bits() < minBits:
		return p, invalid("invalid subnet %s: it must be one of unicast addresses, /%d or smaller", c.Subnet, minBits)
	}
	if c.IPRange != "" {
		p.Range, _ = netip.ParsePrefix(c.IPRange) // checked by ValidateIPAM
	}
	for _, name := range slices.Sorted(maps.Keys(c.AuxAddress)) {
		aux, _ := netip.ParseAddr(c.AuxAddress[name]) // same
		if aux.IsValid() && !slices.Contains(p.Reserved, aux) {
			p.Reserved = append(p.Reserved, aux)
		}
	}
	if c.Gateway != "" {
		p.Gateway, _ = netip.ParseAddr(c.Gateway) // same
	} else {
		p.Gateway = p.Subnet.Addr().Next()
		for slices.Contains(p.Reserved, p.Gateway) {
			p.Gateway = p.Gateway.Next()
		}
	}
	return p, checkPool(p)
}

func checkPool(p state.Pool) error {
	last := LastAddr(p.Subnet)
	switch g := p.Gateway; {
	case !p.Subnet.Contains(g), g == p.Subnet.Addr(), g.Is4() && g == last:
		return invalid("invalid gateway %s: it is no address of a host in subnet %s", g, p.Subnet)
	case slices.Contains(p.Reserved, g):
		return invalid("invalid auxiliary address %s: it is the gateway of subnet %s", g, p.Subnet)
	}
	// A service needs two at least: its own and one for a task.
	const least = 2
	found := 0
	for a := range Addrs(p) {
		if a != p.Gateway && !slices.Contains(p.Reserved, a) {
			found++
		}
		if found == least {
			return nil
		}
	}
	where := p.Subnet
	if p.Range.IsValid() {
		where = p.Range
	}
	return invalid("invalid subnet %s: %s is too small: beside the gateway and auxiliary addresses it has %d addresses, and a service needs %d at least (itself and a task)", p.Subnet, where, found, least)
}

// Addrs yields every address that a pool may give out: all of its range but the
// subnet's first and, in IPv4, its last.
func Addrs(p state.Pool) func(yield func(netip.Addr) bool) {
	within := p.Subnet
	if p.Range.IsValid() {
		within = p.Range
	}
	last := LastAddr(p.Subnet)
	return func(yield func(netip.Addr) bool) {
		for a := within.Addr(); within.Contains(a); a = a.Next() {
			if a == p.Subnet.Addr() || a.Is4() && a == last {
				continue
			}
			if !yield(a) {
				return
			}
		}
	}
}

// LastAddr is the highest address of a subnet.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(b) // as long as it was
	return a
}

// FreeAddr returns wish if nothing has it; a zero wish is the lowest free
// address of the pool.
func FreeAddr(v *state.View, name string, p state.Pool, wish netip.Addr) (netip.Addr, error) {
	if wish.IsValid() {
		switch {
		case !p.Subnet.Contains(wish), wish == p.Subnet.Addr(), wish.Is4() && wish == LastAddr(p.Subnet):
			return netip.Addr{}, invalid("address %s is none of a host in subnet %s of network %s", wish, p.Subnet, name)
		case v.AddrUsed(wish):
			return netip.Addr{}, refused("address %s of network %s is in use", wish, name)
		}
		return wish, nil
	}
	used := 0
	for a := range Addrs(p) {
		if !v.AddrUsed(a) {
			return a, nil
		}
		used++
	}
	return netip.Addr{}, refused("network %s has no free address in %s: all %d are in use; remove services or containers from it, or make a network with a larger subnet", name, p.Subnet, used)
}

// allocatePools completes what was asked for with the lowest free subnets.
func allocatePools(v *state.View, r *network.CreateRequest) ([]state.Pool, error) {
	pools, err := readPools(r)
	if err != nil {
		return nil, err
	}
	mesh := meshPool(v)
	for _, p := range pools {
		if p.Subnet.Overlaps(mesh) {
			return nil, refused("invalid pool request: subnet %s overlaps with %s, where the nodes' own networks are; see --mesh-pool of `shoal init`", p.Subnet, mesh)
		}
		if other, taken := overlapping(v, p.Subnet); other != nil {
			return nil, refused("invalid pool request: Pool overlaps with other one on this address space: subnet %s overlaps with %s of network %s", p.Subnet, taken, other.Spec.Name)
		}
	}
	if len(pools) == 0 || pools[0].Subnet.Addr().Is6() {
		subnet, err := freeSubnet(v, mesh)
		if err != nil {
			return nil, err
		}
		pools = slices.Insert(pools, 0, state.Pool{Subnet: subnet, Gateway: subnet.Addr().Next()})
	}
	if enabled(r.EnableIPv6, false) && len(pools) == 1 {
		subnet, err := freeSubnet6(v)
		if err != nil {
			return nil, err
		}
		pools = append(pools, state.Pool{Subnet: subnet, Gateway: subnet.Addr().Next()})
	}
	return pools, nil
}

func meshPool(v *state.View) netip.Prefix {
	if c := v.Cluster(); c != nil && c.MeshPool.IsValid() {
		return c.MeshPool
	}
	return netip.MustParsePrefix(defaultMesh)
}

func overlapping(v *state.View, subnet netip.Prefix) (*state.Network, netip.Prefix) {
	for n := range v.Networks() {
		for _, p := range n.Pools {
			if p.Subnet.Overlaps(subnet) {
				return n, p.Subnet
			}
		}
	}
	return nil, netip.Prefix{}
}

// freeSubnet is the lowest subnet of the cluster's pools that overlaps with no
// network and not with the mesh.
func freeSubnet(v *state.View, mesh netip.Prefix) (netip.Prefix, error) {
	texts, size := []string{defaultPool}, defaultPoolSize
	if c := v.Cluster(); c != nil {
		if len(c.DefaultAddrPool) > 0 {
			texts = c.DefaultAddrPool
		}
		size = cmp.Or(int(c.SubnetSize), defaultPoolSize)
	}
	taken := []netip.Prefix{mesh}
	for n := range v.Networks() {
		for _, p := range n.Pools {
			if p.Subnet.Addr().Is4() {
				taken = append(taken, p.Subnet)
			}
		}
	}
	slices.SortFunc(taken, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for _, text := range texts {
		pool, err := netip.ParsePrefix(text)
		if err != nil {
			continue // refused at init
		}
		if subnet, ok := lowest(pool.Masked(), size, taken); ok {
			return subnet, nil
		}
	}
	return netip.Prefix{}, refused("no free subnet of /%d is left in the cluster's address pools %s: remove networks, or give one with --subnet", size, strings.Join(texts, ", "))
}

// lowest walks the taken subnets, which are sorted and do not overlap.
func lowest(pool netip.Prefix, size int, taken []netip.Prefix) (netip.Prefix, bool) {
	if size < pool.Bits() || size > 32 {
		return netip.Prefix{}, false
	}
	number := func(a netip.Addr) uint64 { b := a.As4(); return uint64(binary.BigEndian.Uint32(b[:])) }
	step := uint64(1) << (32 - size)
	next, end := number(pool.Addr()), number(LastAddr(pool))
	for _, t := range taken {
		if number(t.Addr()) >= next+step {
			break
		}
		if last := number(LastAddr(t)); last >= next {
			next = (last/step + 1) * step
		}
	}
	if next+step-1 > end {
		return netip.Prefix{}, false
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(next)) //nolint:gosec // at most end
	return netip.PrefixFrom(netip.AddrFrom4(b), size), true
}

// freeSubnet6 is the lowest free /64 of the upper half of the cluster's own
// /48: the nodes' networks have the lower one.
func freeSubnet6(v *state.View) (netip.Prefix, error) {
	taken := map[netip.Prefix]bool{}
	var others []netip.Prefix // of another size
	for n := range v.Networks() {
		for _, p := range n.Pools {
			switch {
			case !p.Subnet.Addr().Is6():
			case p.Subnet.Bits() == 64:
				taken[p.Subnet] = true
			default:
				others = append(others, p.Subnet)
			}
		}
	}
	b := networkULA(v)
	for number := uint16(0x8000); ; number++ {
		binary.BigEndian.PutUint16(b[6:8], number)
		subnet := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if !taken[subnet] && !slices.ContainsFunc(others, subnet.Overlaps) {
			return subnet, nil
		}
		if number == 0xffff {
			return netip.Prefix{}, refused("no free IPv6 subnet is left in the cluster's own %s: give one with --subnet", netip.PrefixFrom(netip.AddrFrom16(b), 49).Masked())
		}
	}
}

// networkULA begins the cluster's own unique local addresses: fd and 40 bits
// that follow from its id.
func networkULA(v *state.View) (b [16]byte) {
	id := ""
	if c := v.Cluster(); c != nil {
		id = c.ID
	}
	sum := sha256.Sum256([]byte(id))
	b[0] = 0xfd
	copy(b[1:6], sum[:5])
	return b
}
