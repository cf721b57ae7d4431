package allocator

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// The ports that are given to those who do not ask for a certain one: Docker
// Swarm's.
const (
	firstDynamic = 30000
	lastDynamic  = 32767
)

// owner is a service that publishes a port.
type owner struct {
	service *state.Service
	mode    swarm.PortConfigPublishMode
}

// owners are the other services that publish a port, in either mode.
func (g *giver) owners(s *state.Service, key string, p swarm.PortConfig) (owners []owner) {
	for o := range g.view.ServicesOfPort(p.Protocol, p.PublishedPort) {
		if o.ID == s.ID {
			continue
		}
		for _, q := range o.Endpoint.Ports {
			if q.Protocol == p.Protocol && q.PublishedPort == p.PublishedPort {
				owners = append(owners, owner{o, q.PublishMode})
				break
			}
		}
	}
	for _, o := range g.ports[key] {
		if o.service.ID != s.ID {
			owners = append(owners, o)
		}
	}
	return owners
}

// published are the ports of s as they are published: those of the spec, with
// a port of the dynamic range for each that leaves it open.
func (g *giver) published(s *state.Service, spec []swarm.PortConfig) ([]swarm.PortConfig, error) {
	mine := map[string]bool{}
	for _, p := range spec {
		if p.PublishedPort == 0 {
			continue
		}
		key := state.PortKey(p.Protocol, p.PublishedPort)
		mine[key] = true
		for _, o := range g.owners(s, key, p) {
			if o.mode != swarm.PortConfigPublishModeHost || p.PublishMode != swarm.PortConfigPublishModeHost {
				return nil, inUse(p.PublishedPort, o)
			}
		}
	}
	var ports []swarm.PortConfig
	for _, p := range spec {
		// In host mode each node chooses, and reports it in the task's status.
		if p.PublishedPort == 0 && p.PublishMode != swarm.PortConfigPublishModeHost {
			if p.PublishedPort = g.dynamic(s, p, mine); p.PublishedPort == 0 {
				return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
					"no %s port from %d to %d is free: publish a port of your choice, or remove a service that publishes one of them",
					p.Protocol, firstDynamic, lastDynamic))
			}
			mine[state.PortKey(p.Protocol, p.PublishedPort)] = true
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// inUse is in Docker Swarm's words.
func inUse(port uint32, o owner) error {
	as := "as an ingress port"
	if o.mode == swarm.PortConfigPublishModeHost {
		as = "as a host-published port"
	}
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
		"port '%d' is already in use by service '%s' (%s) %s", port, o.service.Spec.Name, o.service.ID, as))
}

// dynamic chooses a port for p: the one that its entry has, else the lowest
// that nobody has; 0: there is none.
func (g *giver) dynamic(s *state.Service, p swarm.PortConfig, mine map[string]bool) uint32 {
	free := func(port uint32) bool {
		p.PublishedPort = port
		key := state.PortKey(p.Protocol, port)
		return !mine[key] && len(g.owners(s, key, p)) == 0
	}
	for _, old := range s.Endpoint.Ports {
		same := old.Name == p.Name && old.Protocol == p.Protocol && old.TargetPort == p.TargetPort && old.PublishMode == p.PublishMode
		if same && firstDynamic <= old.PublishedPort && old.PublishedPort <= lastDynamic && free(old.PublishedPort) {
			return old.PublishedPort
		}
	}
	for port := uint32(firstDynamic); port <= lastDynamic; port++ {
		if free(port) {
			return port
		}
	}
	return 0
}
