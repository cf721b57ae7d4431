package api

import (
	"bytes"
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// proposal is what a service is to become.
type proposal struct {
	state.Service
	now  time.Time
	back uint64 // the revision that it goes back to; 0: none
	// known is the spec whose versions of secrets and configs stay as they are:
	// that of the service; of a rollback, the one that it goes back to.
	known *swarm.ServiceSpec
	run   *runspec.Spec
}

// toPrevious makes it a rollback to the spec before the service's own.
func (p *proposal) toPrevious(v *state.View, ref, why string) error {
	if p.PreviousSpec == nil {
		return rpcPrecondition("service %s does not have a previous spec", ref)
	}
	auth := previousAuth(v, &p.Service)
	p.run = v.PreviousRunOf(&p.Service)
	p.to(*p.PreviousSpec, auth, p.PreviousRevision, why)
	return nil
}

// toRevision makes it a rollback to a revision that is kept.
func (p *proposal) toRevision(v *state.View, number uint64) error {
	if number == p.Revision {
		return rpcPrecondition("service %s is at revision %d already", p.Spec.Name, number)
	}
	r := v.Revision(p.ID, number)
	if r == nil {
		return errdefs.ErrNotFound.WithMessage(
			"revision " + strconv.FormatUint(number, 10) + " of service " + p.Spec.Name + " not found; \"shoal service history\" lists those that are kept")
	}
	p.run = r.Run
	p.to(r.Spec, r.RegistryAuth, number, "manually requested rollback to revision "+strconv.FormatUint(number, 10))
	return nil
}

func (p *proposal) to(spec swarm.ServiceSpec, auth string, number uint64, why string) {
	p.Spec, p.RegistryAuth, p.back, p.known = spec, auth, number, &spec
	p.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateRollbackStarted, StartedAt: &p.now, Message: why}
}

// accept makes the proposal the successor of old. A spec that is the same to the
// letter is the same revision, so that posting it over and over leaves the
// history as it is.
func (p *proposal) accept(v *state.View, old *state.Service) ([]state.Change, error) {
	s := p.Service
	if err := resolveNetworks(v, &s.Spec); err != nil {
		return nil, err
	}
	if err := resolveValues(v, &s.Spec, cmp.Or(p.known, &old.Spec)); err != nil {
		return nil, err
	}
	if err := allocate(v, &s); err != nil {
		return nil, err
	}
	if isJob(s.Spec.Mode) { // every update runs it again
		s.UpdateStatus, s.JobStatus = nil, &swarm.JobStatus{LastExecution: p.now}
		if old.JobStatus != nil {
			s.JobStatus.JobIteration.Index = old.JobStatus.JobIteration.Index + 1
		}
	}
	return revise(v, old, &s, p.run, p.back), nil
}

// revise makes the specs of s, run among them, the next revision of the service that old is; back
// is the revision that it brings back, 0: none.
func revise(v *state.View, old, s *state.Service, run *runspec.Spec, back uint64) []state.Change {
	same := identical(old, s) && state.SameJSON(v.RunOf(old), run) && v.Revision(s.ID, s.Revision) != nil
	if same && s.Rebalance != old.Rebalance {
		kept := *old // this setting alone is no update: what is under way, or can be rolled back, stays so
		kept.Rebalance = s.Rebalance
		return []state.Change{state.Put(&kept)}
	}
	previous := old.Spec
	s.PreviousSpec, s.PreviousRevision, s.UpdateResumed = &previous, old.Revision, time.Time{}
	if same {
		return []state.Change{state.Put(s)}
	}
	s.Revision = nextRevision(v, old)
	revision := &state.Revision{ServiceID: s.ID, Number: s.Revision, Spec: s.Spec, RegistryAuth: s.RegistryAuth, Run: run, RollbackTo: back}
	return []state.Change{state.Put(s), state.Put(revision)}
}

func identical(a, b *state.Service) bool {
	x, errA := encode(&a.Spec)
	y, errB := encode(&b.Spec)
	return errA == nil && errB == nil && a.RegistryAuth == b.RegistryAuth && bytes.Equal(x, y)
}

// nextRevision is above all that are stored: an automatic rollback may have
// left the service at an earlier one.
func nextRevision(v *state.View, s *state.Service) uint64 {
	last := s.Revision
	for r := range v.Revisions(s.ID) {
		last = max(last, r.Number)
	}
	return last + 1
}

// Revision is a revision of a service as GET /shoal/v1/services/{id}/revisions
// tells it.
type Revision struct {
	Number     uint64
	CreatedAt  time.Time
	Current    bool   `json:",omitempty"`
	Previous   bool   `json:",omitempty"` // where a rollback goes
	RollbackTo uint64 `json:",omitempty"` // the revision that it brought back
	Tasks      int    // of this revision, that are meant to run
	Spec       swarm.ServiceSpec
	Run        *runspec.Spec `json:",omitempty"`
}

// Revisions is the history of a service, newest first.
type Revisions struct {
	ServiceID, Name string
	Revisions       []Revision
}

func (a *API) listRevisions(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	s, err := FindService(v, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, revisionsOf(v, s))
}

func revisionsOf(v *state.View, s *state.Service) *Revisions {
	tasks := map[uint64]int{}
	for t := range v.TasksOfService(s.ID) {
		if t.Desired <= taskstate.Complete && !t.Status.State.Terminal() {
			tasks[t.Revision]++
		}
	}
	out := &Revisions{ServiceID: s.ID, Name: s.Spec.Name, Revisions: []Revision{}}
	for r := range v.Revisions(s.ID) {
		out.Revisions = append(out.Revisions, Revision{
			Number: r.Number, CreatedAt: r.CreatedAt, Current: r.Number == s.Revision,
			Previous: s.PreviousSpec != nil && r.Number == s.PreviousRevision, RollbackTo: r.RollbackTo, Tasks: tasks[r.Number], Spec: r.Spec, Run: r.Run,
		})
	}
	slices.Reverse(out.Revisions)
	return out
}
