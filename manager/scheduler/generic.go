package scheduler

import (
	"github.com/docker/docker/api/types/swarm"
)

// claims are generic resources that were taken on a node for one task.
type claims []swarm.GenericResource

// claim adds or removes generic resources that tasks hold.
func (n *nodeInfo) claim(held claims, sign int) {
	for _, r := range held {
		switch {
		case r.DiscreteResourceSpec != nil:
			n.claimed[r.DiscreteResourceSpec.Kind] += int64(sign) * r.DiscreteResourceSpec.Value
		case r.NamedResourceSpec != nil:
			n.named[*r.NamedResourceSpec] += sign // two hold it while one takes over from the other
		}
	}
}

// freeNamed returns the named resources of a kind that nobody holds, in the
// order of the node's description.
func (n *nodeInfo) freeNamed(kind string) (free []swarm.NamedGenericResource) {
	for _, r := range n.node.Description.Resources.GenericResources {
		if named := r.NamedResourceSpec; named != nil && named.Kind == kind && n.named[*named] == 0 {
			free = append(free, *named)
		}
	}
	return free
}

// freeDiscrete returns how much of a counted resource nobody holds.
func (n *nodeInfo) freeDiscrete(kind string) int64 {
	var total int64
	for _, r := range n.node.Description.Resources.GenericResources {
		if d := r.DiscreteResourceSpec; d != nil && d.Kind == kind {
			total += d.Value
		}
	}
	return total - n.claimed[kind]
}

// missing returns the first kind of which the node has less than is wanted.
func (n *nodeInfo) missing(wanted []swarm.DiscreteGenericResource) string {
	for _, w := range wanted {
		if int64(len(n.freeNamed(w.Kind))) < w.Value && n.freeDiscrete(w.Kind) < w.Value {
			return w.Kind
		}
	}
	return ""
}

// choose picks what a task gets of what it wants: named resources where the
// node has them, else a count. The node has them: see missing.
func (n *nodeInfo) choose(wanted []swarm.DiscreteGenericResource) (got claims) {
	for _, w := range wanted {
		free := n.freeNamed(w.Kind)
		if int64(len(free)) < w.Value {
			got = append(got, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: w.Kind, Value: w.Value}})
			continue
		}
		for _, named := range free[:w.Value] {
			got = append(got, swarm.GenericResource{NamedResourceSpec: &named})
		}
	}
	return got
}
