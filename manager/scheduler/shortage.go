package scheduler

import (
	"cmp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// Shortage is a resource of which a node's tasks have reserved more than the
// node has: it has come back smaller than it was. They stay, as nothing here
// stops a task that runs, and no more that reserve it are placed there.
type Shortage struct {
	Kind          string // "memory", "CPUs" or that of a generic resource
	Reserved, Has int64  // bytes, 10⁻⁹ CPUs or a count
}

// Shortages returns what a node is short of.
func Shortages(v *state.View, n *state.Node) (all []Shortage) {
	s := &nodeSet{view: v, nodes: map[string]*nodeInfo{}, demands: map[revisionKey]*demand{}}
	info := s.info(n.ID)
	info.node = n
	for t := range v.TasksOfNode(n.ID) {
		s.count(t, +1)
	}
	has := n.Description.Resources
	if info.freeMemory() < 0 {
		all = append(all, Shortage{"memory", info.reserved.memory, has.MemoryBytes})
	}
	if info.freeCPU() < 0 {
		all = append(all, Shortage{"CPUs", info.reserved.nanoCPUs, has.NanoCPUs})
	}
	return append(all, info.shortOfGeneric()...)
}

// shortOfGeneric: of named resources, what counts is that each is still there.
func (n *nodeInfo) shortOfGeneric() (all []Shortage) {
	for kind, held := range n.claimed {
		if free := n.freeDiscrete(kind); free < 0 {
			all = append(all, Shortage{kind, held, held + free})
		}
	}
	held, gone := map[string]int64{}, map[string]int64{}
	for r, count := range n.named {
		if count == 0 {
			continue
		}
		held[r.Kind]++
		if !slices.ContainsFunc(n.node.Description.Resources.GenericResources, func(g swarm.GenericResource) bool {
			return g.NamedResourceSpec != nil && *g.NamedResourceSpec == r
		}) {
			gone[r.Kind]++
		}
	}
	for kind := range gone {
		all = append(all, Shortage{kind, held[kind], held[kind] - gone[kind]})
	}
	slices.SortFunc(all, func(a, b Shortage) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), cmp.Compare(a.Has, b.Has))
	})
	return all
}
