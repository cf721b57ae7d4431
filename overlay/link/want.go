package link

import (
	"net"
	"net/netip"
)

// Want is all that should be in the kernel, below names that begin with
// "shoal". What is owned and not wanted is removed.
//
// Owned are: VXLAN devices with such a name; every forwarding entry and
// permanent neighbour on wanted VXLANs and bridges; on bridges the /32 and /128
// addresses (the engine's own has the length of its subnet), on other links of
// ours all; routes and rules with Protocol.
type Want struct {
	VXLANs     []VXLAN
	Bridges    []Bridge
	Addrs      []Addr
	Forwards   []Forward
	Neighbours []Neighbour
	Routes     []Route
	Rules      []Rule
	Sysctls    []Sysctl
}

// Protocol marks routes and rules as ours: unused in rtnetlink's list.
const Protocol = 0x5a

// VXLAN is a device without learning. With Master it is a port of that bridge:
// learning and flooding off, ARP and ND suppressed.
type VXLAN struct {
	Name   string
	VNI    uint32
	Local  netip.Addr
	Port   int
	MTU    int
	MAC    net.HardwareAddr // nil: the kernel's choice
	Master string           // bridge; without that bridge the device waits
}

// Bridge is one that the engine has made, or will make: it is set up, never
// created or removed.
type Bridge struct {
	Name string
	MTU  int // 0: as it is
}

// Addr is an address to hold on a link.
type Addr struct {
	Link   string
	Prefix netip.Prefix
}

// Forward says behind which node a MAC address is: an entry of a VXLAN device
// and, if that is a port of a bridge, a static one of the bridge.
type Forward struct {
	Link string // VXLAN
	MAC  [6]byte
	Dst  netip.Addr
}

// Neighbour is a permanent entry.
type Neighbour struct {
	Link string
	IP   netip.Addr
	MAC  [6]byte
}

// Route is one in the main table, or in Table if that is not 0.
type Route struct {
	Dst       netip.Prefix
	Link      string
	Via       netip.Addr // on Link, whatever its addresses (onlink); zero: directly
	Table     int
	Blackhole bool // of last resort: Link and Via are not used
}

// Rule is one of policy routing, for both families if V6.
type Rule struct {
	Priority int
	IIF      string
	Mark     uint32
	Mask     uint32
	Table    int // 0: go to Goto instead
	Goto     int
	V6       bool
}

// Sysctl is a file below /proc/sys or /sys and what it should hold. One whose
// directory does not exist (yet) waits.
type Sysctl struct{ Path, Value string }

// Result is what a comparison found.
type Result struct {
	Compared int      // things looked at
	Repaired []string // what differed, one line each: "route 10.0.0.0/24 missing"; not what hangs on a bridge that has come
	Waiting  []string // what cannot be done before the engine has made a bridge
}
