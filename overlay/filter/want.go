package filter

import (
	"net"
	"net/netip"
)

// Want is all that the node's table of nftables should do.
type Want struct {
	// The names of links: the gateway network's bridge, the VXLAN between these,
	// the tunnel, and the bridges of cluster networks.
	MeshBridge, MeshLink, TunnelLink string
	Bridges                          []string
	MeshPools                        []netip.Prefix // that all gateway networks are in

	VIPs  []VIP
	Ports []Port
	// Local are the endpoints of this node, in order, each once: one that calls its
	// own service and picks itself needs a masquerade.
	Local []netip.Addr
	// Known are all endpoints that may have connections, in order, each once. One
	// that is here no more has its flows removed, so that they are reset and not left hanging.
	Known []netip.Addr

	// Gateways are the addresses at which containers ask for names: UDP and TCP
	// 53 there goes to Resolver.
	Gateways []netip.Addr
	Resolver netip.AddrPort // zero: there is none

	// Marks are the nodes that packets come from over MeshLink: connections get
	// the mark, and replies from MeshBridge take it for policy routing.
	Marks []Mark

	// Homes are the other nodes' addresses and gateway networks. A connection from
	// a node, or from a container behind it, that a published port would lead back
	// to a container of the same node is masqueraded: there, its source is an
	// address of the node itself, and replies would never leave it.
	Homes []Home

	// VXLAN with one of VNIs is taken from Peers only.
	Port  int
	VNIs  []uint32
	Peers []netip.Addr
	// SealedPort is VXLAN that passes through TunnelLink and nowhere else.
	SealedPort int
}

// VIP is an address of a service: any TCP or UDP port of it goes to the same
// port of one of the backends, which are of the same family; without one it is
// refused (reset, port unreachable).
type VIP struct {
	Addr     netip.Addr
	Backends []netip.Addr
}

// Port is a published one: at any address of this node it goes to a backend of
// the same family. One without backends of a family is refused.
type Port struct {
	Protocol string // tcp or udp
	Port     uint16
	Backends []netip.AddrPort
}

// Home is a node's address and its gateway network of the same family.
type Home struct {
	Addr netip.Addr
	Mesh netip.Prefix
}

// Mark says what packets from a MAC address get.
type Mark struct {
	MAC  net.HardwareAddr
	Mark uint32
}

// MarkMask covers the bits of a mark that are shoal's.
const MarkMask = 0xff00ffff

// Result is what a comparison found.
type Result struct {
	Compared int
	Repaired []string // what differed, one line each
	Taken    []string // published ports that a foreign process holds: "tcp/8080"
}
