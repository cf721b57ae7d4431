package engine

import (
	"net/netip"

	"github.com/docker/docker/api/types/network"
)

// NetworkSpec is a bridge network of the engine, as it is or is to be.
type NetworkSpec struct {
	Name     string
	Bridge   string   // name of the link
	Subnets  []Subnet // one for each family, IPv4 first
	Internal bool
	MTU      int // 0: the engine's default
	Labels   map[string]string
}

// Subnet is where containers of a network get addresses.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
	// Range is what addresses are taken from that nobody asked for; zero: all.
	// With that of the gateway alone, each container must bring its address.
	Range netip.Prefix
	// Reserved are addresses that are never taken.
	Reserved []netip.Addr
}

// Network is a network that the engine has.
type Network struct {
	ID string
	NetworkSpec
	// Containers are the ids of those that run and are connected. Only
	// InspectNetwork tells.
	Containers []string
}

// Endpoint is a container's place on a network.
type Endpoint struct {
	NetworkID string
	Addrs     []netip.Addr // one for each family; none: the engine's choice
}

// Attachment is what a container is connected to.
type Attachment struct {
	Endpoints []Endpoint   // none: what its NetworkMode says
	DNS       []netip.Addr // resolvers that it asks first
}

// endpointsLabel holds how many networks a container is to be connected to: one
// whose creation broke off in between has fewer.
const endpointsLabel = "shoal.endpoints"

// mac is the address that the bridge driver gave a container before engine API
// 1.44: it follows from the IPv4 address, so that all nodes know it.
func (e Endpoint) mac() string {
	for _, a := range e.Addrs {
		if a.Is4() {
			return hardware(a)
		}
	}
	return ""
}

func (e Endpoint) settings(withMAC bool) *network.EndpointSettings {
	s := &network.EndpointSettings{}
	if len(e.Addrs) > 0 {
		s.IPAMConfig = &network.EndpointIPAMConfig{}
	}
	for _, a := range e.Addrs {
		if a.Is4() {
			s.IPAMConfig.IPv4Address = a.String()
		} else {
			s.IPAMConfig.IPv6Address = a.String()
		}
	}
	if withMAC {
		s.MacAddress = e.mac()
	}
	return s
}
