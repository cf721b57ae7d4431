package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// steering is what a user may ask of an update, by the last part of the path:
// POST /shoal/v1/services/{id}/pause, and so on.
type steering func(v *state.View, s *state.Service, now time.Time) ([]state.Change, error)

// steer answers with the service's update status, as the request leaves it.
func (a *API) steer(how steering) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ref, now := r.PathValue("id"), time.Now().UTC()
		out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
			s, err := FindService(v, ref)
			if err != nil {
				return nil, outcome{}, err
			}
			changes, err := how(v, s, now)
			if err != nil {
				return nil, outcome{}, err
			}
			for _, c := range changes {
				if changed, ok := c.Object().(*state.Service); ok {
					s = changed
				}
			}
			answer, err := encode(struct{ UpdateStatus *swarm.UpdateStatus }{s.UpdateStatus})
			return changes, outcome{http.StatusOK, answer}, err
		})
		if err != nil {
			return err
		}
		writeBody(w, out.status, out.body)
		return nil
	}
}

// pause keeps an update, or a rollback, from replacing more tasks. What is
// being replaced comes to its end. Pausing again changes nothing.
func pause(v *state.View, s *state.Service, now time.Time) ([]state.Change, error) {
	if err := underway(v, s); err != nil {
		return nil, err
	}
	status := swarm.UpdateStatus{StartedAt: &now}
	if s.UpdateStatus != nil {
		status = *s.UpdateStatus
	}
	switch status.State {
	case swarm.UpdateStatePaused, swarm.UpdateStateRollbackPaused:
		return nil, nil
	case swarm.UpdateStateRollbackStarted:
		status.State, status.Message = swarm.UpdateStateRollbackPaused, "rollback paused by the user"
	default:
		status.State, status.Message = swarm.UpdateStatePaused, "update paused by the user"
	}
	return withStatus(s, status, s.UpdateResumed), nil
}

// resume lets a paused update, or rollback, go on. Tasks that had failed
// before are forgiven. Resuming what goes on changes nothing.
func resume(v *state.View, s *state.Service, now time.Time) ([]state.Change, error) {
	if err := underway(v, s); err != nil {
		return nil, err
	}
	if s.UpdateStatus == nil {
		return nil, nil
	}
	status := *s.UpdateStatus
	switch status.State {
	case swarm.UpdateStatePaused:
		status.State, status.Message = swarm.UpdateStateUpdating, "update in progress"
	case swarm.UpdateStateRollbackPaused:
		status.State, status.Message = swarm.UpdateStateRollbackStarted, "rollback in progress"
	default:
		return nil, nil
	}
	return withStatus(s, status, now), nil
}

// abort takes an update back: all tasks that it replaced are replaced again, as
// the rollback settings say.
func abort(v *state.View, s *state.Service, now time.Time) ([]state.Change, error) {
	if err := underway(v, s); err != nil {
		return nil, err
	}
	if u := s.UpdateStatus; u != nil && (u.State == swarm.UpdateStateRollbackStarted || u.State == swarm.UpdateStateRollbackPaused) {
		return nil, rpcPrecondition("service %s is being rolled back already: pause or resume that, or update the service", s.Spec.Name)
	}
	next := proposal{Service: *s, now: now}
	if err := next.toPrevious(v, s.Spec.Name, "update aborted by the user"); err != nil {
		return nil, err
	}
	return next.accept(v, s)
}

// rollBack goes back to the revision that the request names, or to the previous
// spec.
func rollBack(to uint64) steering {
	return func(v *state.View, s *state.Service, now time.Time) ([]state.Change, error) {
		next := proposal{Service: *s, now: now}
		var err error
		if to == 0 {
			err = next.toPrevious(v, s.Spec.Name, "manually requested rollback")
		} else {
			err = next.toRevision(v, to)
		}
		if err != nil {
			return nil, err
		}
		return next.accept(v, s)
	}
}

func (a *API) rollBackService(w http.ResponseWriter, r *http.Request) error {
	var to uint64
	if given := r.URL.Query().Get("to"); given != "" {
		n, err := strconv.ParseUint(given, 10, 64)
		if err != nil || n == 0 {
			return invalid("invalid revision '%s': a number from 1 is expected", given)
		}
		to = n
	}
	return a.steer(rollBack(to))(w, r)
}

func withStatus(s *state.Service, status swarm.UpdateStatus, resumed time.Time) []state.Change {
	next := *s
	next.UpdateStatus, next.UpdateResumed = &status, resumed
	return []state.Change{state.Put(&next)}
}

// underway refuses a service that is not being updated.
func underway(v *state.View, s *state.Service) error {
	switch u := s.UpdateStatus; {
	case isJob(s.Spec.Mode):
		return rpcPrecondition("service %s is a job: an update runs it again, and cannot be paused", s.Spec.Name)
	case u == nil && outdated(v, s): // accepted, and not begun yet
	case u == nil || u.CompletedAt != nil:
		return rpcPrecondition("service %s is not being updated", s.Spec.Name)
	}
	return nil
}

// outdated reports whether a task of the service is to be replaced.
func outdated(v *state.View, s *state.Service) bool {
	j := newTaskJoin(v)
	for t := range v.TasksOfService(s.ID) {
		if t.Desired <= taskstate.Running && !j.upToDate(t) {
			return true
		}
	}
	return false
}
