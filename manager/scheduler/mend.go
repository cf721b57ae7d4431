package scheduler

import (
	"maps"
	"slices"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
)

// What a user can ask for in a reservation: whole steps of these, and no less
// memory than Docker's least.
const (
	cpuStep     = int64(1e7)     // 0.01 CPUs
	memoryStep  = int64(1 << 20) // MiB
	leastMemory = int64(4 << 20)
)

func mendAvailability(_ *adviser, n *nodeInfo) (faults []fault) {
	if n.node.Status.State != swarm.NodeStateReady {
		faults = append(faults, fault{{Kind: Revive, NodeID: n.node.ID}})
	}
	if n.node.Spec.Availability != swarm.NodeAvailabilityActive {
		faults = append(faults, fault{{Kind: Activate, NodeID: n.node.ID}})
	}
	return faults
}

func mendCPU(a *adviser, n *nodeInfo) []fault {
	free := max(n.freeCPU(), 0)
	return []fault{{{Kind: LowerCPU, Amount: free - free%cpuStep, Was: a.demand.resources.nanoCPUs, Free: n.freeCPU()}}}
}

func mendMemory(a *adviser, n *nodeInfo) []fault {
	free := max(n.freeMemory(), 0)
	if free -= free % memoryStep; free < leastMemory {
		free = 0
	}
	return []fault{{{Kind: LowerMemory, Amount: free, Was: a.demand.resources.memory, Free: n.freeMemory()}}}
}

func mendGeneric(a *adviser, n *nodeInfo) (faults []fault) {
	for _, w := range a.demand.generic {
		if n.missing([]swarm.DiscreteGenericResource{w}) == "" {
			continue
		}
		free := max(int64(len(n.freeNamed(w.Kind))), n.freeDiscrete(w.Kind))
		faults = append(faults, fault{{Kind: LowerGeneric, Key: w.Kind, Amount: max(free, 0), Was: w.Value, Free: free}})
	}
	return faults
}

func mendPlugins(a *adviser, n *nodeInfo) (faults []fault) {
	for _, p := range a.demand.plugins {
		if !n.has(p) {
			faults = append(faults, fault{{Kind: AddPlugin, NodeID: n.node.ID, Key: p.Type, Value: p.Name}})
		}
	}
	return faults
}

// mendConstraints gives the node the label that is asked for, or asks no more.
func mendConstraints(a *adviser, n *nodeInfo) (faults []fault) {
	for _, text := range Unmet(n.node, a.revision.Spec.TaskTemplate.Placement) {
		var f fault
		if parsed, err := constraint.Parse([]string{text}); err == nil {
			switch key, value, negated, ok := parsed[0].NodeLabel(); {
			case ok && negated:
				f = append(f, Step{Kind: RemoveLabel, NodeID: n.node.ID, Key: key})
			case ok:
				f = append(f, Step{Kind: AddLabel, NodeID: n.node.ID, Key: key, Value: value})
			}
		}
		faults = append(faults, append(f, Step{Kind: DropConstraint, Value: text}))
	}
	return faults
}

func mendPlatform(_ *adviser, n *nodeInfo) []fault {
	p := n.node.Description.Platform
	return []fault{{{Kind: ChangeImage, Value: p.OS + "/" + normalArch(p.Architecture)}}}
}

func mendPorts(a *adviser, n *nodeInfo) (faults []fault) {
	for _, p := range a.demand.hostPorts {
		if n.ports[p] > 0 {
			faults = append(faults, fault{{Kind: ChangePort, Key: string(p.protocol), Amount: int64(p.port), Holders: a.holders(p)}})
		}
	}
	return faults
}

// holders are the services whose tasks have a host port anywhere.
func (a *adviser) holders(p hostPort) []string {
	found := map[string]bool{}
	for id, n := range a.nodes.nodes {
		if n.ports[p] == 0 {
			continue
		}
		for t := range a.nodes.view.TasksOfNode(id) {
			d := a.nodes.demand(revisionKey{t.ServiceID, t.Revision})
			if takes(t) && d != nil && slices.Contains(d.hostPorts, p) {
				found[t.ServiceID] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func mendReplicas(a *adviser, n *nodeInfo) []fault {
	return []fault{{{Kind: RaiseMaxReplicas, Amount: int64(n.byService[a.task.ServiceID]) + 1, Was: int64(a.demand.maxReplicas)}}} //nolint:gosec // far below 2^63
}
