package executor

import (
	"fmt"
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// op is one thing that is done to a task's container.
type op string

const (
	none    op = ""
	look    op = "look"    // see what the container does
	prepare op = "prepare" // bring the image, create the container
	start   op = "start"
	stop    op = "stop"
	remove  op = "remove"
	forget  op = "forget" // nothing is left to be done
	pause   op = "wait"   // a while, before the next try
)

// known is what is known of one task.
type known struct {
	task      assignment.Task
	status    taskstate.Status  // as last reported
	container *engine.Container // as last seen; nil: there is none
	stale     bool              // the container may have changed since
	unhealthy bool              // it was stopped because of its health
}

// step is what comes next: a status to report if it differs from the known
// one, and something to do.
type step struct {
	status taskstate.Status
	op     op
}

// next decides what to do about a task. Done over and over, with what each
// step brings about, it ends with a step that changes and does nothing.
func next(k known, now time.Time) step {
	switch {
	case k.stale:
		return step{k.status, look}
	case k.task.Desired >= taskstate.Shutdown:
		return end(k, now)
	case k.status.State.Terminal():
		// A new task has taken its place: it must not run a second time.
		if running(k.container) {
			return step{k.status, stop}
		}
		return step{k.status, none}
	case k.container == nil || k.container.State == engine.Removing:
		return without(k, now)
	case k.container.State == engine.Created:
		return begin(k, now)
	case k.container.State == engine.Running:
		return observeRunning(k, now)
	default:
		return step{exited(k, now), none}
	}
}

func running(c *engine.Container) bool { return c != nil && c.State == engine.Running }

// end brings a task down that is no longer wanted.
func end(k known, now time.Time) step {
	if running(k.container) {
		return step{k.status, stop}
	}
	s := k.status
	if !s.State.Terminal() {
		s = enter(k, taskstate.Shutdown, "shutdown", now)
	}
	switch {
	case k.task.Desired < taskstate.Remove:
		return step{s, none} // the container is kept for its logs
	case k.container != nil:
		return step{s, remove}
	default:
		return step{s, forget}
	}
}

// without deals with a task that has no container.
func without(k known, now time.Time) step {
	if k.status.State >= taskstate.Starting {
		s := enter(k, taskstate.Failed, k.status.Message, now)
		s.Err = "dockerexec: container destroyed"
		return step{s, none}
	}
	if k.status.State < taskstate.Accepted {
		return step{enter(k, taskstate.Accepted, "accepted", now), none}
	}
	return step{enter(k, taskstate.Preparing, "preparing", now), prepare}
}

// begin deals with a container that was never started.
func begin(k known, now time.Time) step {
	if k.status.State < taskstate.Ready {
		return step{enter(k, taskstate.Ready, "prepared", now), none}
	}
	if k.task.Desired <= taskstate.Ready {
		return step{k.status, none}
	}
	return step{enter(k, taskstate.Starting, "starting", now), start}
}

func observeRunning(k known, now time.Time) step {
	switch k.container.Health {
	case engine.Unhealthy:
		return step{k.status, stop}
	case engine.Starting:
		return step{enter(k, taskstate.Starting, "starting", now), none}
	default:
		return step{enter(k, taskstate.Running, "started", now), none}
	}
}

// exited is the status of a task whose container has ended by itself.
func exited(k known, now time.Time) taskstate.Status {
	c := k.container
	if c.ExitCode == 0 && !k.unhealthy {
		return enter(k, taskstate.Complete, "finished", now)
	}
	message := "started"
	if k.unhealthy && k.status.State == taskstate.Starting {
		message = "starting" // it never became healthy
	}
	s := enter(k, taskstate.Failed, message, now)
	if c.ExitCode != 0 {
		s.Err = fmt.Sprintf("task: non-zero exit (%d)", c.ExitCode)
	}
	why := ""
	switch {
	case k.unhealthy:
		why = "dockerexec: unhealthy container"
	case c.OOMKilled:
		why = "out of memory"
	case c.Err != "":
		why = c.Err
	}
	if s.Err != "" && why != "" {
		s.Err += ": "
	}
	s.Err += why
	return s
}

// enter is the status of a task that has come to state, with what is seen of
// its container. A task never goes back: one that is further stays there.
func enter(k known, state taskstate.State, message string, now time.Time) taskstate.Status {
	s := k.status
	if state > s.State {
		s.State, s.At, s.Message, s.Err = state, now, message, ""
	}
	if c := k.container; c != nil {
		s.ContainerID, s.PID, s.ExitCode, s.Ports = c.ID, c.PID, c.ExitCode, c.Ports
	}
	return s
}

// broken is the status of a task that err has ended: rejected if it never
// came to be started, else failed.
func broken(s taskstate.Status, err error, now time.Time) taskstate.Status {
	state := taskstate.Rejected
	if s.State >= taskstate.Starting {
		state = taskstate.Failed
	}
	if state > s.State {
		s.State, s.At = state, now
	}
	s.Err = err.Error()
	return s
}

// same reports whether there is nothing new in b for those who know a.
func same(a, b taskstate.Status) bool {
	return a.State == b.State && a.Message == b.Message && a.Err == b.Err && a.ContainerID == b.ContainerID &&
		a.PID == b.PID && a.ExitCode == b.ExitCode && slices.Equal(a.Ports, b.Ports)
}
