package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// giveUpAfter is how long a place must have been given up before waiting for it
// ends: longer than a manager needs to roll an update back.
const giveUpAfter = 2 * time.Second

// givenUp returns a task that has ended and that nothing will follow: its
// restart policy lets it be. nil: there is none.
func givenUp(s sight) *swarm.Task {
	job := s.service.Spec.Mode.ReplicatedJob != nil || s.service.Spec.Mode.GlobalJob != nil
	newest, alive := map[string]swarm.Task{}, map[string]bool{}
	for _, t := range s.tasks {
		if job && !ofRun(s.service, t) || t.DesiredState == swarm.TaskStateRemove {
			continue
		}
		place := placeOf(s.service, t)
		done := job && t.Status.State == swarm.TaskStateComplete
		if n := order(t.DesiredState); done || n != 0 && n <= order(swarm.TaskStateComplete) {
			alive[place] = true
		}
		if old, ok := newest[place]; !ok || old.CreatedAt.Before(t.CreatedAt) {
			newest[place] = t
		}
	}
	for place, t := range newest {
		switch t.Status.State {
		case swarm.TaskStateComplete, swarm.TaskStateFailed, swarm.TaskStateRejected:
			if !alive[place] {
				return &t
			}
		default:
		}
	}
	return nil
}

// placeOf names where tasks of a service succeed each other.
func placeOf(s swarm.Service, t swarm.Task) string {
	if m := s.Spec.Mode; m.Replicated != nil || m.ReplicatedJob != nil {
		return strconv.Itoa(t.Slot)
	}
	return t.NodeID
}

// hopeless notes since when a place has been given up, and returns an error once
// it is clear that the service will not get there.
func (c *convergence) hopeless(s sight, now time.Time) error {
	t := givenUp(s)
	if t == nil {
		c.gaveUp = time.Time{}
		return nil
	}
	if c.gaveUp.IsZero() {
		c.gaveUp = now
	}
	if now.Sub(c.gaveUp) < giveUpAfter {
		return nil
	}
	why := t.Status.Err
	if why == "" {
		why = string(t.Status.State)
	}
	return fmt.Errorf("service %s will not converge: a task has ended (%s) and the restart policy lets it be",
		s.service.Spec.Name, why)
}

// ofRun reports whether a task belongs to the current run of a job.
func ofRun(s swarm.Service, t swarm.Task) bool {
	var run uint64
	if s.JobStatus != nil {
		run = s.JobStatus.JobIteration.Index
	}
	return t.JobIteration != nil && t.JobIteration.Index == run
}
