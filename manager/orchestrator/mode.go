package orchestrator

import (
	"slices"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
	"shoal/internal/taskstate"
	"shoal/manager/orchestrator/restart"
	"shoal/raftstore/state"
)

// replicated brings the number of slots to that of the spec and returns those
// that stay.
func (p *planner) replicated(slots []*slot) []*slot {
	want := 1
	if n := p.svc.Spec.Mode.Replicated.Replicas; n != nil {
		want = int(*n) //nolint:gosec // the API bounds it
	}
	var present, rest []*slot
	taken := map[int]*slot{}
	for _, s := range slots {
		if s.wanted() || p.finished(s) {
			present = append(present, s)
			taken[s.number] = s
		} else {
			rest = append(rest, s)
		}
	}
	if len(present) > want {
		keepers(present)
		p.remove(present[want:])
		p.remove(rest)
		return bySlot(present[:want])
	}
	free := map[int]*slot{} // they keep the history of their number
	for _, s := range rest {
		free[s.number] = s
	}
	for number := 1; len(present) < want && !p.full(); number++ {
		if taken[number] != nil {
			continue
		}
		s := free[number]
		if s == nil {
			s = &slot{number: number}
		}
		p.succeed(s, p.svc.Revision, causeNew)
		present = append(present, s)
	}
	return bySlot(present)
}

func bySlot(slots []*slot) []*slot {
	slices.SortFunc(slots, func(a, b *slot) int { return a.number - b.number })
	return slots
}

// finished reports whether the restart policy lets an empty slot be.
func (p *planner) finished(s *slot) bool {
	t := s.newest()
	return t != nil && !restart.Wanted(p.svc.Spec.TaskTemplate.RestartPolicy, t)
}

// global gives every node that takes the service a slot, empties the others,
// and returns the former.
func (p *planner) global(slots []*slot) []*slot {
	byNode := map[string]*slot{}
	for _, s := range slots {
		byNode[s.node] = s
	}
	var here []*slot
	for n := range p.view.Nodes() {
		s := byNode[n.ID]
		if !usable(n) || !constraint.MatchAll(p.constraints, facts(n)) {
			continue
		}
		delete(byNode, n.ID)
		if s == nil {
			s = &slot{node: n.ID}
		}
		// A paused node keeps what it has and takes nothing new.
		s.closed = n.Spec.Availability == swarm.NodeAvailabilityPause
		if !s.wanted() && !s.closed && !p.done(s) {
			if p.full() {
				return here
			}
			p.succeed(s, p.svc.Revision, causeNew)
		}
		here = append(here, s)
	}
	for _, s := range slots {
		if byNode[s.node] == s {
			p.leave(s)
		}
	}
	return here
}

// done is finished for a node's slot. A task that was stopped because its node
// was drained or down has not finished: it comes back with the node.
func (p *planner) done(s *slot) bool {
	t := s.newest()
	return t != nil && restart.Ended(t) && p.finished(s)
}

// leave stops a global service's tasks on a node that takes it no longer.
func (p *planner) leave(s *slot) {
	d := taskstate.Shutdown
	if p.view.Node(s.node) == nil {
		d = taskstate.Remove
	}
	for _, t := range slices.Clone(s.tasks) {
		if t.Desired < d && p.full() {
			return
		}
		p.desire(s, t, d)
	}
}

// isGlobal reports whether the nodes decide how many tasks the service has.
func isGlobal(s *state.Service) bool {
	return s.Spec.Mode.Global != nil || s.Spec.Mode.GlobalJob != nil
}
