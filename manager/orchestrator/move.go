package orchestrator

import (
	"cmp"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

const (
	// moveWait bounds how long a task that takes another's place may take to
	// run: large images are pulled in that time, and a service that cannot be
	// moved is not held up for hours.
	moveWait = 15 * time.Minute
	// After a move that came to nothing, the next one waits for firstRetry, after
	// each further one twice as long: nothing is lost but balance.
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// startMove begins the move of a task that the scheduler would place elsewhere
// today: of at most one, while every slot of the service has its one task
// running and none is being updated.
func (p *planner) startMove(slots []*slot) {
	if p.svc.Spec.Mode.Replicated == nil || p.updating() || p.full() {
		return
	}
	var from *slot
	for _, s := range slots {
		if from == nil && slices.ContainsFunc(s.tasks, func(t *state.Task) bool { return wanted(t) && t.MoveTo != "" }) {
			from = s
		}
	}
	if from == nil {
		return
	}
	for _, s := range slots {
		if !p.calm(s) {
			return
		}
	}
	old := p.keep(from)
	if n := p.view.Node(old.MoveTo); n == nil || old.MoveTo == old.NodeID || !takesTasks(n) || !p.anotherWanted(from) {
		return
	}
	if p.now.Before(old.Unmoved.Until) {
		p.wake(old.Unmoved.Until)
		return
	}
	next := p.create(from, p.successorRevision(old), taskstate.Running, causeMove)
	next.NodeID, next.Moves, next.Restarts = old.MoveTo, old.ID, old.Restarts
	p.wake(next.CreatedAt.Add(moveWait))
}

// updating reports whether an update or rollback of the service is under way or
// paused.
func (p *planner) updating() bool {
	return p.status != nil || p.svc.UpdateStatus != nil && p.svc.UpdateStatus.CompletedAt == nil
}

// calm reports whether the slot's one task runs, and may go on where it is.
func (p *planner) calm(s *slot) bool {
	n := 0
	for _, t := range s.tasks {
		if !wanted(t) {
			continue
		}
		if n++; n > 1 || t.Status.State != taskstate.Running || p.dirty(t) || p.lost(s, t) || p.gone(t.NodeID) {
			return false
		}
	}
	return n == 1
}

func takesTasks(n *state.Node) bool {
	return n.Status.State == swarm.NodeStateReady && n.Spec.Availability == swarm.NodeAvailabilityActive
}

// settleMoves gives up the moves in a slot that cannot come to their end, or
// that an update overtakes: the task that was to be moved stays.
func (p *planner) settleMoves(s *slot) {
	if len(s.tasks) < 2 {
		return // nearly all slots
	}
	for _, next := range slices.Clone(s.tasks) {
		old := p.replaces(s, next)
		if old == nil || next.Status.State == taskstate.Running {
			continue
		}
		why := p.stranded(s, next)
		switch {
		case p.updating() || p.dirty(next):
			p.desire(s, next, taskstate.Remove)
		case why != "":
			p.desire(s, next, taskstate.Remove)
			p.edit(s, old, func(t *state.Task) {
				t.Unmoved = state.Unmoved{
					Count: t.Unmoved.Count + 1, Until: p.now.Add(backoff.Step(firstRetry, lastRetry, t.Unmoved.Count)), Err: why,
				}
			})
		default:
			p.wake(next.CreatedAt.Add(moveWait))
		}
	}
}

// stranded says why a task will not take the place that it was made for; "": it
// may yet.
func (p *planner) stranded(s *slot, t *state.Task) string {
	switch {
	case t.Status.State.Terminal():
		return cmp.Or(t.Status.Err, t.Status.State.String())
	case p.lost(s, t):
		return "the node that it was to move to takes no tasks any more"
	case t.Status.State <= taskstate.Pending && t.Status.Err != "":
		return t.Status.Err
	case !p.now.Before(t.CreatedAt.Add(moveWait)):
		return "it did not run within " + moveWait.String()
	}
	return ""
}

// replaces is the task whose place t is to take, as long as that serves.
func (p *planner) replaces(s *slot, t *state.Task) *state.Task {
	if t.Moves == "" || !wanted(t) {
		return nil
	}
	for _, o := range s.tasks {
		if o.ID == t.Moves && wanted(o) && o.Status.State == taskstate.Running && !p.lost(s, o) {
			return o
		}
	}
	return nil
}

// yields reports whether another task is to take t's place.
func (p *planner) yields(s *slot, t *state.Task) bool {
	return len(s.tasks) > 1 && slices.ContainsFunc(s.tasks, func(o *state.Task) bool {
		return o.Moves == t.ID && !o.Status.State.Terminal() && p.replaces(s, o) != nil
	})
}
