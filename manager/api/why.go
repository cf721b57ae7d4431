package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// Why explains the state of a task or a service.
type Why struct {
	Kind         string // "task" or "service"
	ID, Name     string
	State        string
	DesiredState string
	Cause        string
	Evidence     []string
	Fix          string     // the smallest change that would help, Fixes[0]; "" if none is needed or known
	Fixes        []string   `json:",omitempty"` // the cheapest first
	RetryAt      *time.Time `json:",omitempty"` // when the next task of a crash loop starts
	Container    *Testimony `json:",omitempty"` // what the container tells that it is about
}

// finding is a Why that comes to be.
type finding struct {
	Why
	about *state.Task // whose container can tell more; nil: there is none
}

func (w *finding) fix(text string) {
	if text != "" {
		w.Fixes = append(w.Fixes, text)
	}
}

func (a *API) why(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	out, err := explain(v, r.PathValue("id"), time.Now())
	if err != nil {
		return err
	}
	a.hear(r.Context(), v, &out)
	out.Evidence = bounded(out.Evidence)
	if len(out.Fixes) > 0 {
		out.Fix = out.Fixes[0]
	}
	return writeJSON(w, out.Why)
}

// bounded keeps what a person reads of a long list.
func bounded(lines []string) []string {
	const most = 20
	if len(lines) > most {
		return append(lines[:most:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return append([]string{}, lines...) // never null
}

// explain takes a service, a task, or the name of a slot, such as web.3.
func explain(v *state.View, ref string, now time.Time) (finding, error) {
	s, err := FindService(v, ref)
	if err == nil {
		return explainService(v, s, now), nil
	}
	if !errdefs.IsNotFound(err) {
		return finding{}, err
	}
	t, err := FindTask(v, ref)
	if errdefs.IsNotFound(err) {
		t, err = findSlot(v, ref), errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no task or service %s", ref))
		if t != nil {
			err = nil
		}
	}
	if err != nil {
		return finding{}, err
	}
	return explainTask(v, t, now), nil
}

// findSlot finds the newest task of a slot by its name.
func findSlot(v *state.View, ref string) (newest *state.Task) {
	for i := len(ref) - 1; i > 0; i-- {
		if ref[i] != '.' {
			continue
		}
		s := v.ServiceByName(ref[:i])
		if s == nil {
			continue
		}
		for t := range v.TasksOfService(s.ID) {
			if slotName(s.Spec.Name, t) == ref && (newest == nil || t.CreatedAt.After(newest.CreatedAt)) {
				newest = t
			}
		}
	}
	return newest
}

func explainService(v *state.View, s *state.Service, now time.Time) finding {
	why := finding{Why: Why{Kind: "service", ID: s.ID, Name: s.Spec.Name}}
	status := serviceStatus(v, s)
	why.State = fmt.Sprintf("%d of %d running", status.RunningTasks, status.DesiredTasks)
	why.DesiredState = fmt.Sprintf("%d running", status.DesiredTasks)
	job, left := isJob(s.Spec.Mode), uint64(0)
	if job {
		left = explainJob(s, status, &why)
	}
	counts, worst := map[taskstate.State]int{}, (*state.Task)(nil)
	wanted := 0
	for t := range v.TasksOfService(s.ID) {
		if t.Desired > taskstate.Complete || job && (t.Status.State == taskstate.Complete || !thisRun(s, t)) {
			continue
		}
		wanted++
		counts[t.Status.State]++
		if t.Status.State != taskstate.Running && (worst == nil || trouble(t) > trouble(worst)) {
			worst = t
		}
	}
	for _, st := range taskstate.All() {
		if n := counts[st]; n > 0 {
			why.Evidence = append(why.Evidence, fmt.Sprintf("%s: %d", st, n))
		}
	}
	switch {
	case worst != nil:
		inner := explainTask(v, worst, now)
		why.Cause = fmt.Sprintf("task %s: %s", inner.Name, inner.Cause)
		why.Evidence, why.Fixes = append(why.Evidence, inner.Evidence...), inner.Fixes
		why.RetryAt, why.about = inner.RetryAt, inner.about
	case blocked(s) && left > 0:
		why.Cause = "none of its tasks may run: the most that may run at a time is 0"
		why.fix("docker service update --max-concurrent 1 " + s.Spec.Name)
	case job && left == 0:
		why.Cause = "the job is complete"
	case uint64(wanted) < status.DesiredTasks && (!job || uint64(wanted) < left): //nolint:gosec // a count
		why.Cause = "tasks are still to be created, or the restart policy lets ended ones be"
		explainLastEnd(v, s, &why)
	case status.DesiredTasks == 0 && s.Spec.Mode.Global != nil:
		why.Cause = "no node is ready, active and meets the constraints"
		explainRefusals(v, &state.Task{ServiceID: s.ID, Revision: s.Revision}, now, &why)
	case status.DesiredTasks == 0:
		why.Cause = "it is scaled to 0"
	default:
		why.Cause = "all tasks run"
		explainBalance(v, s, now, &why)
	}
	explainUpdate(v, s, worst == nil, &why)
	return why
}

// explainUpdate says what has become of the service's update, unless that went
// well: of one that was rolled back nothing else tells once all tasks run.
func explainUpdate(v *state.View, s *state.Service, calm bool, why *finding) {
	u := s.UpdateStatus
	if u == nil || u.State == swarm.UpdateStateUpdating || u.State == swarm.UpdateStateCompleted {
		return
	}
	why.Evidence = append(why.Evidence, fmt.Sprintf("the update is %s: %s", strings.ReplaceAll(string(u.State), "_", " "), u.Message))
	if !calm || u.StartedAt == nil {
		return
	}
	failed := newest(v, s, func(t *state.Task) bool {
		return (t.Status.State == taskstate.Failed || t.Status.State == taskstate.Rejected) && !t.CreatedAt.Before(*u.StartedAt)
	})
	if failed == nil {
		return
	}
	cause, fix := ending(v, failed)
	why.Cause += fmt.Sprintf(", but its last update did not go through: task %s: %s", TaskName(v, failed), cause)
	why.about = failed
	why.fix(fix)
}

// explainJob tells how far a job has come, and returns how many of its tasks
// have still to be complete.
func explainJob(s *state.Service, status *swarm.ServiceStatus, why *finding) (left uint64) {
	total := status.CompletedTasks + status.DesiredTasks
	if m := s.Spec.Mode.ReplicatedJob; m != nil && m.TotalCompletions != nil {
		total = *m.TotalCompletions
	}
	why.State = fmt.Sprintf("%d of %d complete, %d running", status.CompletedTasks, total, status.RunningTasks)
	why.DesiredState = fmt.Sprintf("%d complete", total)
	return total - min(total, status.CompletedTasks)
}

// blocked reports whether a job lets none of its tasks run, as Swarm allows.
func blocked(s *state.Service) bool {
	m := s.Spec.Mode.ReplicatedJob
	return m != nil && m.MaxConcurrent != nil && *m.MaxConcurrent == 0
}

// trouble orders tasks by how much they tell of what is wrong.
func trouble(t *state.Task) int {
	switch {
	case t.Status.State.Terminal():
		return 4
	case t.Restarts.Quick > 0:
		return 3
	case t.Status.Err != "":
		return 2
	}
	return 1
}

// explainLastEnd adds how the newest ended task of a service ended.
func explainLastEnd(v *state.View, s *state.Service, why *finding) {
	last := newest(v, s, func(t *state.Task) bool { return t.Status.State.Terminal() && t.Revision == s.Revision })
	if last == nil {
		return
	}
	cause, fix := ending(v, last)
	why.Evidence = append(why.Evidence, fmt.Sprintf("task %s: %s", TaskName(v, last), cause))
	why.about = last
	why.fix(fix)
}

// newest is the task of those that count whose state is the newest.
func newest(v *state.View, s *state.Service, counts func(*state.Task) bool) (found *state.Task) {
	for t := range v.TasksOfService(s.ID) {
		if counts(t) && (found == nil || t.Status.At.After(found.Status.At)) {
			found = t
		}
	}
	return found
}
