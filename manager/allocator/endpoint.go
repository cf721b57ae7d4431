package allocator

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// Endpoint returns the endpoint that belongs to the spec of s: its ports, and
// an address on each network if it has any. Of the endpoint that s has, it
// keeps what the spec still asks for. An error says what is taken, by whom, or
// what is used up.
func Endpoint(v *state.View, s *state.Service) (swarm.Endpoint, error) {
	e, lack := newGiver(v).endpoint(s)
	if lack != nil {
		return swarm.Endpoint{}, lack.err
	}
	return e, nil
}

// shortage is why something cannot be given now.
type shortage struct {
	key string // the network, or "" for ingress, that has to change
	err error
}

func (g *giver) endpoint(s *state.Service) (e swarm.Endpoint, lack *shortage) {
	spec := swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP}
	if s.Spec.EndpointSpec != nil {
		spec = *s.Spec.EndpointSpec
	}
	if len(spec.Ports) == 0 && len(state.OverlaysOf(&s.Spec)) == 0 {
		return swarm.Endpoint{}, nil // as in Docker Swarm
	}
	ports, err := g.published(s, spec.Ports)
	if err != nil {
		return swarm.Endpoint{}, &shortage{err: err}
	}
	e = swarm.Endpoint{Spec: spec, Ports: ports}
	if spec.Mode != swarm.ResolutionModeDNSRR {
		e.VirtualIPs, lack = g.virtualIPs(s)
	}
	if lack != nil {
		return swarm.Endpoint{}, lack
	}
	g.claim(s, e)
	return e, nil
}

// claim notes what was given, for those that come later.
func (g *giver) claim(s *state.Service, e swarm.Endpoint) {
	for _, p := range e.Ports {
		if p.PublishedPort != 0 {
			key := state.PortKey(p.Protocol, p.PublishedPort)
			g.ports[key] = append(g.ports[key], owner{s, p.PublishMode})
		}
	}
}

// virtualIPs are those of s: on ingress if it publishes ports, then on its
// networks in the order of the spec.
func (g *giver) virtualIPs(s *state.Service) (vips []swarm.EndpointVirtualIP, lack *shortage) {
	if state.Publishes(&s.Spec) {
		n := g.view.Ingress()
		if n == nil {
			return nil, noIngress()
		}
		// Nobody needs this address, clients only expect to see one: that there
		// are none left must not limit how many services publish ports.
		vips, _ = g.onNetwork(s, n)
	}
	var given []netip.Prefix
	for _, id := range state.OverlaysOf(&s.Spec) {
		n := g.view.Network(id)
		if n == nil {
			g.takeBack(given)
			return nil, noNetwork(id)
		}
		here, family := g.onNetwork(s, n)
		vips = append(vips, here...)
		for _, vip := range here {
			given = append(given, netip.MustParsePrefix(vip.Addr))
		}
		if family != nil {
			g.takeBack(given)
			return nil, &shortage{key: id, err: g.exhausted(n, family)}
		}
	}
	return vips, nil
}

func noIngress() *shortage {
	return &shortage{err: errdefs.ErrFailedPrecondition.WithMessage(
		"service needs ingress network, but no ingress network is present: create one with docker network create --ingress --driver overlay, or publish with mode=host")}
}

func noNetwork(id string) *shortage {
	return &shortage{key: id, err: errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("network %s not found", id))}
}

// onNetwork gives s an address of each family of a network, those that it has
// before others. full is the family that has none left.
func (g *giver) onNetwork(s *state.Service, n *state.Network) (vips []swarm.EndpointVirtualIP, full []space) {
	for _, family := range families(n) {
		a, ok := held(s, n.ID, family)
		if !ok {
			a, ok = g.address(family, 0)
		}
		if !ok {
			return vips, family
		}
		vips = append(vips, swarm.EndpointVirtualIP{NetworkID: n.ID, Addr: a.String()})
	}
	return vips, nil
}

// held is the address of a family that s has already.
func held(s *state.Service, networkID string, family []space) (netip.Prefix, bool) {
	for _, vip := range s.Endpoint.VirtualIPs {
		if vip.NetworkID != networkID {
			continue
		}
		a, err := netip.ParsePrefix(vip.Addr)
		for _, space := range family {
			if err == nil && space.has(a.Addr()) {
				return a, true
			}
		}
	}
	return netip.Prefix{}, false
}
