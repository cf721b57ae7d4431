package orchestrator

import (
	"slices"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// job brings the current run of a job forward: its iteration. Tasks of earlier
// ones go; a task that has failed is restarted as the policy says, one that is
// complete is left alone. A slot that the policy gives up stays unfinished,
// and the job with it.
func (p *planner) job(slots []*slot) {
	var current []*slot
	for _, s := range slots {
		p.forgetRuns(s)
		if len(s.tasks) > 0 {
			current = append(current, s)
		}
	}
	if p.more {
		return
	}
	if p.svc.Spec.Mode.GlobalJob != nil {
		p.settleRuns(p.globalJob(current))
		return
	}
	p.settleRuns(current) // what it gives up makes room for others
	p.replicatedJob(current)
}

// settleRuns is settle for slots of a job. Once a slot is complete, nothing else
// has to run there.
func (p *planner) settleRuns(slots []*slot) {
	for _, s := range slots {
		if p.full() {
			return
		}
		if !s.complete() {
			p.settle(s)
			continue
		}
		for _, t := range slices.Clone(s.tasks) {
			if t.Status.State != taskstate.Complete && wanted(t) {
				p.desire(s, t, taskstate.Shutdown)
			}
		}
	}
}

// forgetRuns has the tasks of earlier iterations removed, and takes them out of
// the slot.
func (p *planner) forgetRuns(s *slot) {
	now := p.iteration()
	of := func(t *state.Task) bool { return t.JobIteration != nil && t.JobIteration.Index == now.Index }
	for _, t := range slices.Clone(s.tasks) {
		if of(t) {
			continue
		}
		if t.Desired < taskstate.Remove && p.full() {
			return
		}
		p.desire(s, t, taskstate.Remove)
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(t *state.Task) bool { return !of(t) })
}

// iteration is the job's current run.
func (p *planner) iteration() *swarm.Version {
	if p.svc.JobStatus == nil {
		return &swarm.Version{}
	}
	return &swarm.Version{Index: p.svc.JobStatus.JobIteration.Index}
}

// complete reports whether a task of the slot has done its work.
func (s *slot) complete() bool {
	return slices.ContainsFunc(s.tasks, func(t *state.Task) bool { return t.Status.State == taskstate.Complete })
}

// replicatedJob starts as many tasks as may run at once, as long as there are
// slots without one. Slots count from 0.
func (p *planner) replicatedJob(slots []*slot) {
	spec := p.svc.Spec.Mode.ReplicatedJob
	concurrent, total := 1, 1
	if n := spec.MaxConcurrent; n != nil {
		concurrent, total = int(*n), int(*n) //nolint:gosec // the API bounds it
	}
	if n := spec.TotalCompletions; n != nil {
		total = int(*n) //nolint:gosec // the API bounds it
	}
	taken, active := map[int]bool{}, 0
	for _, s := range slots {
		taken[s.number] = true
		if s.wanted() && !s.complete() {
			active++
		}
	}
	for number := 0; number < total && active < concurrent; number++ {
		if taken[number] {
			continue
		}
		if p.full() {
			return
		}
		p.succeed(&slot{number: number}, p.svc.Revision, causeNew)
		active++
	}
}

// globalJob starts a task on every node that takes the job and has none, and
// stops those on nodes that may not have it any more.
func (p *planner) globalJob(slots []*slot) (here []*slot) {
	byNode := map[string]*slot{}
	for _, s := range slots {
		byNode[s.node] = s
	}
	for n := range p.view.Nodes() {
		s := byNode[n.ID]
		if !usable(n) || !constraint.MatchAll(p.constraints, facts(n)) {
			continue
		}
		delete(byNode, n.ID)
		if s == nil {
			s = &slot{node: n.ID}
		}
		s.closed = n.Spec.Availability != swarm.NodeAvailabilityActive || n.Status.State != swarm.NodeStateReady
		if !s.wanted() && !s.closed && !p.done(s) {
			if p.full() {
				return here
			}
			p.succeed(s, p.svc.Revision, causeNew)
		}
		if len(s.tasks) > 0 {
			here = append(here, s)
		}
	}
	for _, s := range slots {
		if byNode[s.node] == s && !s.complete() {
			p.leave(s)
		}
	}
	return here
}

// isJob reports whether the service's tasks run to their end.
func isJob(s *state.Service) bool {
	return s.Spec.Mode.ReplicatedJob != nil || s.Spec.Mode.GlobalJob != nil
}

// goal is what a task is to become once nothing holds it back.
func (p *planner) goal() taskstate.State {
	if isJob(p.svc) {
		return taskstate.Complete
	}
	return taskstate.Running
}
