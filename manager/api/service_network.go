package api

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/manager/allocator"
	"shoal/raftstore/state"
)

// validateNetworks checks what can be said of a spec's networks without
// looking for them.
func validateNetworks(spec *swarm.ServiceSpec) error {
	networks := spec.TaskTemplate.Networks
	for i, n := range networks {
		field := fmt.Sprintf("TaskTemplate.Networks[%d]", i)
		switch predefined := state.Predefined(n.Target); {
		case n.Target == "":
			return invalid("invalid %s.Target: it is empty", field)
		case len(n.DriverOpts) > 0:
			return unsupported(field+".DriverOpts", "the network's own options hold for all that is on it, leave it out")
		case predefined && len(networks) > 1:
			return invalid("invalid %s.Target: a service on network %s can be on no other", field, n.Target)
		case predefined && len(n.Aliases) > 0:
			return unsupported(field+".Aliases", "network "+n.Target+" has no names, leave it out")
		case predefined && n.Target != "bridge" && spec.EndpointSpec != nil && len(spec.EndpointSpec.Ports) > 0:
			return invalid("EndpointSpec.Ports: tasks on network %s cannot publish ports", n.Target)
		case predefined && state.Publishes(spec):
			return invalid("EndpointSpec.Ports: tasks on network %s can publish ports with mode=host only", n.Target)
		case slices.ContainsFunc(n.Aliases, func(a string) bool { return !isAlias(a) }):
			return invalid("invalid %s.Aliases: %q: a name has letters, digits, '-', '_' and '.'", field, n.Aliases)
		}
	}
	return nil
}

// isAlias: what containers may ask for.
func isAlias(name string) bool {
	return name != "" && len(name) <= 253 && every(name, func(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' || c == '.' })
}

// resolveNetworks replaces the names of networks in a spec by their ids.
func resolveNetworks(v *state.View, spec *swarm.ServiceSpec) error {
	seen := map[string]bool{}
	networks := slices.Clone(spec.TaskTemplate.Networks)
	for i := range networks {
		at := &networks[i]
		if state.Predefined(at.Target) {
			continue
		}
		n, err := findNetwork(v, at.Target)
		if errdefs.IsNotFound(err) {
			return failed("%v", err) // 500, as Swarm
		}
		if err != nil {
			return err
		}
		if n.Spec.Ingress {
			return rpcInvalid("Service cannot be explicitly attached to the ingress network %q", n.Spec.Name)
		}
		if seen[n.ID] {
			return invalid("TaskTemplate.Networks: network %s is named twice", n.Spec.Name)
		}
		seen[n.ID] = true
		at.Target = n.ID
	}
	spec.TaskTemplate.Networks = networks
	return nil
}

// allocate gives a service the endpoint that its spec asks for.
func allocate(v *state.View, s *state.Service) error {
	e, err := allocator.Endpoint(v, s)
	switch {
	case errdefs.IsInvalidArgument(err):
		return rpcInvalid("%v", err)
	case errdefs.IsFailedPrecondition(err):
		return rpcPrecondition("%v", err)
	case err != nil:
		return err
	}
	s.Endpoint = e
	return nil
}

// attachments are what clients see of the networks of a task.
func (j *taskJoin) attachments(t *state.Task) (list []swarm.NetworkAttachment) {
	for _, on := range t.Networks {
		n := j.view.Network(on.NetworkID)
		if n == nil {
			continue // removed by force, or after the task has ended
		}
		a := swarm.NetworkAttachment{Network: n.Network, Addresses: []string{}}
		for _, p := range on.Addrs {
			a.Addresses = append(a.Addresses, p.String())
		}
		if n.Spec.Ingress {
			// Its addresses there are those on its node's gateway network.
			for _, addr := range t.Status.Addrs {
				a.Addresses = append(a.Addresses, fmt.Sprintf("%s/%d", addr, j.meshBits(t.NodeID, addr.Is4())))
			}
		}
		list = append(list, a)
	}
	return list
}

// meshBits is the length of a node's gateway subnet of one family.
func (j *taskJoin) meshBits(nodeID string, v4 bool) int {
	if n := j.view.Node(nodeID); n != nil {
		for _, p := range n.Mesh {
			if p.Addr().Is4() == v4 {
				return p.Bits()
			}
		}
	}
	return 0
}
