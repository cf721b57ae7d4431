package check

import (
	"net/netip"
	"time"
)

// Path is where a node answers a Request, to managers only.
const Path = "/rpc/doctor"

// Request is what the leader asks a node for.
type Request struct {
	Self    Peer
	Peers   []Peer         // the other nodes
	Pool    netip.Prefix   // that all mesh addresses are in
	Subnets []netip.Prefix // of the cluster's networks
	Pools   []netip.Prefix // that networks are taken from
	Port    int            // of VXLAN
	// Window is how long the node answers others' probes: all are asked at about
	// the same time.
	Window time.Duration
}

// Peer is a node to probe.
type Peer struct {
	NodeID string
	Addr   string     // host:port of its cluster listener
	Mesh   netip.Addr // its own address in the mesh; zero: it has none yet
}

// Report is what a node answers.
type Report struct {
	NodeID         string
	Received, Sent time.Time // on the node's own clock
	Findings       []Finding
	// Audited says that the data plane was compared with what should be.
	Audited     bool
	Compared    int
	Differences []string `json:",omitempty"` // found and repaired
	AuditError  string   `json:",omitempty"`
	Links       []Link   `json:",omitempty"`
}

// Link is the way from the node to a peer.
type Link struct {
	NodeID   string        // of the peer
	RTT      time.Duration // of a TCP connection with its handshake; 0: there was none
	Error    string        `json:",omitempty"` // why not
	MTU      int           `json:",omitempty"` // of the path, as far as the kernel was told
	Mesh     MeshLink
	HasMesh  bool // both ends have a mesh address, so Mesh was tried
	LocalMTU int  `json:",omitempty"` // of this node's mesh device
}

// MeshLink is what gets through the mesh.
type MeshLink struct {
	RTT time.Duration // 0: nothing came back
	MTU int           // largest packet that came back
}
