package check

import (
	"net/netip"
	"time"
)

// Path is where a node answers a Request, to managers only.
const Path = "/rpc/doctor"

// Request is what the leader asks a node for.
type Request struct {
	Self    Peer           `json:"self"`
	Peers   []Peer         `json:"peers"`         // the other nodes
	Pool    netip.Prefix   `json:"pool,omitzero"` // that all mesh addresses are in
	Subnets []netip.Prefix `json:"subnets"`       // of the cluster's networks
	Pools   []netip.Prefix `json:"pools"`         // that networks are taken from
	Port    int            `json:"port"`          // of VXLAN
	// Window is how long the node answers others' probes: all are asked at about
	// the same time.
	Window time.Duration `json:"window"`
}

// Peer is a node to probe.
type Peer struct {
	NodeID string     `json:"nodeID"`
	Addr   string     `json:"addr"`          // host:port of its cluster listener
	Mesh   netip.Addr `json:"mesh,omitzero"` // its own address in the mesh; zero: it has none yet
}

// Report is what a node answers.
type Report struct {
	NodeID   string    `json:"nodeID"`
	Received time.Time `json:"received"`
	Sent     time.Time `json:"sent"` // both on the node's own clock
	Findings []Finding `json:"findings"`
	// Audited says that the data plane was compared with what should be.
	Audited     bool     `json:"audited"`
	Compared    int      `json:"compared"`
	Differences []string `json:"differences,omitempty"` // found and repaired
	AuditError  string   `json:"auditError,omitempty"`
	Links       []Link   `json:"links,omitempty"`
}

// Link is the way from the node to a peer.
type Link struct {
	NodeID   string        `json:"nodeID"`          // of the peer
	RTT      time.Duration `json:"rtt"`             // of a TCP connection with its handshake; 0: there was none
	Error    string        `json:"error,omitempty"` // why not
	MTU      int           `json:"mtu,omitempty"`   // of the path, as far as the kernel was told
	Mesh     MeshLink      `json:"mesh"`
	HasMesh  bool          `json:"hasMesh"`            // both ends have a mesh address, so Mesh was tried
	LocalMTU int           `json:"localMTU,omitempty"` // of this node's mesh device
}

// MeshLink is what gets through the mesh.
type MeshLink struct {
	RTT time.Duration `json:"rtt"` // 0: nothing came back
	MTU int           `json:"mtu"` // largest packet that came back
}
