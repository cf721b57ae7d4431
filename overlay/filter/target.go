package filter

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// target is a service's address, or a published port in one table for both
// families: a chain that picks a backend, and the element that leads there.
type target struct {
	chain    string
	verdicts string // the map that has the element
	key      []byte
	backends []netip.AddrPort // port 0: the one that was asked for
}

func vipTarget(v VIP) target {
	f := familyOf(v.Addr)
	t := target{chain: "vip-" + hex.EncodeToString(v.Addr.AsSlice()), verdicts: f.vips, key: v.Addr.AsSlice()}
	for _, b := range v.Backends {
		t.backends = append(t.backends, netip.AddrPortFrom(b, 0))
	}
	return t
}

func portTarget(p Port) target {
	return target{
		chain: fmt.Sprintf("port-%s-%d", p.Protocol, p.Port), verdicts: mapPort,
		key: portKey(protocolOf(p.Protocol), p.Port), backends: p.Backends,
	}
}

func (t target) equal(o target) bool { return slices.Equal(t.backends, o.backends) }

// targetsOf are all targets by the name of their chain.
func targetsOf(w Want) map[string]target {
	m := make(map[string]target, len(w.VIPs)+len(w.Ports))
	for _, v := range w.VIPs {
		t := vipTarget(v)
		m[t.chain] = t
	}
	for _, p := range w.Ports {
		t := portTarget(p)
		m[t.chain] = t
	}
	return m
}

func (b *batch) addTarget(t target) {
	b.conn.AddChain(&nftables.Chain{Name: t.chain, Table: b.table})
	b.choose(t)
	b.add(t.verdicts, []nftables.SetElement{t.element()})
}

func (t target) element() nftables.SetElement {
	return nftables.SetElement{Key: t.key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: t.chain}}
}

func (b *batch) removeTarget(t target) {
	c := &nftables.Chain{Name: t.chain, Table: b.table}
	b.remove(t.verdicts, []nftables.SetElement{t.element()})
	b.conn.FlushChain(c)
	b.conn.DelChain(c)
}

func (b *batch) changeTarget(t target) {
	b.conn.FlushChain(&nftables.Chain{Name: t.chain, Table: b.table})
	b.choose(t)
}

// choose fills a target's chain: for each family in which it has backends, one
// of them by chance. What leads to the chain has looked at the protocol.
func (b *batch) choose(t target) {
	c := &nftables.Chain{Name: t.chain, Table: b.table}
	for _, f := range families() {
		var list []netip.AddrPort
		for _, x := range t.backends {
			if x.Addr().Is4() == (f.nfproto == unix.NFPROTO_IPV4) {
				list = append(list, x)
			}
		}
		if len(list) == 0 {
			continue
		}
		match, second := []expr.Any(nil), uint32(0)
		if t.verdicts == mapPort {
			match, second = isFamily(f), f.second
		}
		b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: rule(match, b.pick(f, list, second), dnat(f, second))})
	}
}

// pick puts the address of a backend into reg, and its port into second.
func (b *batch) pick(f family, list []netip.AddrPort, second uint32) []expr.Any {
	if len(list) == 1 {
		one := []expr.Any{&expr.Immediate{Register: reg, Data: list[0].Addr().AsSlice()}}
		if second != 0 {
			one = append(one, &expr.Immediate{Register: second, Data: binary.BigEndian.AppendUint16(nil, list[0].Port())})
		}
		return one
	}
	data := f.addr
	if second != 0 {
		data = nftables.MustConcatSetType(f.addr, nftables.TypeInetService)
	}
	m := &nftables.Set{Table: b.table, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger, DataType: data, KeyByteOrder: binaryutil.NativeEndian}
	var elements []nftables.SetElement
	for i, x := range list {
		value := x.Addr().AsSlice()
		if second != 0 {
			value = append(binary.BigEndian.AppendUint16(value, x.Port()), 0, 0)
		}
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: value}) //nolint:gosec // small
	}
	b.note(b.conn.AddSet(m, elements))
	random := &expr.Numgen{Register: reg, Modulus: uint32(len(list)), Type: unix.NFT_NG_RANDOM} //nolint:gosec // small
	return rule([]expr.Any{random}, mapped(m))
}
