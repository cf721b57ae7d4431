package executor

import (
	"fmt"
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/overlay"
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
	clean   op = "clean"  // remove the task's files
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
	files     bool              // it may have files: secrets and configs
	// stopBy is when it is stopped even if not all nodes have withdrawn it, or, if
	// they have, when nothing can be under way to it any more; zero until it is to
	// stop.
	stopBy time.Time
}

// step is what comes next: a status to report if it differs from the known
// one, and something to do.
type step struct {
	status taskstate.Status
	op     op
	again  time.Time // with no op: decide again by then; zero: when something has changed
}

// next decides what to do about a task. Done over and over, with what each
// step brings about, it ends with a step that changes and does nothing.
func next(k known, now time.Time) step {
	s := decide(k, now)
	// What is secret goes as soon as it is of no use, before the container: that
	// one may be kept for its logs.
	idle := s.op == none || s.op == remove || s.op == forget
	if k.files && idle && s.status.State.Terminal() && !running(k.container) {
		s.op = clean
	}
	return s
}

func decide(k known, now time.Time) step {
	switch {
	case k.stale:
		return step{status: k.status, op: look}
	case k.task.Desired >= taskstate.Shutdown:
		return end(k, now)
	case k.status.State.Terminal():
		// A new task has taken its place: it must not run a second time.
		if running(k.container) {
			return step{status: k.status, op: stop}
		}
		return step{status: k.status, op: none}
	case k.container == nil || k.container.State == engine.Removing:
		return without(k, now)
	case k.container.State == engine.Created:
		return begin(k, now)
	case k.container.State == engine.Running:
		return observeRunning(k, now)
	default:
		return step{status: exited(k, now), op: none}
	}
}

func running(c *engine.Container) bool { return c != nil && c.State == engine.Running }

// end brings a task down that is no longer wanted.
func end(k known, now time.Time) step {
	if running(k.container) {
		if withheld(k, now) {
			return step{status: k.status, again: k.stopBy}
		}
		return step{status: k.status, op: stop}
	}
	s := k.status
	if !s.State.Terminal() {
		s = enter(k, taskstate.Shutdown, "shutdown", now)
	}
	switch {
	case k.task.Desired < taskstate.Remove:
		return step{status: s, op: none} // the container is kept for its logs
	case k.container != nil:
		return step{status: s, op: remove}
	default:
		return step{status: s, op: forget}
	}
}

// withheld reports whether a task waits for all nodes to send it nothing new,
// and for what they have sent to arrive.
// One that was never running, or is sick, is sent nothing.
func withheld(k known, now time.Time) bool {
	return len(k.task.Networks) > 0 && k.status.State == taskstate.Running && !k.unhealthy && now.Before(k.stopBy)
}

// without deals with a task that has no container.
func without(k known, now time.Time) step {
	if k.status.State >= taskstate.Starting {
		s := enter(k, taskstate.Failed, k.status.Message, now)
		s.Err = "dockerexec: container destroyed"
		return step{status: s, op: none}
	}
	if k.status.State < taskstate.Accepted {
		return step{status: enter(k, taskstate.Accepted, "accepted", now), op: none}
	}
	return step{status: enter(k, taskstate.Preparing, "preparing", now), op: prepare}
}

// begin deals with a container that was never started.
func begin(k known, now time.Time) step {
	if k.container.Partial {
		return step{status: enter(k, taskstate.Preparing, "preparing", now), op: prepare}
	}
	if k.status.State < taskstate.Ready {
		return step{status: enter(k, taskstate.Ready, "prepared", now), op: none}
	}
	if k.task.Desired <= taskstate.Ready {
		return step{status: k.status, op: none}
	}
	return step{status: enter(k, taskstate.Starting, "starting", now), op: start}
}

func observeRunning(k known, now time.Time) step {
	switch k.container.Health {
	case engine.Unhealthy:
		return step{status: k.status, op: stop}
	case engine.Starting:
		return step{status: enter(k, taskstate.Starting, "starting", now), op: none}
	default:
		return step{status: enter(k, taskstate.Running, "started", now), op: none}
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
		s.Addrs = c.Addrs[overlay.MeshBridge] // where the published ports of all nodes find it
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
		a.PID == b.PID && a.ExitCode == b.ExitCode && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Addrs, b.Addrs)
}
