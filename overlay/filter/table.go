package filter

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is our table, of the family inet.
const TableName = "shoal"

// owned is the beginning of the names of all links of ours.
const owned = "shoal"

// maxElements of one message: a list of elements must fit 64 KiB.
const maxElements = 400

// Priorities of the base chains. Ours come before the engine's, which are at
// the standard ones: what we have translated it leaves alone.
const (
	prioGuard  = -310 // before connections are tracked
	prioZones  = -305
	prioMark   = -160 // after that
	prioDNAT   = -110
	prioFilter = -10
	prioSNAT   = 90
)

// batch is one transaction on our table.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  map[string]*nftables.Set
	err   error
}

func newBatch(conn *nftables.Conn) *batch {
	t := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	return &batch{conn: conn, table: t, sets: map[string]*nftables.Set{}}
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

// set names one that is there, or makes it, with its elements.
func (b *batch) set(s nftables.Set, elements []nftables.SetElement) {
	s.Table = b.table
	b.sets[s.Name] = &s
	first := elements[:min(len(elements), maxElements)]
	b.note(b.conn.AddSet(&s, first))
	b.add(s.Name, elements[len(first):])
}

func (b *batch) add(name string, elements []nftables.SetElement) {
	for len(elements) > 0 {
		n := min(len(elements), maxElements)
		b.note(b.conn.SetAddElements(b.known(name), elements[:n]))
		elements = elements[n:]
	}
}

func (b *batch) remove(name string, elements []nftables.SetElement) {
	for len(elements) > 0 {
		n := min(len(elements), maxElements)
		b.note(b.conn.SetDeleteElements(b.known(name), elements[:n]))
		elements = elements[n:]
	}
}

// known is a set of the table in the kernel, by its name.
func (b *batch) known(name string) *nftables.Set {
	if s := b.sets[name]; s != nil {
		return s
	}
	s := shapes()[name]
	s.Table, s.Name = b.table, name
	if name == mapZones {
		s.Table = zonesTable()
	}
	b.sets[name] = &s
	return &s
}

// The names of the table's sets and maps beside those of each family.
const (
	setPorts    = "ports"  // published ports
	mapPort     = "port"   // to the chain of each
	mapMarks    = "marks"  // of nodes, by MAC address
	setPeers4   = "peers4" // who may send VXLAN
	setPeers6   = "peers6"
	setVNIs     = "vnis"     // which are ours, unencrypted
	setGateways = "gateways" // where containers ask for names
)

// shapes are the sets and maps by name, without elements.
func shapes() map[string]nftables.Set {
	pair := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	m := map[string]nftables.Set{
		setPorts:    {KeyType: pair, Concatenation: true},
		mapPort:     {KeyType: pair, Concatenation: true, IsMap: true, DataType: nftables.TypeVerdict},
		mapMarks:    {KeyType: nftables.TypeEtherAddr, IsMap: true, DataType: nftables.TypeMark},
		mapZones:    {KeyType: nftables.TypeEtherAddr, IsMap: true, DataType: nftables.TypeInetService}, // any type of 16 bits
		setPeers4:   {KeyType: nftables.TypeIPAddr},
		setPeers6:   {KeyType: nftables.TypeIP6Addr},
		setVNIs:     {KeyType: nftables.TypeInteger},
		setGateways: {KeyType: nftables.TypeIPAddr},
	}
	for _, f := range families() {
		m[f.vips] = nftables.Set{KeyType: f.addr, IsMap: true, DataType: nftables.TypeVerdict}
		m[f.vipSet] = nftables.Set{KeyType: f.addr}
		m[f.own] = nftables.Set{KeyType: nftables.MustConcatSetType(f.addr, f.addr), Concatenation: true}
	}
	return m
}

func (b *batch) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int) func(...[]expr.Any) {
	c := b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: new(nftables.ChainPriority(priority))}) //nolint:gosec // small
	return func(parts ...[]expr.Any) {
		b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: rule(parts...)})
	}
}

// build makes the whole table in place of the one that there is.
func (b *batch) build(w Want) {
	b.conn.AddTable(b.table) // so that there is one to delete
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	elements := elementsOf(w)
	for name, shape := range shapes() {
		if name == mapZones {
			continue // stands in another table
		}
		shape.Name = name
		if shape.IsMap && shape.DataType == nftables.TypeVerdict {
			b.set(shape, nil) // the chains that it names come first
			continue
		}
		b.set(shape, elements[name])
	}
	b.guard(w)
	b.mark(w)
	for _, t := range targetsOf(w) {
		b.addTarget(t)
	}
	b.translate(w)
	b.refuseRest()
	b.forward(w)
}

// guard keeps out what must not come in, before connections are tracked.
func (b *batch) guard(w Want) {
	in4, in6 := b.sets[setPeers4], b.sets[setPeers6]
	pre := b.chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, prioGuard)
	pre(iif("lo"), accept())
	pre(proto(unix.IPPROTO_UDP), dport(uint16(w.SealedPort)), notIIF(w.TunnelLink), drop()) //nolint:gosec // a port
	// The number of the network stands behind 8 bytes of UDP and 4 of VXLAN; the
	// kernel itself refuses a last byte that is not 0.
	vni := []expr.Any{payload(expr.PayloadBaseTransportHeader, 12, 4, reg)}
	for i, f := range families() {
		peers := []*nftables.Set{in4, in6}[i]
		pre(isFamily(f), proto(unix.IPPROTO_UDP), dport(uint16(w.Port)), vni, in(b.sets[setVNIs]), []expr.Any{saddr(f)}, notIn(peers), drop()) //nolint:gosec // a port
	}
	v4 := families()[0]
	pre(isFamily(v4), []expr.Any{daddr(v4, reg)}, within(v4.loopback), drop())
	for _, pool := range w.MeshPools {
		f := familyOf(pool.Addr())
		pre(iifForeign(), isFamily(f), []expr.Any{daddr(f, reg)}, within(pool), drop())
	}
	out := b.chain("guard_out", nftables.ChainTypeFilter, nftables.ChainHookOutput, prioGuard)
	out(oif("lo"), accept())
	out(proto(unix.IPPROTO_UDP), dport(uint16(w.SealedPort)), notOIF(w.TunnelLink), drop()) //nolint:gosec // a port
}

// markSpace are the bits of a mark that say that it is ours.
const (
	markOurs  = 0x5a000000
	markSpace = 0xff000000
)

// mark notes which node a connection came by, and has its replies go back
// there.
func (b *batch) mark(w Want) {
	add := b.chain("origin", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, prioMark)
	source := []expr.Any{payload(expr.PayloadBaseLLHeader, 6, 6, reg)}
	keep := []expr.Any{&expr.Ct{Register: reg, Key: expr.CtKeyMARK, SourceRegister: true}}
	add(iif(w.MeshLink), ctDirection(0), source, mapped(b.sets[mapMarks]), keep)
	mark := []expr.Any{&expr.Ct{Register: reg, Key: expr.CtKeyMARK}}
	isOurs := []expr.Any{
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(markSpace), Xor: make([]byte, 4)},
		cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(markOurs)),
	}
	set := []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg}}
	add(iif(w.MeshBridge), ctDirection(1), mark, isOurs, mark, set)
}

// translate leads to backends, and keeps replies on their way.
func (b *batch) translate(w Want) {
	pre := b.chain("backends", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, prioDNAT)
	pre(notProto(unix.IPPROTO_TCP), notProto(unix.IPPROTO_UDP), verdict(expr.VerdictReturn)) // the rest is this host's
	v4 := families()[0]
	if w.Resolver.IsValid() {
		to := []expr.Any{
			&expr.Immediate{Register: reg, Data: w.Resolver.Addr().AsSlice()},
			&expr.Immediate{Register: second4, Data: binary.BigEndian.AppendUint16(nil, w.Resolver.Port())},
		}
		for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			pre(iifOurs(), isFamily(v4), []expr.Any{daddr(v4, reg)}, in(b.sets[setGateways]), proto(p), dport(53), to, dnat(v4, second4))
		}
	}
	for _, f := range families() {
		pre(isFamily(f), []expr.Any{daddr(f, reg)}, verdictOf(b.sets[f.vips]))
	}
	pre(toThisHost(), protoAndPort(), verdictOf(b.sets[mapPort]))
	out := b.chain("backends_out", nftables.ChainTypeNAT, nftables.ChainHookOutput, prioDNAT)
	// The kernel routes nothing from ::1 to another link, whatever it is turned
	// into: such calls are refused at once, and clients turn to 127.0.0.1.
	v6 := families()[1]
	out(isFamily(v6), []expr.Any{daddr(v6, reg)}, within(v6.loopback), accept())
	out(toThisHost(), protoAndPort(), verdictOf(b.sets[mapPort]))
	b.source(w)
}

// source changes source addresses in the two cases in which replies would not
// find back, and keeps the engine from changing others.
func (b *batch) source(w Want) {
	post := b.chain("sources", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, prioSNAT)
	masquerade := []expr.Any{&expr.Masq{}}
	for _, f := range families() {
		post(isFamily(f), []expr.Any{saddr(f), daddr(f, f.second)}, in(b.sets[f.own]), masquerade)
		for _, name := range []string{w.MeshBridge, w.MeshLink} {
			post(oif(name), isFamily(f), []expr.Any{saddr(f)}, within(f.loopback), masquerade)
		}
	}
	for _, h := range w.Homes {
		f := familyOf(h.Addr)
		same := []expr.Any{saddr(f), cmp(expr.CmpOpEq, h.Addr.AsSlice()), daddr(f, reg)}
		post(oif(w.MeshLink), isFamily(f), same, within(h.Mesh), masquerade)
	}
	for _, pool := range w.MeshPools {
		f := familyOf(pool.Addr())
		stay := []expr.Any{saddr(f), &expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.nat, RegAddrMin: reg}}
		post(oif(w.MeshLink), isFamily(f), []expr.Any{saddr(f)}, within(pool), stay)
	}
}

// refuseRest answers for services and ports that nobody serves: packets to
// them that no backend took arrive at this host itself.
func (b *batch) refuseRest() {
	add := b.chain("refusals", nftables.ChainTypeFilter, nftables.ChainHookInput, prioFilter)
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, f := range families() {
			add(isFamily(f), []expr.Any{daddr(f, reg)}, in(b.sets[f.vipSet]), refuse(p))
		}
		add(proto(p), toThisHost(), protoAndPort(), in(b.sets[setPorts]), refuse(p))
	}
}

func (b *batch) forward(w Want) {
	add := b.chain("segments", nftables.ChainTypeFilter, nftables.ChainHookForward, prioFilter)
	add(oif(w.MeshLink), clampMSS())
	add(iif(w.MeshLink), clampMSS())
}

// elementsOf are the elements of all sets and maps but those of verdicts.
func elementsOf(w Want) map[string][]nftables.SetElement {
	m := map[string][]nftables.SetElement{}
	add := func(name string, key []byte) { m[name] = append(m[name], nftables.SetElement{Key: key}) }
	for _, v := range w.VIPs {
		add(familyOf(v.Addr).vipSet, v.Addr.AsSlice())
	}
	for _, p := range w.Ports {
		add(setPorts, portKey(protocolOf(p.Protocol), p.Port))
	}
	for _, a := range w.Local {
		add(familyOf(a).own, append(a.AsSlice(), a.AsSlice()...))
	}
	for _, a := range unmapped(w.Peers) {
		if a.Is4() {
			add(setPeers4, a.AsSlice())
		} else {
			add(setPeers6, a.AsSlice())
		}
	}
	for _, vni := range w.VNIs {
		add(setVNIs, binary.BigEndian.AppendUint32(nil, vni<<8))
	}
	for _, a := range w.Gateways {
		if a.Is4() {
			add(setGateways, a.AsSlice())
		}
	}
	for _, x := range w.Marks {
		m[mapMarks] = append(m[mapMarks], nftables.SetElement{Key: x.MAC, Val: binaryutil.NativeEndian.PutUint32(x.Mark)})
		m[mapZones] = append(m[mapZones], nftables.SetElement{Key: x.MAC, Val: zoneOf(x.Mark)})
	}
	for name := range m {
		m[name] = unique(m[name])
	}
	return m
}

func unmapped(list []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		if a.IsValid() {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// unique leaves out the second of two elements with one key: the kernel
// refuses the whole transaction otherwise.
func unique(list []nftables.SetElement) []nftables.SetElement {
	seen := make(map[string]bool, len(list))
	kept := list[:0]
	for _, e := range list {
		if !seen[string(e.Key)] {
			seen[string(e.Key)] = true
			kept = append(kept, e)
		}
	}
	return kept
}
