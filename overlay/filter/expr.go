package filter

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of a rule: the first, and the ones of 32 bits behind it, in which
// the parts of a concatenation stand.
const (
	reg      = 1
	second4  = 9 // behind a part of up to 4 bytes
	second16 = 2 // behind one of 16
)

// family is what rules of IPv4 and IPv6 differ in.
type family struct {
	nfproto           byte
	nat               uint32
	src, dst, length  uint32 // of addresses in the header
	second            uint32 // register behind an address
	addr              nftables.SetDatatype
	loopback          netip.Prefix
	vips, vipSet, own string // names of sets and maps
}

func families() []family {
	return []family{
		{unix.NFPROTO_IPV4, unix.NFPROTO_IPV4, 12, 16, 4, second4, nftables.TypeIPAddr, netip.MustParsePrefix("127.0.0.0/8"), "vip4", "vips4", "self4"},
		{unix.NFPROTO_IPV6, unix.NFPROTO_IPV6, 8, 24, 16, second16, nftables.TypeIP6Addr, netip.MustParsePrefix("::1/128"), "vip6", "vips6", "self6"},
	}
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return families()[0]
	}
	return families()[1]
}

// rule is a list of expressions, put together from parts.
func rule(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func cmp(op expr.CmpOp, data []byte) expr.Any { return &expr.Cmp{Op: op, Register: reg, Data: data} }

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg}, cmp(op, data)}
}

// linkName is a name as the kernel compares it: with everything behind it.
func linkName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func iif(name string) []expr.Any { return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkName(name)) }

func notIIF(name string) []expr.Any { return meta(expr.MetaKeyIIFNAME, expr.CmpOpNeq, linkName(name)) }

func oif(name string) []expr.Any { return meta(expr.MetaKeyOIFNAME, expr.CmpOpEq, linkName(name)) }

func notOIF(name string) []expr.Any { return meta(expr.MetaKeyOIFNAME, expr.CmpOpNeq, linkName(name)) }

// ours is a link whose name begins as all of ours do.
func iifOurs() []expr.Any    { return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, []byte(owned)) }
func iifForeign() []expr.Any { return meta(expr.MetaKeyIIFNAME, expr.CmpOpNeq, []byte(owned)) }

func isFamily(f family) []expr.Any {
	return meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{f.nfproto})
}

func proto(p byte) []expr.Any { return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{p}) }

func notProto(p byte) []expr.Any { return meta(expr.MetaKeyL4PROTO, expr.CmpOpNeq, []byte{p}) }

func payload(base expr.PayloadBase, offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

func saddr(f family) expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, f.src, f.length, reg)
}

func daddr(f family, register uint32) expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, f.dst, f.length, register)
}

func dport(port uint16) []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseTransportHeader, 2, 2, reg), cmp(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, port))}
}

// within compares the address in reg with a prefix.
func within(p netip.Prefix) []expr.Any {
	return rule(mask(p), []expr.Any{cmp(expr.CmpOpEq, p.Masked().Addr().AsSlice())})
}

func mask(p netip.Prefix) []expr.Any {
	bits := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		bits[i/8] |= 1 << (7 - i%8)
	}
	return []expr.Any{&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(len(bits)), Mask: bits, Xor: make([]byte, len(bits))}} //nolint:gosec // 4 or 16
}

// in looks reg up in a set.
func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID}}
}

func notIn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: true}}
}

// verdictOf goes where a verdict map says for reg.
func verdictOf(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, DestRegister: 0, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}
}

// mapped replaces reg by what a map has for it.
func mapped(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
func drop() []expr.Any                         { return verdict(expr.VerdictDrop) }
func accept() []expr.Any                       { return verdict(expr.VerdictAccept) }

// toThisHost is for packets to any address of this host.
func toThisHost() []expr.Any {
	return []expr.Any{&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true}, cmp(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL))}
}

// protoAndPort puts the protocol and the destination port into reg, as the key
// of the published ports.
func protoAndPort() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, payload(expr.PayloadBaseTransportHeader, 2, 2, second4)}
}

func portKey(protocol byte, port uint16) []byte {
	return []byte{protocol, 0, 0, 0, byte(port >> 8), byte(port), 0, 0}
}

func protocolOf(name string) byte {
	if name == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// ctDirection is for packets that go the way of a connection's first, or back.
func ctDirection(reply byte) []expr.Any {
	return []expr.Any{&expr.Ct{Register: reg, Key: expr.CtKeyDIRECTION}, cmp(expr.CmpOpEq, []byte{reply})}
}

// dnat sends to the address in reg, and the port in second if that is not 0.
func dnat(f family, second uint32) []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.nat, RegAddrMin: reg, RegProtoMin: second}}
}

// The kernel's numbers of ways to refuse.
const (
	rejectReset       = 1 // NFT_REJECT_TCP_RST
	rejectUnreachable = 2 // NFT_REJECT_ICMPX_UNREACH
	portUnreachable   = 1 // NFT_REJECT_ICMPX_PORT_UNREACH
)

// refuse answers as a host does on which nobody listens.
func refuse(protocol byte) []expr.Any {
	if protocol == unix.IPPROTO_TCP {
		return rule(proto(protocol), []expr.Any{&expr.Reject{Type: rejectReset}})
	}
	return rule(proto(protocol), []expr.Any{&expr.Reject{Type: rejectUnreachable, Code: portUnreachable}})
}

// clampMSS makes TCP fit the route that a packet takes.
func clampMSS() []expr.Any {
	const flags, syn, rst = 13, 2, 4
	return rule(proto(unix.IPPROTO_TCP), []expr.Any{
		payload(expr.PayloadBaseTransportHeader, flags, 1, reg),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
		cmp(expr.CmpOpEq, []byte{syn}),
		&expr.Rt{Register: reg, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: reg, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	})
}
