package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// Wherever the tasks of some services are at first: each look moves at most one
// of a service, to a node that may take it; nothing that counts gets worse; the
// moves end; and then all is as even as the scheduler would have made it.
func TestMovesEndInBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, levels := rapid.IntRange(0, 4).Draw(t, "limit"), rapid.IntRange(0, 2).Draw(t, "levels")
		p := swarm.Placement{MaxReplicas: uint64(limit)} //nolint:gosec // small
		var labels []label
		for i := range levels {
			d := fmt.Sprintf("node.labels.l%d", i)
			p.Preferences = append(p.Preferences, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: d}})
			l, _ := labelOf(d)
			labels = append(labels, l)
		}
		objs, nodes := drawTree(t, levels)
		var services []string
		for i := range rapid.IntRange(1, 4).Draw(t, "services") {
			id := fmt.Sprintf("s%d", i)
			services = append(services, id)
			where := drawPlaces(t, nodes, limit)
			objs = append(objs, auto(id, uint64(len(where)), place(p))...)
			objs = append(objs, on(id, where...)...)
		}
		store := statetest.New(objs...)
		before := measure(store.View(), services, labels)
		for looks := 0; ; looks++ {
			if looks > 500 {
				t.Fatal("moves do not end")
			}
			moved := lookAndMove(t, store, services)
			if moved == 0 {
				break
			}
			after := measure(store.View(), services, labels)
			if !after.improves(before) {
				t.Fatalf("%d moves made it no better: %+v, before %+v", moved, after, before)
			}
			before = after
		}
		for _, id := range services {
			for _, n := range nodes {
				n.tasks = 0
				for task := range store.View().TasksOfNode(n.id) {
					if task.ServiceID == id {
						n.tasks++
					}
				}
			}
			checkBalance(t, nodes, 0, limit)
		}
	})
}

// drawTree draws nodes with labels.
func drawTree(t *rapid.T, levels int) (objs []state.Object, nodes []*spreadNode) {
	for i := range rapid.IntRange(1, 8).Draw(t, "nodes") {
		n := &spreadNode{id: fmt.Sprintf("n%d", i)}
		var options []func(*state.Node)
		for level := range levels {
			value := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "label")
			n.labels = append(n.labels, value)
			options = append(options, statetest.Label(fmt.Sprintf("l%d", level), value))
		}
		nodes, objs = append(nodes, n), append(objs, statetest.Node(n.id, options...))
	}
	return objs, nodes
}

// drawPlaces draws where tasks of a service are, at most limit on a node.
func drawPlaces(t *rapid.T, nodes []*spreadNode, limit int) (where []string) {
	held := map[string]int{}
	for range rapid.IntRange(0, 12).Draw(t, "tasks") {
		n := rapid.SampledFrom(nodes).Draw(t, "node").id
		if held[n]++; limit == 0 || held[n] <= limit {
			where = append(where, n)
		}
	}
	return where
}

// lookAndMove takes one look and does at once what the orchestrator would.
func lookAndMove(t *rapid.T, store *statetest.Store, services []string) int {
	nodes := newNodeSet()
	nodes.sync(store.View(), long())
	m := planMoves(nodes, services, long())
	seen := map[string]bool{}
	for _, h := range m.hints {
		if seen[h.task.ServiceID] || h.to == "" || h.to == h.task.NodeID {
			t.Fatalf("service %s: marks %v", h.task.ServiceID, m.hints)
		}
		seen[h.task.ServiceID] = true
		moved := *h.task
		moved.NodeID = h.to
		store.Put(&moved)
	}
	return len(m.hints)
}

// measured is the sum of squares of the counts of each service, by level from
// the outermost, and of all tasks of nodes.
type measured struct {
	services [][]int
	total    int
}

// improves reports whether no service is worse off than before, and one is
// better, the outer levels counting first; or all are as they were, and the
// nodes are fuller and emptier by less.
func (m measured) improves(before measured) bool {
	order := 0
	for i := range m.services {
		c := slices.Compare(m.services[i], before.services[i])
		if c > 0 {
			return false
		}
		order = cmp.Or(order, c)
	}
	return order < 0 || order == 0 && m.total < before.total
}

func measure(v *state.View, services []string, labels []label) (m measured) {
	all := map[string]int{}
	for _, id := range services {
		sums := make([]int, len(labels)+1)
		counts := make([]map[string]int, len(sums))
		for t := range v.TasksOfService(id) {
			all[t.NodeID]++
			for level, name := range append(pathOf(v.Node(t.NodeID), labels), t.NodeID) {
				if counts[level] == nil {
					counts[level] = map[string]int{}
				}
				counts[level][name]++
			}
		}
		for level, c := range counts {
			sums[level] = squares(c)
		}
		m.services = append(m.services, sums)
	}
	m.total = squares(all)
	return m
}

func squares(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n * n
	}
	return sum
}
