package executor

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// A step that takes longer than this is given up and tried again.
const (
	lookTime = 30 * time.Second
	makeTime = 2 * time.Minute // volume drivers take their time
	stopTime = time.Minute     // beyond the grace period
)

// result is what came of a step.
type result struct {
	taskID    string
	op        op
	container *engine.Container // nil: there is none
	err       error
	began     time.Time
}

// order is all that a step needs to know, so that it shares nothing with the
// loop.
type order struct {
	op   op
	task assignment.Task
	id   string // container id, or empty
	pid  int    // of the container
	host host
	wait time.Duration
	turn <-chan struct{} // see task
}

// launch takes one step of a task, in the goroutine of that task.
func (e *Executor) launch(ctx context.Context, t *task, what op) {
	o := order{op: what, task: t.task, id: t.id, pid: t.status.PID, host: e.host, turn: t.turn}
	if what == pause {
		o.wait = t.wait.Next()
	}
	if what == stop && t.container.Health == engine.Unhealthy && t.task.Desired < taskstate.Shutdown {
		t.unhealthy = true
	}
	if what == stop {
		e.noteStop(t)
	}
	if what == prepare {
		t.files = hasFiles(t.task)
	}
	if what == look {
		t.stale = false // whatever happens from here on makes it stale again
	}
	ctx, cancel := context.WithCancel(ctx)
	t.busy, t.cancel = what, cancel
	e.steps.Go(func() error {
		defer cancel()
		r := result{taskID: o.task.ID, op: o.op, began: time.Now()}
		r.container, r.err = e.carefully(ctx, o)
		e.inbox.done(r)
		return nil
	})
}

// noteStop counts a task that is stopped although nodes may still send to it.
func (e *Executor) noteStop(t *task) {
	if t.alarm == nil {
		return
	}
	t.alarm.Stop()
	t.alarm = nil
	if !t.task.Withdrawn {
		e.metrics.withdrawTimeouts.Inc()
		e.log.Warn("stopping a task that not all nodes have withdrawn", "task", t.task.ID, "after", withdrawTime)
	}
}

// carefully takes a step that may panic: a task that nobody foresaw ends
// itself and not the worker.
func (e *Executor) carefully(ctx context.Context, o order) (c *engine.Container, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("step of a task panicked", "task", o.task.ID, "op", o.op, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s: %v: %w", o.op, p, errdefs.ErrInternal)
		}
	}()
	return e.do(ctx, o)
}

func (e *Executor) do(ctx context.Context, o order) (*engine.Container, error) {
	switch o.op {
	case pause:
		return nil, (&backoff.Backoff{Min: o.wait, Max: o.wait}).Wait(ctx)
	case prepare:
		return e.prepare(ctx, o)
	case start:
		return e.slotted(ctx, o, makeTime, e.start)
	case stop:
		e.awaitAccepted(ctx, o)
		return e.slotted(ctx, o, stopTime+graceOf(o.task), e.stop)
	case remove:
		return e.slotted(ctx, o, makeTime, e.remove)
	case look:
		return e.slotted(ctx, o, lookTime, e.look)
	case clean:
		return nil, e.clean(o.task.ID)
	default:
		return nil, fmt.Errorf("unknown step %q: %w", o.op, errdefs.ErrInternal)
	}
}

// slotted takes a step when there is a slot for it, within its time.
func (e *Executor) slotted(ctx context.Context, o order, limit time.Duration, do func(context.Context, order) (*engine.Container, error)) (*engine.Container, error) {
	slots := e.slots[o.op]
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer slots.Release(1)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx, o)
}

// look sees what the task's container does. One of that name which is not the
// task's is none.
func (e *Executor) look(ctx context.Context, o order) (*engine.Container, error) {
	id := o.id
	if id == "" {
		id = containerName(o.task, e.cfg.NodeID)
	}
	c, err := e.cfg.Engine.Inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case o.id == "" && !e.owns(c, o.task.ID):
		return nil, nil
	}
	return c, nil
}

func (e *Executor) owns(c *engine.Container, taskID string) bool {
	return c.Labels[ClusterLabel] == e.cfg.ClusterID && c.Labels[TaskLabel] == taskID
}

func (e *Executor) prepare(ctx context.Context, o order) (*engine.Container, error) {
	spec, err := containerSpec(o.task, e.cfg.ClusterID, o.host.node, o.host.apiVersion)
	if err != nil {
		return nil, err
	}
	if err := e.puller.ensure(ctx, requestOf(o)); err != nil {
		return nil, err
	}
	attachment, err := e.attach(ctx, o.task)
	if err != nil {
		return nil, err
	}
	if spec, err = e.deliver(o, attached(spec, attachment)); err != nil {
		return nil, err
	}
	return e.slotted(ctx, o, makeTime, func(ctx context.Context, o order) (*engine.Container, error) {
		id, err := e.cfg.Engine.Create(ctx, spec)
		if err == nil {
			return &engine.Container{Summary: engine.Summary{ID: id, Name: spec.Name, Labels: spec.Config.Labels, State: engine.Created}}, nil
		}
		if !errdefs.IsConflict(err) && !errdefs.IsAlreadyExists(err) {
			return nil, err
		}
		return e.adopt(ctx, o, spec.Endpoints, err)
	})
}

// attach makes the networks of a task ready for it.
func (e *Executor) attach(ctx context.Context, t assignment.Task) (engine.Attachment, error) {
	if len(t.Networks) == 0 {
		return engine.Attachment{}, nil
	}
	if e.cfg.Network == nil {
		return engine.Attachment{}, refused("network %s is not available on this node", t.Networks[0].NetworkID)
	}
	return e.cfg.Network.Attach(ctx, t)
}

// adopt takes the container that has the task's name already, if it is the
// task's: an earlier try, or an earlier daemon, has made it. One that has never
// started and was not connected to all its networks is connected now.
func (e *Executor) adopt(ctx context.Context, o order, endpoints []engine.Endpoint, conflict error) (*engine.Container, error) {
	c, err := e.cfg.Engine.Inspect(ctx, containerName(o.task, e.cfg.NodeID))
	switch {
	case errdefs.IsNotFound(err) || err == nil && c.State == engine.Removing:
		return nil, fmt.Errorf("%w: %w", errdefs.ErrUnavailable, conflict) // on its way out
	case err != nil:
		return nil, err
	case !e.owns(c, o.task.ID):
		return nil, conflict
	case c.State != engine.Created || !c.Partial:
		return c, nil
	}
	for _, ep := range endpoints {
		if err := e.cfg.Engine.Connect(ctx, c.ID, ep); err != nil {
			return nil, fmt.Errorf("connecting container failed: %w", err)
		}
	}
	return e.look(ctx, order{task: o.task, id: c.ID})
}

func (e *Executor) start(ctx context.Context, o order) (*engine.Container, error) {
	if err := e.cfg.Engine.Start(ctx, o.id); err != nil {
		return nil, fmt.Errorf("starting container failed: %w", err)
	}
	return e.look(ctx, o)
}

func (e *Executor) stop(ctx context.Context, o order) (*engine.Container, error) {
	var opts engine.StopOptions
	if o.task.Spec != nil && o.task.Spec.Task.ContainerSpec != nil {
		opts.Grace = o.task.Spec.Task.ContainerSpec.StopGracePeriod
	}
	if err := e.cfg.Engine.Stop(ctx, o.id, opts); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsNotModified(err) {
		return nil, fmt.Errorf("stopping container failed: %w", err)
	}
	return e.look(ctx, o)
}

func graceOf(t assignment.Task) time.Duration {
	if t.Spec != nil && t.Spec.Task.ContainerSpec != nil && t.Spec.Task.ContainerSpec.StopGracePeriod != nil {
		return *t.Spec.Task.ContainerSpec.StopGracePeriod
	}
	return time.Hour // only the container knows its own
}

func (e *Executor) remove(ctx context.Context, o order) (*engine.Container, error) {
	err := e.cfg.Engine.Remove(ctx, o.id)
	switch {
	case err == nil || errdefs.IsNotFound(err):
		return nil, nil
	case errdefs.IsConflict(err): // it is being removed already
		return nil, fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
	default:
		return nil, fmt.Errorf("removing container failed: %w", err)
	}
}

// clean removes the files of a task.
func (e *Executor) clean(taskID string) error {
	if e.cfg.Files == nil {
		return nil
	}
	if err := e.cfg.Files.Remove(taskID); err != nil {
		return fmt.Errorf("removing the files of the task failed: %w", err)
	}
	return nil
}

// takeResult takes in what came of a step.
func (e *Executor) takeResult(r result, touched map[string]bool) {
	t := e.tasks[r.taskID]
	if t == nil || t.busy != r.op {
		return
	}
	t.busy, t.cancel = none, nil
	touched[r.taskID] = true
	e.metrics.observe(r)
	switch {
	case r.op == pause:
		t.stale = true // time has passed: look first
	case r.op == clean && r.err == nil:
		t.files = false
		t.wait.Reset()
	case r.err == nil:
		t.container = r.container
		t.id = ""
		if r.container != nil {
			t.id = r.container.ID
		}
		if r.op != look { // looking comes before each try
			t.wait.Reset()
		}
	default:
		e.takeError(t, r)
	}
}
