// Package update decides how a service's tasks are brought to its newest
// revision: which slots are replaced now, and when the update has failed or
// is complete.
//
// It is pure, and what it knows of an update under way it reads from the
// service's UpdateStatus and the slots' tasks, so that a new leader goes on
// where the last one was.
package update

import (
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// DefaultMonitor is how long a replaced task is watched for failure.
const DefaultMonitor = 5 * time.Second

// Slot is a place of the service as an update sees it.
type Slot struct {
	// Dirty: the slot has to be replaced, and nothing replaces it yet.
	Dirty bool
	// Idle: no task of the slot runs, so replacing it costs nothing.
	Idle bool
	// Made are the tasks that this update put here, oldest first. They are of
	// the service's revision and took the place of one that was outdated.
	Made []*state.Task
}

// Step is what to do now.
type Step struct {
	Replace  []int               // indexes of slots
	Status   *swarm.UpdateStatus // nil: stays as it is
	Rollback bool                // put the previous spec in place
	Due      time.Time           // when time alone calls for another look; zero: never
}

// Config returns the settings under which the service is being updated, with
// defaults filled in.
func Config(s *state.Service) swarm.UpdateConfig {
	given := s.Spec.UpdateConfig
	if rollingBack(s) || s.UpdateStatus != nil && s.UpdateStatus.State == swarm.UpdateStateRollbackPaused {
		given = s.Spec.RollbackConfig
	}
	c := swarm.UpdateConfig{Parallelism: 1}
	if given != nil {
		c = *given
	}
	if c.FailureAction == "" {
		c.FailureAction = swarm.UpdateFailureActionPause
	}
	if c.Order == "" {
		c.Order = swarm.UpdateOrderStopFirst
	}
	if c.Monitor == 0 {
		c.Monitor = DefaultMonitor
	}
	return c
}

// Active reports whether an update or rollback of the service is under way.
func Active(s *state.Service) bool {
	return s.UpdateStatus != nil &&
		(s.UpdateStatus.State == swarm.UpdateStateUpdating || s.UpdateStatus.State == swarm.UpdateStateRollbackStarted)
}

func rollingBack(s *state.Service) bool {
	return s.UpdateStatus != nil && s.UpdateStatus.State == swarm.UpdateStateRollbackStarted
}

func paused(s *state.Service) bool {
	return s.UpdateStatus != nil &&
		(s.UpdateStatus.State == swarm.UpdateStatePaused || s.UpdateStatus.State == swarm.UpdateStateRollbackPaused)
}

// Next returns the next step of the service's update. A paused update takes
// none: it waits for a new spec.
func Next(s *state.Service, slots []Slot, now time.Time) Step {
	p := survey(slots, Config(s), s.UpdateResumed, now)
	switch {
	case paused(s):
		return Step{}
	case !Active(s) && p.dirty == 0:
		return Step{}
	case !Active(s):
		step := p.advance(slots)
		step.Status = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &now, Message: "update in progress"}
		return step
	case p.tooManyFailures():
		return fail(s, p)
	case p.dirty == 0 && p.inFlight == 0:
		return finish(s, p, now)
	}
	return p.advance(slots)
}

// progress is what has become of an update so far.
type progress struct {
	config                         swarm.UpdateConfig
	dirty, made, inFlight, resting int
	failures                       int
	failed                         string    // id of a failed task
	last                           time.Time // when the last slot was through
	rested                         time.Time // when the next delay ends
}

func survey(slots []Slot, c swarm.UpdateConfig, resumed, now time.Time) progress {
	p := progress{config: c}
	for _, s := range slots {
		if s.Dirty {
			p.dirty++
		}
		if len(s.Made) == 0 {
			continue
		}
		p.made++
		if t := firstFailure(s.Made, c.Monitor); t != nil && !since(t).Before(resumed) {
			p.failures++
			p.failed = t.ID
		}
		through, ok := whenThrough(s.Made)
		if !ok {
			p.inFlight++
			continue
		}
		if through.After(p.last) {
			p.last = through
		}
		if rested := through.Add(c.Delay); rested.After(now) {
			p.resting++
			if p.rested.IsZero() || rested.Before(p.rested) {
				p.rested = rested
			}
		}
	}
	return p
}

// whenThrough is when a task of the update last came to run, or ended. The
// slot's worker goes on to another slot then, after the delay.
func whenThrough(made []*state.Task) (at time.Time, ok bool) {
	for _, t := range made {
		if t.Status.State >= taskstate.Running {
			if seen := since(t); !ok || seen.After(at) {
				at = seen
			}
			ok = true
		}
	}
	return at, ok
}

func firstFailure(made []*state.Task, monitor time.Duration) *state.Task {
	for _, t := range made {
		switch t.Status.State {
		case taskstate.Rejected:
			return t
		case taskstate.Failed, taskstate.Complete:
			// StartAfter is set when a task of an update is seen to run.
			if t.StartAfter.IsZero() || since(t).Sub(t.StartAfter) < monitor {
				return t
			}
		default:
		}
	}
	return nil
}

// since is when t entered its state: by its worker's clock, as far as that
// agrees with the managers'.
func since(t *state.Task) time.Time {
	switch at := t.Status.At; {
	case at.Before(t.CreatedAt):
		return t.CreatedAt
	case at.After(t.UpdatedAt):
		return t.UpdatedAt
	default:
		return at
	}
}

func (p progress) tooManyFailures() bool {
	if p.failures == 0 || p.config.FailureAction == swarm.UpdateFailureActionContinue {
		return false
	}
	return float32(p.failures)/float32(p.made+p.dirty) > p.config.MaxFailureRatio
}

// advance gives dirty slots to the workers that are free. Slots in which
// nothing runs come first.
func (p progress) advance(slots []Slot) Step {
	step := Step{Due: p.rested}
	free := p.dirty
	if n := p.config.Parallelism; n > 0 {
		free = int(min(uint64(p.dirty), n-min(n, uint64(p.inFlight+p.resting)))) //nolint:gosec // at most dirty
	}
	for _, idle := range []bool{true, false} {
		for i, s := range slots {
			if len(step.Replace) == free {
				break
			}
			if s.Dirty && s.Idle == idle {
				step.Replace = append(step.Replace, i)
			}
		}
	}
	if p.dirty == 0 {
		step.Due = time.Time{}
	}
	return step
}

// finish closes the update once the last of its tasks has been watched.
func finish(s *state.Service, p progress, now time.Time) Step {
	watch := p.config.Monitor
	if p.config.Delay >= watch {
		watch = p.config.Delay + time.Second
	}
	if p.config.FailureAction == swarm.UpdateFailureActionContinue {
		watch = 0
	}
	if due := p.last.Add(watch); p.made > 0 && due.After(now) {
		return Step{Due: due}
	}
	status := *s.UpdateStatus
	status.State, status.Message = swarm.UpdateStateCompleted, "update completed"
	if rollingBack(s) {
		status.State, status.Message = swarm.UpdateStateRollbackCompleted, "rollback completed"
	}
	status.CompletedAt = &now
	return Step{Status: &status}
}

func fail(s *state.Service, p progress) Step {
	const cause = " due to failure or early termination of task "
	status := *s.UpdateStatus
	rollback := p.config.FailureAction == swarm.UpdateFailureActionRollback
	switch {
	case rollingBack(s):
		status.State, status.Message = swarm.UpdateStateRollbackPaused, "update paused"+cause+p.failed
		if rollback {
			status.Message = "rollback paused" + cause + p.failed
		}
		rollback = false
	case rollback && s.PreviousSpec != nil:
		status.State, status.Message = swarm.UpdateStateRollbackStarted, "update rolled back"+cause+p.failed
	default: // without a previous spec there is nothing to go back to
		status.State, status.Message = swarm.UpdateStatePaused, "update paused"+cause+p.failed
		rollback = false
	}
	return Step{Status: &status, Rollback: rollback}
}
