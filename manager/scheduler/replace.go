package scheduler

import (
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// replaced returns the task in whose place t will start once that has stopped:
// the one that still serves in the slot of a task that is held back. nil: none.
func (p *placement) replaced(t *state.Task) *state.Task {
	if s := p.nodes.view.Service(t.ServiceID); t.Desired != taskstate.Ready || s == nil || startsFirst(s) {
		return nil
	}
	for o := range p.nodes.view.TasksOfSlot(t.ServiceID, t.Slot) {
		sameSlot := t.Slot != 0 || o.NodeID == t.NodeID
		if o.ID != t.ID && sameSlot && takes(o) && o.Desired <= taskstate.Complete {
			return o
		}
	}
	return nil
}

// discount takes the tasks that others are about to replace out of the counts
// by which a service is spread, as they will not be there together. The
// result puts them back.
func (p *placement) discount(tasks []*state.Task) (restore func()) {
	var gone []*state.Task
	count := func(sign int) {
		for _, o := range gone {
			p.nodes.nodes[o.NodeID].countTask(o.ServiceID, o.Desired, sign)
		}
	}
	for _, t := range tasks {
		if o := p.replaced(t); o != nil {
			gone = append(gone, o)
		}
	}
	count(-1)
	return func() { count(+1) }
}

// takeOver puts t on the node of the task that it replaces, into the room that
// it leaves: resources, ports and its count.
func (p *placement) takeOver(t *state.Task, d *demand) (decision, bool) {
	o := p.replaced(t)
	if o == nil || t.NodeID != "" && t.NodeID != o.NodeID {
		return decision{}, false
	}
	info, old := p.nodes.nodes[o.NodeID], p.nodes.demand(revisionKey{o.ServiceID, o.Revision})
	if old == nil {
		return decision{}, false
	}
	leave := func(sign int) {
		info.countTask(o.ServiceID, o.Desired, sign)
		info.take(old, sign)
		info.claim(o.GenericResources, sign)
	}
	leave(-1)
	defer leave(+1)
	if info.reject(d, t.ServiceID) != "" {
		return decision{}, false
	}
	message := messageAssigned
	if t.NodeID != "" {
		message = messagePreassigned
	}
	return p.assign(t, info, d, message), true
}

// startsFirst reports whether a task of the service may start while the one
// that it replaces still runs.
func startsFirst(s *state.Service) bool {
	for _, c := range []*swarm.UpdateConfig{s.Spec.UpdateConfig, s.Spec.RollbackConfig} {
		if c != nil && c.Order == swarm.UpdateOrderStartFirst {
			return true
		}
	}
	return false
}
