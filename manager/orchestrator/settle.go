package orchestrator

import (
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/constraint"
	"shoal/internal/taskstate"
	"shoal/manager/orchestrator/restart"
	"shoal/manager/orchestrator/update"
	"shoal/raftstore/state"
)

// stopWait bounds how long a successor waits for its predecessor to stop, as
// in Docker Swarm.
const stopWait = time.Minute

// settle brings one slot to rest: ended and lost tasks get successors,
// successors start when they may, and what another task has replaced stops.
// Tasks that linger come last: what they do depends on what the others come to.
func (p *planner) settle(s *slot) {
	keep := p.keep(s)
	tasks := slices.Clone(s.tasks)
	for _, last := range []bool{false, true} {
		for _, t := range tasks {
			if wanted(t) && p.lingers(s, t) == last {
				p.settleTask(s, t, keep)
			}
		}
	}
}

func (p *planner) settleTask(s *slot, t, keep *state.Task) {
	switch {
	case t != keep && p.redundant(s, t, keep):
		p.desire(s, t, taskstate.Shutdown)
	case t.Status.State.Terminal() && t.Status.State != taskstate.Orphaned:
		p.restart(s, t)
	case p.lingers(s, t):
		p.giveWay(s, t)
	case t.Status.State == taskstate.Orphaned || p.lost(s, t):
		p.move(s, t, keep)
	case t.Desired == taskstate.Ready && p.mayStart(s, t):
		p.desire(s, t, p.goal())
	}
}

// keep is the task that fills the slot, nil when there is none: an up to date
// one before others, then one that may stay where it is, then the most advanced.
func (p *planner) keep(s *slot) (keep *state.Task) {
	rank := func(t *state.Task) taskstate.State {
		if t.Status.State.Terminal() {
			return taskstate.New
		}
		return t.Status.State
	}
	better := func(t *state.Task) bool {
		switch {
		case p.dirty(t) != p.dirty(keep):
			return p.dirty(keep)
		case p.lost(s, t) != p.lost(s, keep):
			return p.lost(s, keep)
		}
		return rank(t) >= rank(keep)
	}
	for _, t := range s.tasks {
		if wanted(t) && (keep == nil || better(t)) {
			keep = t
		}
	}
	return keep
}

// redundant reports whether t can stop because keep fills the slot. One that
// serves stays while the new task of an update is not ready to take its place:
// with start-first, or in a drain, until that runs; with stop-first until its
// image is on its node and its container is made.
func (p *planner) redundant(s *slot, t, keep *state.Task) bool {
	switch {
	case p.dirty(t) == p.dirty(keep) && !p.lingers(s, t), t.Status.State.Terminal(), t.NodeID == "", p.gone(t.NodeID),
		keep.Status.State == taskstate.Running:
		return true
	case p.startsFirst(t):
		return false
	}
	// The order was another when one that may run already was made.
	return t.Status.State < taskstate.Running || keep.Desired > taskstate.Ready || p.prepared(s, keep)
}

// prepared reports whether t only waits for its predecessor to stop: it is
// ready to start, or it cannot have an address while the other has one.
func (p *planner) prepared(s *slot, t *state.Task) bool {
	switch {
	case t.Status.State == taskstate.New:
		return t.Status.Err != ""
	case p.now.Before(t.StartAfter) || p.lost(s, t):
		return false
	}
	return t.Status.State >= taskstate.Ready && !t.Status.State.Terminal()
}

// startsFirst reports whether t's successor is to run before t stops: because
// the service says so, or whoever drains its node.
func (p *planner) startsFirst(t *state.Task) bool {
	if update.Config(p.svc).Order == swarm.UpdateOrderStartFirst {
		return true
	}
	n := p.view.Node(t.NodeID)
	return n != nil && n.StartFirst
}

// restart gives a task that has ended its successor, if the policy wants one.
func (p *planner) restart(s *slot, t *state.Task) {
	if restart.Early(t) && p.now.Before(t.StartAfter) {
		p.wake(t.StartAfter)
		return
	}
	p.desire(s, t, taskstate.Shutdown)
	revision := p.successorRevision(t)
	d := restart.Next(p.svc.Spec.TaskTemplate.RestartPolicy, t, revision, p.now)
	if !d.Restart || s.closed {
		return
	}
	next := p.create(s, revision, taskstate.Ready, causeRestart)
	next.StartAfter, next.Restarts, next.Status.Err = d.StartAfter, d.Restarts, d.Reason
	if p.mayStart(s, next) {
		next.Desired = p.goal()
	}
}

// move gives a task whose node is lost to it a successor elsewhere, unless the
// task that fills the slot is another: without delay, and not counted as an
// attempt.
func (p *planner) move(s *slot, t, keep *state.Task) {
	more := p.anotherWanted(s)
	p.desire(s, t, taskstate.Shutdown)
	if !more || t != keep {
		return
	}
	next := p.succeed(s, p.successorRevision(t), causeRestart)
	if next.Revision != t.Revision {
		return
	}
	next.Restarts = t.Restarts
	if p.now.Before(t.StartAfter) { // t was waiting for its restart delay
		next.StartAfter, next.Desired = t.StartAfter, taskstate.Ready
		p.wake(t.StartAfter)
	}
}

// anotherWanted reports whether the slot may have a successor of its newest task.
func (p *planner) anotherWanted(s *slot) bool {
	return !s.closed && restart.Wanted(p.svc.Spec.TaskTemplate.RestartPolicy, s.newest())
}

// lingers reports whether t serves until its successor does: its node is only
// being drained, and new tasks are to start before old ones stop.
func (p *planner) lingers(s *slot, t *state.Task) bool {
	if t.Status.State != taskstate.Running || !p.startsFirst(t) || !p.lost(s, t) {
		return false
	}
	n := p.view.Node(t.NodeID)
	return n != nil && n.Status.State != swarm.NodeStateDown && constraint.MatchAll(p.constraintsOf(t.Revision), facts(n))
}

// giveWay has a task that lingers succeeded by one that starts at once. It stops
// when that runs, or when nothing may follow any more: the node has to be left.
func (p *planner) giveWay(s *slot, t *state.Task) {
	heir := slices.ContainsFunc(s.tasks, func(o *state.Task) bool {
		stays := o.Status.State.Terminal() || !p.lost(s, o) // of one that has ended, it is the next that counts
		return o.ID != t.ID && wanted(o) && stays && (p.dirty(t) || !p.dirty(o))
	})
	switch {
	case heir:
	case !p.anotherWanted(s):
		p.desire(s, t, taskstate.Shutdown)
	default:
		next := p.create(s, p.successorRevision(t), taskstate.Running, causeRestart)
		if next.Revision == t.Revision {
			next.Restarts = t.Restarts
		}
	}
}

// successorRevision is the revision of t's successor. Outdated tasks are
// replaced as they were: only an update moves a slot on, at its own pace.
func (p *planner) successorRevision(t *state.Task) uint64 {
	if p.dirty(t) && p.view.Revision(p.svc.ID, t.Revision) != nil {
		return t.Revision
	}
	return p.svc.Revision
}

// renew replaces the slot's outdated tasks by one of the service's revision.
func (p *planner) renew(s *slot) {
	if update.Config(p.svc).Order == swarm.UpdateOrderStartFirst {
		// One task serves until the new one does, and no more than one.
		serving := p.keep(s)
		for _, t := range slices.Clone(s.tasks) {
			if wanted(t) && t.Status.State == taskstate.Running && serving.Status.State != taskstate.Running {
				serving = t
			}
		}
		for _, t := range slices.Clone(s.tasks) {
			if wanted(t) && (t != serving || t.NodeID == "") {
				p.desire(s, t, taskstate.Shutdown)
			}
		}
		p.create(s, p.svc.Revision, taskstate.Running, causeUpdate)
		return
	}
	// What serves does so until its successor is prepared: see redundant.
	for _, t := range slices.Clone(s.tasks) {
		if t.Status.State != taskstate.Running || p.gone(t.NodeID) || p.lost(s, t) {
			p.desire(s, t, taskstate.Shutdown)
		}
	}
	p.succeed(s, p.svc.Revision, causeUpdate)
}

// succeed makes a task that starts once those before it have stopped.
func (p *planner) succeed(s *slot, revision uint64, why cause) *state.Task {
	next := p.create(s, revision, taskstate.Ready, why)
	if p.mayStart(s, next) {
		next.Desired = p.goal()
	}
	return next
}

// mayStart reports whether t, which is prepared but held back, may run: its
// delay is over, nothing serves in its place and its predecessors have stopped.
func (p *planner) mayStart(s *slot, t *state.Task) bool {
	if p.now.Before(t.StartAfter) {
		p.wake(t.StartAfter)
		return false
	}
	free := true
	for _, o := range s.tasks {
		switch {
		case o.ID == t.ID:
		case wanted(o) && p.dirty(o) && !p.dirty(t) && !p.redundant(s, o, t):
			if update.Config(p.svc).Order != swarm.UpdateOrderStartFirst {
				return false
			}
		case p.stopping(o):
			asked := t.CreatedAt
			if o.UpdatedAt.After(asked) {
				asked = o.UpdatedAt
			}
			if limit := asked.Add(stopWait); p.now.Before(limit) {
				p.wake(limit)
				free = false
			}
		}
	}
	return free
}

// stopping reports whether t was asked to stop and may still be running.
func (p *planner) stopping(t *state.Task) bool {
	return !wanted(t) && !t.Status.State.Terminal() && t.NodeID != "" &&
		t.Status.State >= taskstate.Assigned && !p.gone(t.NodeID)
}

// gone reports whether a node is down or was removed.
func (p *planner) gone(nodeID string) bool {
	n := p.view.Node(nodeID)
	return n == nil || n.Status.State == swarm.NodeStateDown
}

// stay is what decides whether a task may stay where it is.
type stay struct {
	node     string
	revision uint64
}

// lost reports whether a task has to leave the node that it was given: the
// node is gone or being drained, or no longer meets the constraints. A paused
// node keeps what it has, as in Swarm.
func (p *planner) lost(s *slot, t *state.Task) bool {
	if t.NodeID == "" || s.node != "" { // the nodes of a global service are chosen elsewhere
		return false
	}
	at := stay{t.NodeID, t.Revision}
	over, known := p.over[at]
	if !known {
		n := p.view.Node(t.NodeID)
		over = n == nil || !usable(n) ||
			n.Spec.Availability == swarm.NodeAvailabilityActive && !constraint.MatchAll(p.constraintsOf(t.Revision), facts(n))
		p.over[at] = over
	}
	return over
}

// usable reports whether tasks may stay on a node.
func usable(n *state.Node) bool {
	return n.Status.State != swarm.NodeStateDown && n.Spec.Availability != swarm.NodeAvailabilityDrain
}
