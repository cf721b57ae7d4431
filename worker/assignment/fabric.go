package assignment

import (
	"maps"
	"net/netip"
)

// Fabric is what a node must know of the cluster's networks, or a change of
// it: every peer, the networks of its own tasks and attachments, the services
// on them and those that publish ports, and the endpoints of both.
type Fabric struct {
	// Full says that this is all: forget everything else.
	Full   bool          `json:"full,omitempty"`
	Config *FabricConfig `json:"config,omitempty"` // replaces the last one

	Peers     []Peer     `json:"peers,omitempty"` // new or changed; this node too
	Networks  []Network  `json:"networks,omitempty"`
	Services  []Service  `json:"services,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Gone      *Gone      `json:"gone,omitempty"`
}

// Gone lists the ids of what is no more, or no more this node's business.
type Gone struct {
	Peers     []string `json:"peers,omitempty"`
	Networks  []string `json:"networks,omitempty"`
	Services  []string `json:"services,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`
}

// FabricConfig is what holds for the whole cluster.
type FabricConfig struct {
	Port int          `json:"port"` // of VXLAN, UDP
	Pool netip.Prefix `json:"pool"` // all nodes' Mesh subnets are inside
	// Keys are what the preshared keys of tunnels come from, newest first. They
	// are secret: never log them.
	Keys [][]byte `json:"keys,omitempty"`
}

// Peer is a node as the data plane sees it.
type Peer struct {
	NodeID string     `json:"nodeID"`
	Name   string     `json:"name"` // hostname
	Addr   netip.Addr `json:"addr"` // where its packets come from and go to
	// Index numbers its place in the mesh, from 1; 0: it has none yet.
	Index int `json:"index,omitempty"`
	// Mesh are the subnets of its gateway network, one for each family.
	Mesh []netip.Prefix `json:"mesh,omitempty"`
	// TunnelKey is its WireGuard public key; none: it cannot encrypt.
	TunnelKey []byte `json:"tunnelKey,omitempty"`
}

// Network is a cluster network that this node is on.
type Network struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	VNI        uint32            `json:"vni"`
	Pools      []Pool            `json:"pools"`         // IPv4 first
	MTU        int               `json:"mtu,omitempty"` // 0: what fits this node
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	Encrypted  bool              `json:"encrypted,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Pool is a subnet of a network.
type Pool struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
}

// Service is a service that endpoints of this node, or clients of its
// published ports, may ask for.
type Service struct {
	ID       string           `json:"id"`
	Name     string           `json:"name"`
	Stack    string           `json:"stack,omitempty"` // com.docker.stack.namespace
	DNSRR    bool             `json:"dnsrr,omitempty"` // its name means its tasks, not a VIP
	Networks []ServiceNetwork `json:"networks,omitempty"`
	Ports    []Port           `json:"ports,omitempty"` // published on all nodes
}

// ServiceNetwork is a service on one network.
type ServiceNetwork struct {
	NetworkID string       `json:"networkID"`
	VIPs      []netip.Addr `json:"vips,omitempty"` // one for each family
	Aliases   []string     `json:"aliases,omitempty"`
}

// Port is a port that every node answers on.
type Port struct {
	Protocol  string `json:"protocol"` // tcp or udp
	Published uint16 `json:"published"`
	Target    uint16 `json:"target"`
}

// Endpoint is a task, or an attached container, that has or may get a
// container with addresses.
type Endpoint struct {
	ID          string            `json:"id"`                  // of the task or attachment
	ServiceID   string            `json:"serviceID,omitempty"` // none: an attachment
	Slot        int               `json:"slot,omitempty"`
	Name        string            `json:"name"` // of the container
	ContainerID string            `json:"containerID,omitempty"`
	NodeID      string            `json:"nodeID"`
	Networks    []EndpointNetwork `json:"networks,omitempty"`
	// Mesh are its addresses on its node's gateway network, once they are known.
	Mesh []netip.Addr `json:"mesh,omitempty"`
	// Serving says that it is healthy and wanted: new connections may go to it.
	// Others keep those they have.
	Serving bool `json:"serving,omitempty"`
}

// EndpointNetwork is an endpoint on one network.
type EndpointNetwork struct {
	NetworkID string       `json:"networkID"`
	Addrs     []netip.Addr `json:"addrs"`
	Aliases   []string     `json:"aliases,omitempty"` // of this endpoint alone
}

// Known is what a node knows of the fabric: all changes up to an index, put
// together. It is a value: With returns a new one, which shares what is the same.
type Known struct {
	Config    FabricConfig        `json:"config"`
	Peers     map[string]Peer     `json:"peers,omitempty"`
	Networks  map[string]Network  `json:"networks,omitempty"`
	Services  map[string]Service  `json:"services,omitempty"`
	Endpoints map[string]Endpoint `json:"endpoints,omitempty"`
}

// With returns what is known after a change.
func (k Known) With(f Fabric) Known {
	if f.Full {
		k = Known{Config: k.Config}
	}
	if f.Config != nil {
		k.Config = *f.Config
	}
	var gone Gone
	if f.Gone != nil {
		gone = *f.Gone
	}
	k.Peers = merged(k.Peers, f.Peers, gone.Peers, func(p Peer) string { return p.NodeID })
	k.Networks = merged(k.Networks, f.Networks, gone.Networks, func(n Network) string { return n.ID })
	k.Services = merged(k.Services, f.Services, gone.Services, func(s Service) string { return s.ID })
	k.Endpoints = merged(k.Endpoints, f.Endpoints, gone.Endpoints, func(e Endpoint) string { return e.ID })
	return k
}

func merged[T any](old map[string]T, put []T, gone []string, key func(T) string) map[string]T {
	if len(put)+len(gone) == 0 {
		return old
	}
	next := maps.Clone(old)
	if next == nil {
		next = map[string]T{}
	}
	for _, id := range gone {
		delete(next, id)
	}
	for _, o := range put {
		next[key(o)] = o
	}
	return next
}
