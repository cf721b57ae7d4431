package executor

import (
	"context"
	"time"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// task is a task, or a container without one, that is being worked on.
type task struct {
	known
	assigned bool   // false: forget it when its container is gone
	id       string // container id, once it is known
	wait     backoff.Backoff
	failed   bool          // the last step failed: pause before the next one
	alarm    *time.Timer   // set while the task waits to be withdrawn
	turn     chan struct{} // closed once this node may pull the image
	released bool          // it is closed

	// While a step is being taken, by the only goroutine that a task has:
	busy   op
	cancel context.CancelFunc
}

// take takes in what happened and returns the tasks that it is about.
func (e *Executor) take(ctx context.Context, n news) map[string]bool {
	touched := map[string]bool{}
	if n.lost != nil && !e.lost {
		e.log.Warn("engine lost, tasks keep their last state", "error", n.lost)
		e.lost = true
		e.synced = false
		e.metrics.up.Set(0)
	}
	if n.isSet {
		e.takeTasks(ctx, n, touched)
	}
	for _, r := range n.results {
		e.takeResult(r, touched)
	}
	for id := range n.touched {
		if t := e.tasks[id]; t != nil {
			t.stale = true
			touched[id] = true
		}
	}
	if n.listing != nil {
		e.takeListing(ctx, n.listing, touched)
	}
	if n.connect {
		e.list(ctx, true)
	}
	e.metrics.tasks.Set(float64(len(e.tasks)))
	return touched
}

func (e *Executor) takeTasks(ctx context.Context, n news, touched map[string]bool) {
	if n.complete && !e.complete {
		e.complete = true
		if e.synced {
			e.list(ctx, false) // now it can tell which containers nobody wants
		}
		for _, t := range e.tasks { // what some have waited for may have come
			if t.busy == pause {
				t.cancel()
			}
		}
	}
	listed := map[string]bool{}
	for _, a := range n.tasks {
		listed[a.ID] = true
		t := e.tasks[a.ID]
		if t == nil {
			t = newTask(a)
			e.tasks[a.ID] = t
		}
		behind := t.assigned && a.Status.State < t.status.State
		if t.update(a, time.Now()) {
			touched[a.ID] = true
		}
		if behind { // what was reported has been lost on the way
			e.cfg.Report(a.ID, t.status)
		}
	}
	if !n.complete {
		return
	}
	for id, t := range e.tasks {
		if t.assigned && !listed[id] {
			gone := t.task
			gone.Desired = taskstate.Remove
			gone.Withdrawn = true // no manager has anything more to say of it
			t.update(gone, time.Now())
			t.stopBy = time.Now()
			t.assigned = false
			touched[id] = true
		}
	}
}

func newTask(a assignment.Task) *task {
	t := &task{wait: backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}, turn: make(chan struct{})}
	t.task.ID, t.status, t.id = a.ID, a.Status, a.Status.ContainerID
	// A task that is new here too has no container: if it has one after all,
	// creating it finds that out.
	t.stale = a.Status.State > taskstate.Preparing || a.Desired >= taskstate.Shutdown
	t.files = hasFiles(a) // of an earlier life
	return t
}

// update takes a newer assignment and reports whether it changes anything.
// What is desired never goes back, whatever an outdated manager says.
func (t *task) update(a assignment.Task, now time.Time) bool {
	changed := !t.assigned || a.Desired > t.task.Desired || a.Withdrawn && !t.task.Withdrawn
	a.Desired, a.Withdrawn = max(a.Desired, t.task.Desired), a.Withdrawn || t.task.Withdrawn
	if a.Desired >= taskstate.Shutdown && t.stopBy.IsZero() {
		t.stopBy = now.Add(withdrawTime)
	}
	if settled := now.Add(settleTime); a.Withdrawn && !t.task.Withdrawn && settled.Before(t.stopBy) {
		t.stopBy = settled
		if t.alarm != nil {
			t.alarm.Reset(settleTime)
		}
	}
	if !a.Hold && !t.released { // never taken back: a pull that goes on is not broken off
		close(t.turn)
		t.released = true
	}
	if a.Spec == nil {
		a.Spec = t.task.Spec
	}
	if a.Status.State.Terminal() && a.Status.State > t.status.State {
		t.status = a.Status // the managers have given it up
		changed = true
	}
	t.task, t.assigned = a, true
	if changed && t.cancel != nil && (t.busy == pause || t.busy == prepare && a.Desired >= taskstate.Shutdown) {
		t.cancel()
	}
	return changed
}

// takeListing compares the containers that there are with what is known. It
// concludes nothing, as a list may be older than the last step: what differs
// is looked at.
func (e *Executor) takeListing(ctx context.Context, l *listing, touched map[string]bool) {
	e.listing = false
	if e.relist {
		e.relist = false
		e.list(ctx, true)
	}
	if l.err != nil {
		return // the next one is due soon
	}
	if l.host != nil {
		e.host, e.synced, e.lost = *l.host, true, false
		e.metrics.up.Set(1)
		for id := range e.tasks {
			touched[id] = true
		}
	}
	found := map[string]bool{}
	for _, c := range l.containers {
		id := c.Labels[TaskLabel]
		t := e.tasks[id]
		switch {
		case t == nil || t.container != nil && t.container.ID != c.ID || t.container == nil && found[id]:
			if e.complete {
				e.adoptOrphan(c, touched)
			}
			continue
		case t.container == nil:
			t.id = c.ID
			t.stale, touched[id] = true, true
		case t.container.State != c.State || t.container.Health != c.Health:
			t.stale, touched[id] = true, true
		}
		found[id] = true
	}
	for id, t := range e.tasks {
		if t.container != nil && !found[id] {
			t.stale, touched[id] = true, true
		}
	}
	if e.complete {
		e.dropOrphanFiles(l.files)
	}
}

// dropOrphanFiles removes the files of tasks that are no more.
func (e *Executor) dropOrphanFiles(ids []string) {
	for _, id := range ids {
		if e.tasks[id] != nil {
			continue
		}
		e.steps.Go(func() error {
			if err := e.clean(id); err != nil {
				e.log.Warn("files of a task that is no more are still there, trying again", "task", id, "error", err)
			}
			return nil
		})
	}
}

// adoptOrphan makes a task of a container that no assignment accounts for, to
// the one end that it be removed.
func (e *Executor) adoptOrphan(c engine.Summary, touched map[string]bool) {
	if e.tasks[c.ID] != nil {
		return
	}
	e.log.Info("removing a container that no task accounts for", "container", c.ID, "name", c.Name)
	e.metrics.orphans.Inc()
	t := newTask(assignment.Task{ID: c.ID, Desired: taskstate.Remove, Status: taskstate.Status{State: taskstate.Shutdown}})
	t.task.Desired, t.id = taskstate.Remove, c.ID
	e.tasks[c.ID] = t
	touched[c.ID] = true
}

// advance takes the steps that t needs, up to one that has to be waited for.
func (e *Executor) advance(ctx context.Context, t *task) {
	for t.busy == none {
		if t.failed {
			t.failed = false
			e.launch(ctx, t, pause)
			return
		}
		s := next(t.known, time.Now())
		changed := e.report(t, s.status)
		switch s.op {
		case none:
			if !changed {
				e.wakeAt(t, s.again)
				return
			}
		case forget:
			if !t.assigned {
				delete(e.tasks, t.task.ID)
			}
			return
		default:
			e.launch(ctx, t, s.op)
		}
	}
}

// wakeAt has a task looked at again by then, whatever happens before.
func (e *Executor) wakeAt(t *task, then time.Time) {
	if then.IsZero() || t.alarm != nil {
		return
	}
	id := t.task.ID
	t.alarm = time.AfterFunc(time.Until(then), func() { e.inbox.touch(id) })
}

// report tells of a status, if it says anything new.
func (e *Executor) report(t *task, s taskstate.Status) bool {
	if same(t.status, s) {
		return false
	}
	if s.State != t.status.State {
		e.log.Debug("task moves", "task", t.task.ID, "from", t.status.State, "to", s.State, "error", s.Err)
	}
	t.status = s
	e.cfg.Report(t.task.ID, s)
	return true
}
