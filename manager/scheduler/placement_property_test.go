package scheduler

import (
	"fmt"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// spreadNode is a node of a label tree, and how many tasks it got.
type spreadNode struct {
	id     string
	labels []string // outermost first; "" is a label that it does not have
	tasks  int
}

// Whatever the tree and the limit per node: no branch has two tasks more than a
// sibling that could have taken one, no node more than the limit, and no task
// waits while there is room.
func TestPreferencesBalanceEveryLevel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 3).Draw(t, "limit")
		p := swarm.Placement{MaxReplicas: uint64(limit)} //nolint:gosec // small
		levels := rapid.IntRange(0, 3).Draw(t, "levels")
		for i := range levels {
			p.Preferences = append(p.Preferences, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: fmt.Sprintf("node.labels.l%d", i)}})
		}
		var nodes []*spreadNode
		objs := service("web", place(p))
		for i := range rapid.IntRange(1, 10).Draw(t, "nodes") {
			n := &spreadNode{id: fmt.Sprintf("n%d", i)}
			var options []func(*state.Node)
			for level := range levels {
				value := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "label")
				n.labels = append(n.labels, value)
				if value != "" {
					options = append(options, statetest.Label(fmt.Sprintf("l%d", level), value))
				}
			}
			nodes = append(nodes, n)
			objs = append(objs, statetest.Node(n.id, options...))
		}
		wanted := rapid.IntRange(0, 40).Draw(t, "tasks")
		waiting := 0
		for _, where := range settle(t, storeOf(objs, pending("web", wanted)), "web") {
			placed := false
			for _, n := range nodes {
				if n.id == where {
					n.tasks++
					placed = true
				}
			}
			if !placed {
				waiting++
			}
		}
		room := len(nodes) * limit
		if limit > 0 && waiting != max(0, wanted-room) || limit == 0 && waiting != 0 {
			t.Fatalf("%d of %d tasks wait, with room for %d", waiting, wanted, room)
		}
		checkBalance(t, nodes, 0, limit)
	})
}

// checkBalance compares siblings below one branch; at a leaf, those are nodes.
func checkBalance(t *rapid.T, nodes []*spreadNode, level, limit int) {
	branches := map[string][]*spreadNode{}
	leaves := level == len(nodes[0].labels)
	for _, n := range nodes {
		name := n.id
		if !leaves {
			name = n.labels[level]
		}
		branches[name] = append(branches[name], n)
	}
	sum := func(branch []*spreadNode) (tasks int, full bool) {
		full = limit > 0
		for _, n := range branch {
			tasks += n.tasks
			full = full && n.tasks >= limit
			if limit > 0 && n.tasks > limit {
				t.Fatalf("%s has %d tasks, limit %d", n.id, n.tasks, limit)
			}
		}
		return tasks, full
	}
	for name, branch := range branches {
		tasks, full := sum(branch)
		for sibling, other := range branches {
			if more, _ := sum(other); more > tasks+1 && !full {
				t.Fatalf("level %d: %q has %d tasks, %q %d and room", level, sibling, more, name, tasks)
			}
		}
		if !leaves {
			checkBalance(t, branch, level+1, limit)
		}
	}
}

// Counted resources are never promised beyond what a node has, and named ones
// never twice; a task waits only if no node has what it asks for.
func TestGenericResourcesAreNeverOvercommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counted, named := map[string]int64{}, map[string]int{}
		var objs []state.Object
		for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
			id := fmt.Sprintf("n%d", i)
			counted[id], named[id] = rapid.Int64Range(0, 5).Draw(t, "counted"), rapid.IntRange(0, 4).Draw(t, "named")
			var names []string
			for n := range named[id] {
				names = append(names, fmt.Sprintf("%s-%d", id, n))
			}
			objs = append(objs, statetest.Node(id, resourcesOf("ssd", counted[id]), resourcesOf("gpu", 0, names...)))
		}
		wants := map[string]swarm.DiscreteGenericResource{}
		for i := range rapid.IntRange(1, 4).Draw(t, "services") {
			id := fmt.Sprintf("s%d", i)
			want := swarm.DiscreteGenericResource{Kind: rapid.SampledFrom([]string{"ssd", "gpu"}).Draw(t, "kind"), Value: rapid.Int64Range(1, 3).Draw(t, "value")}
			wants[id] = want
			objs = append(objs, service(id, wantGeneric(want.Kind, want.Value))...)
			objs = append(objs, pending(id, rapid.IntRange(0, 6).Draw(t, "tasks"))...)
		}
		store := statetest.New(objs...)
		settle(t, store, "s0")
		claimed := map[string]bool{}
		var stuck []*state.Task
		for task := range store.View().Tasks() {
			if task.NodeID == "" {
				stuck = append(stuck, task)
				continue
			}
			got := int64(0)
			for _, r := range task.GenericResources {
				if d := r.DiscreteResourceSpec; d != nil {
					counted[task.NodeID] -= d.Value
					got += d.Value
				} else if claimed[r.NamedResourceSpec.Value] {
					t.Fatalf("%s is claimed twice", r.NamedResourceSpec.Value)
				} else {
					claimed[r.NamedResourceSpec.Value] = true
					named[task.NodeID]--
					got++
				}
			}
			if got != wants[task.ServiceID].Value {
				t.Fatalf("%s asked for %+v and got %+v", task.ID, wants[task.ServiceID], task.GenericResources)
			}
		}
		for id := range counted {
			if counted[id] < 0 || named[id] < 0 {
				t.Fatalf("%s gave more than it has", id)
			}
			for _, task := range stuck {
				w := wants[task.ServiceID]
				if w.Kind == "ssd" && counted[id] >= w.Value || w.Kind == "gpu" && int64(named[id]) >= w.Value {
					t.Fatalf("%s waits for %+v, %s has %d and %d", task.ID, w, id, counted[id], named[id])
				}
			}
		}
	})
}
