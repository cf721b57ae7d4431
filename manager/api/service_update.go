package api

import (
	"net/http"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/raftstore/state"
)

// serviceUpdate is a decoded and checked request to update a service.
type serviceUpdate struct {
	ref      string
	version  uint64
	spec     swarm.ServiceSpec
	hasRun   bool // else the service's is kept
	newRun   *runspec.Spec
	balance  *state.Rebalance // nil: the service's is kept
	auth     string           // "" keeps the one that authFrom names
	authFrom string
	rollback bool
	now      time.Time
}

func (a *API) updateService(w http.ResponseWriter, r *http.Request) error {
	u := serviceUpdate{ref: r.PathValue("id"), now: time.Now().UTC()}
	var sent wireSpec
	body, err := readJSON(w, r, &sent)
	if err != nil {
		return err
	}
	if err := validateRebalance(sent.Rebalance); err != nil {
		return err
	}
	u.balance = sent.Rebalance
	u.spec, u.hasRun, u.newRun = sent.ServiceSpec, sent.Run != nil, canonicalRun(sent.Run)
	if err := u.parse(r); err != nil {
		return err
	}
	canonical(&u.spec)
	// Swarm draws a new name for a nameless spec and then refuses the renaming.
	if u.spec.Name == "" {
		return rpcUnimplemented("renaming services is not supported")
	}
	if err := validateService(&u.spec); err != nil {
		return err
	}
	var warnings []string
	if !u.rollback {
		warnings = a.pin(r, &u.spec, u.auth)
	}
	answer, err := encode(swarm.ServiceUpdateResponse{Warnings: warnings})
	if err != nil {
		return err
	}
	out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
		changes, err := planServiceUpdate(v, u)
		return changes, outcome{http.StatusOK, answer}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

func (u *serviceUpdate) parse(r *http.Request) (err error) {
	if u.version, err = versionParam(r, "service"); err != nil {
		return err
	}
	if u.auth, err = registryAuth(r); err != nil {
		return err
	}
	query := r.URL.Query()
	switch u.authFrom = query.Get("registryAuthFrom"); u.authFrom {
	case "", swarm.RegistryAuthFromSpec, swarm.RegistryAuthFromPreviousSpec:
	default:
		return invalid("invalid registryAuthFrom: unsupported registryAuthFrom value '%s': allowed are spec and previous-spec", u.authFrom)
	}
	switch rollback := query.Get("rollback"); rollback {
	case "", "none":
	case "previous":
		u.rollback = true
	default:
		return failed("unrecognized rollback option %s", rollback)
	}
	return nil
}

// planServiceUpdate makes the new spec, or on a rollback the previous one,
// the service's next revision.
func planServiceUpdate(v *state.View, u serviceUpdate) ([]state.Change, error) {
	old, err := FindService(v, u.ref)
	if err != nil {
		return nil, err
	}
	switch {
	case u.spec.Name != old.Spec.Name:
		return nil, rpcUnimplemented("renaming services is not supported")
	case modeName(u.spec.Mode) != modeName(old.Spec.Mode):
		return nil, rpcUnimplemented("service mode change is not allowed")
	}
	next := proposal{Service: *old, now: u.now}
	next.Spec, next.UpdateStatus = u.spec, nil
	if u.balance != nil {
		next.Rebalance = *u.balance
	}
	if next.RegistryAuth, err = u.registryAuth(v, old); err != nil {
		return nil, err
	}
	if u.rollback {
		if err := next.toPrevious(v, u.ref, "manually requested rollback"); err != nil {
			return nil, err
		}
	}
	if u.version != old.Version.Index {
		return nil, outOfSequence()
	}
	if !u.rollback {
		if next.run, err = u.run(v, old); err != nil {
			return nil, err
		}
	}
	return next.accept(v, old)
}

func (u *serviceUpdate) registryAuth(v *state.View, old *state.Service) (string, error) {
	switch {
	case u.auth != "":
		return u.auth, nil
	case u.authFrom != swarm.RegistryAuthFromPreviousSpec:
		return old.RegistryAuth, nil
	case old.PreviousSpec == nil:
		return "", failed("service does not have a previous spec")
	}
	return previousAuth(v, old), nil
}

func previousAuth(v *state.View, s *state.Service) string {
	if r := v.Revision(s.ID, s.PreviousRevision); r != nil {
		return r.RegistryAuth
	}
	return ""
}
