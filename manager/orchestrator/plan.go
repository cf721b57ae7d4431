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

// outcome is what a service needs now, and when it needs another look.
type outcome struct {
	changes []state.Change
	due     time.Time // zero: only a change calls for one
	more    bool      // the budget was too small for everything
	made    map[cause]int
	status  *swarm.UpdateStatus // what the service's update has come to; nil: no news
}

// cause is why a task is made.
type cause string

const (
	causeNew     cause = "new"
	causeRestart cause = "restart"
	causeUpdate  cause = "update"
)

// planner plans one service on one view.
type planner struct {
	view   *state.View
	svc    *state.Service
	now    time.Time
	newID  func() string
	budget int

	specs       map[uint64]state.Difference // of other revisions from the service's
	parsed      map[uint64][]constraint.Constraint
	over        map[stay]bool
	edited      map[string]*state.Task
	order       []string // ids of edited, in the order of their first edit
	other       []state.Change
	due         time.Time
	more        bool
	made        map[cause]int
	status      *swarm.UpdateStatus
	constraints []constraint.Constraint // the service's
}

// slack is the most changes that one slot needs at once. Plans stop that far
// before their budget, so that what belongs together is never cut.
const slack = 8

// plan brings one service a step nearer to what it should be: an update of at
// most budget changes. Ids of new tasks come from newID.
func plan(v *state.View, serviceID string, now time.Time, newID func() string, budget int) outcome {
	p := &planner{
		view: v, svc: v.Service(serviceID), now: now.Round(0).UTC(), newID: newID, budget: budget - slack,
		specs: map[uint64]state.Difference{}, parsed: map[uint64][]constraint.Constraint{},
		over: map[stay]bool{}, edited: map[string]*state.Task{}, made: map[cause]int{},
	}
	slots := slotsOf(v, serviceID, p.svc == nil || p.svc.Spec.Mode.ReplicatedJob == nil)
	if p.svc == nil {
		p.remove(slots)
		return p.outcome()
	}
	p.constraints = parse(p.svc.Spec.TaskTemplate.Placement)
	switch {
	case p.svc.Spec.Mode.Replicated != nil:
		slots = p.replicated(slots)
	case p.svc.Spec.Mode.Global != nil:
		slots = p.global(slots)
	case isJob(p.svc):
		p.job(slots)
		return p.outcome()
	default:
		return p.outcome()
	}
	for _, s := range slots {
		if p.full() {
			return p.outcome()
		}
		p.settle(s)
	}
	if !p.more {
		p.update(slots)
	}
	return p.outcome()
}

func (p *planner) outcome() outcome {
	changes := p.other
	for _, id := range p.order {
		changes = append(changes, state.Put(p.edited[id]))
	}
	return outcome{changes: changes, due: p.due, more: p.more, made: p.made, status: p.status}
}

// full reports whether the budget is used up, and notes that work is left.
func (p *planner) full() bool {
	if len(p.order)+len(p.other) < p.budget {
		return false
	}
	p.more = true
	return true
}

// wake asks for another look at a time.
func (p *planner) wake(at time.Time) {
	if p.due.IsZero() || at.Before(p.due) {
		p.due = at
	}
}

// edit changes a copy of t, which takes t's place in the slot and the plan.
func (p *planner) edit(s *slot, t *state.Task, change func(*state.Task)) {
	c := p.edited[t.ID]
	if c == nil {
		d := *t
		c = &d
		c.UpdatedAt = p.now // as the update will stamp it
		s.tasks[slices.Index(s.tasks, t)] = c
		p.edited[t.ID] = c
		p.order = append(p.order, t.ID)
	}
	change(c)
}

// desire sets what t should come to. Desired states only grow.
func (p *planner) desire(s *slot, t *state.Task, d taskstate.State) {
	if t.Desired < d {
		p.edit(s, t, func(t *state.Task) { t.Desired = d })
	}
}

// create adds a task to the slot. One that needs addresses is new until the
// allocator has given them; the others can be scheduled at once.
func (p *planner) create(s *slot, revision uint64, d taskstate.State, why cause) *state.Task {
	t := &state.Task{
		ID: p.newID(), ServiceID: p.svc.ID, Revision: revision, Slot: s.number, NodeID: s.node, Desired: d,
		Status: taskstate.Status{State: taskstate.Pending, At: p.now, Message: "pending task scheduling"},
	}
	if isJob(p.svc) {
		t.JobIteration = p.iteration()
	}
	if p.allocated(revision) {
		t.Status.State, t.Status.Message = taskstate.New, "created"
	}
	t.CreatedAt, t.UpdatedAt = p.now, p.now // as the update will stamp it
	s.tasks = append(s.tasks, t)
	p.edited[t.ID] = t
	p.order = append(p.order, t.ID)
	p.made[why]++
	return t
}

// allocated reports whether tasks of a revision need addresses.
func (p *planner) allocated(revision uint64) bool {
	spec := &p.svc.Spec
	if r := p.view.Revision(p.svc.ID, revision); r != nil {
		spec = &r.Spec
	}
	return state.NeedsAddresses(spec)
}

// remove asks for all tasks of the slots to be stopped and forgotten.
func (p *planner) remove(slots []*slot) {
	for _, s := range slots {
		for _, t := range slices.Clone(s.tasks) {
			if t.Desired < taskstate.Remove && p.full() {
				return
			}
			p.desire(s, t, taskstate.Remove)
		}
	}
}

// update replaces outdated slots as the service's update settings say.
func (p *planner) update(slots []*slot) {
	seen := make([]update.Slot, len(slots))
	for i, s := range slots {
		seen[i] = update.Slot{Made: p.madeByUpdate(s), Idle: !s.running()}
		seen[i].Dirty = len(seen[i].Made) == 0 && !s.closed && p.slotDirty(s)
		for j, t := range seen[i].Made {
			if t.Status.State == taskstate.Running && t.StartAfter.IsZero() && !p.full() {
				p.edit(s, t, func(t *state.Task) { t.StartAfter = p.now }) // monitored from now
				seen[i].Made[j] = p.edited[t.ID]
			}
		}
	}
	step := update.Next(p.svc, seen, p.now)
	for _, i := range step.Replace {
		if p.full() {
			break
		}
		p.renew(slots[i])
	}
	if !step.Due.IsZero() {
		p.wake(step.Due)
	}
	if step.Status != nil {
		p.putStatus(step)
	}
}

// putStatus records how the update stands and, on a rollback, makes the
// previous spec the service's next revision.
func (p *planner) putStatus(step update.Step) {
	s := *p.svc
	s.UpdateStatus, p.status = step.Status, step.Status
	if step.Rollback {
		s.RegistryAuth = ""
		run := p.view.PreviousRunOf(p.svc)
		if r := p.view.Revision(s.ID, s.PreviousRevision); r != nil {
			s.RegistryAuth = r.RegistryAuth
		}
		to := s.PreviousRevision
		s.Spec, s.PreviousSpec, s.PreviousRevision, s.UpdateResumed = *s.PreviousSpec, nil, 0, time.Time{}
		for r := range p.view.Revisions(s.ID) {
			s.Revision = max(s.Revision, r.Number)
		}
		s.Revision++
		p.other = append(p.other, state.Put(&state.Revision{
			ServiceID: s.ID, Number: s.Revision, Spec: s.Spec, RegistryAuth: s.RegistryAuth, Run: run, RollbackTo: to,
		}))
	}
	p.other = append(p.other, state.Put(&s))
}

// madeByUpdate are the slot's tasks that took the place of an outdated one
// since the service's update began, or that are still about to: an update that
// follows on another waits for what that one has in flight.
func (p *planner) madeByUpdate(s *slot) (made []*state.Task) {
	succeeds := false
	for _, t := range s.tasks {
		switch {
		case p.difference(t.Revision) != state.DiffersNot:
			succeeds = true
		case succeeds && (p.sinceUpdate(t) || wanted(t) && t.Status.State < taskstate.Running):
			made = append(made, t)
		}
	}
	return made
}

// sinceUpdate reports whether t was made, or came to run, since the service's
// update was begun. What failed before is not its failure.
func (p *planner) sinceUpdate(t *state.Task) bool {
	if !update.Active(p.svc) {
		return false
	}
	var since time.Time
	if started := p.svc.UpdateStatus.StartedAt; started != nil {
		since = *started
	}
	ran := wanted(t) && !t.UpdatedAt.Before(since) || restart.Ended(t) && !t.StartAfter.Before(since)
	return !t.CreatedAt.Before(since) || ran
}

// slotDirty reports whether all that fills the slot is outdated, and nothing of
// the service's revision has come to an end there that the restart policy
// lets be.
func (p *planner) slotDirty(s *slot) bool {
	newest := s.newest()
	if newest != nil && newest.Revision == p.svc.Revision && p.done(s) {
		return false
	}
	if !s.wanted() {
		return newest != nil && p.dirty(newest) // one that the restart policy lets be
	}
	return !slices.ContainsFunc(s.tasks, func(t *state.Task) bool { return wanted(t) && !p.dirty(t) })
}

// dirty reports whether t must be replaced to serve for the service's spec. A
// change of placement alone spares tasks on nodes that the new one allows.
func (p *planner) dirty(t *state.Task) bool {
	switch p.difference(t.Revision) {
	case state.Differs:
		return true
	case state.DiffersInPlacement:
		n := p.view.Node(t.NodeID)
		return n == nil || !constraint.MatchAll(p.constraints, facts(n))
	default:
		return false
	}
}

func (p *planner) difference(revision uint64) state.Difference {
	if revision == p.svc.Revision {
		return state.DiffersNot
	}
	d, ok := p.specs[revision]
	if !ok {
		d = state.Differs
		if r := p.view.Revision(p.svc.ID, revision); r != nil {
			if d = state.CompareSpecs(&r.Spec, &p.svc.Spec); !state.SameJSON(r.Run, p.view.RunOf(p.svc)) {
				d = state.Differs
			}
		}
		p.specs[revision] = d
	}
	return d
}

// constraintsOf are those under which tasks of a revision were placed.
func (p *planner) constraintsOf(revision uint64) []constraint.Constraint {
	if revision == p.svc.Revision {
		return p.constraints
	}
	c, ok := p.parsed[revision]
	if !ok {
		if r := p.view.Revision(p.svc.ID, revision); r != nil {
			c = parse(r.Spec.TaskTemplate.Placement)
		}
		p.parsed[revision] = c
	}
	return c
}

// parse reads constraints that the API has accepted. Should one be unreadable
// after all, the scheduler says so; here it excludes no node.
func parse(p *swarm.Placement) []constraint.Constraint {
	if p == nil {
		return nil
	}
	c, err := constraint.Parse(p.Constraints)
	if err != nil {
		return nil
	}
	return c
}
