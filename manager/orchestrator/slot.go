package orchestrator

import (
	"cmp"
	"slices"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// slot is a place of a service: a number for a replicated service, a node for
// a global one. It holds the task that fills it and that task's predecessors.
type slot struct {
	number int
	node   string        // global services only
	tasks  []*state.Task // oldest first
	closed bool          // nothing new may be made here
}

// wanted reports whether t is meant to run, now or soon. Tasks of jobs run to
// be complete.
func wanted(t *state.Task) bool { return t.Desired <= taskstate.Complete }

func (s *slot) wanted() bool { return slices.ContainsFunc(s.tasks, wanted) }

func (s *slot) running() bool {
	return slices.ContainsFunc(s.tasks, func(t *state.Task) bool {
		return wanted(t) && t.Status.State == taskstate.Running
	})
}

// newest is the last task made for the slot that is to be remembered.
func (s *slot) newest() *state.Task {
	for _, t := range slices.Backward(s.tasks) {
		if t.Desired < taskstate.Remove {
			return t
		}
	}
	return nil
}

// slotsOf groups a service's tasks into slots, ordered by number and node. Those
// of slot 0 have one for each node if perNode is set.
func slotsOf(v *state.View, serviceID string, perNode bool) []*slot {
	var slots []*slot
	nodes := map[string]*slot{}
	var last *slot // tasks come by slot
	for t := range v.TasksOfService(serviceID) {
		if t.Slot == 0 && perNode {
			last = nodes[t.NodeID]
		}
		if last == nil || last.number != t.Slot {
			last = &slot{number: t.Slot}
			slots = append(slots, last)
			if t.Slot == 0 && perNode {
				last.node = t.NodeID
				nodes[t.NodeID] = last
			}
		}
		last.tasks = append(last.tasks, t)
	}
	for _, s := range slots {
		if len(s.tasks) > 1 {
			slices.SortStableFunc(s.tasks, func(a, b *state.Task) int { return a.CreatedAt.Compare(b.CreatedAt) })
		}
	}
	slices.SortFunc(slots, func(a, b *slot) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.node, b.node))
	})
	return slots
}

// keepers sorts slots so that those to keep in a scale-down come first, as
// Docker Swarm does: running ones before others, lower numbers before higher,
// and then first tasks of their node before second ones. Slots that hold no
// placed task, or several tasks, come last.
func keepers(slots []*slot) {
	slices.SortStableFunc(slots, func(a, b *slot) int {
		switch ra, rb := a.running(), b.running(); {
		case ra && !rb:
			return -1
		case rb && !ra:
			return 1
		}
		return cmp.Compare(a.number, b.number)
	})
	copies, nth := map[string]int{}, map[*slot]int{}
	for _, s := range slots {
		if node, ok := s.onlyNode(); ok {
			copies[node]++
			nth[s] = copies[node]
		} else {
			nth[s] = int(^uint(0) >> 1)
		}
	}
	slices.SortStableFunc(slots, func(a, b *slot) int { return cmp.Compare(nth[a], nth[b]) })
}

// onlyNode is the node of the one task that fills the slot.
func (s *slot) onlyNode() (node string, ok bool) {
	n := 0
	for _, t := range s.tasks {
		if wanted(t) {
			n++
			node = t.NodeID
		}
	}
	return node, n == 1 && node != ""
}
