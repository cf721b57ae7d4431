package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/docker/docker/api/types/registry"
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
	auth     string // "" keeps the one that authFrom names
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
	answer, err := encode(swarm.ServiceUpdateResponse{})
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
	old, err := findService(v, u.ref)
	if err != nil {
		return nil, err
	}
	switch {
	case u.spec.Name != old.Spec.Name:
		return nil, rpcUnimplemented("renaming services is not supported")
	case modeName(u.spec.Mode) != modeName(old.Spec.Mode):
		return nil, rpcUnimplemented("service mode change is not allowed")
	}
	s := *old
	s.Spec, s.UpdateStatus = u.spec, nil
	if s.RegistryAuth, err = u.registryAuth(v, old); err != nil {
		return nil, err
	}
	if u.rollback {
		if err := u.rollBack(v, old, &s); err != nil {
			return nil, err
		}
	}
	if u.version != old.Version.Index {
		return nil, outOfSequence()
	}
	run, err := u.run(v, old, &s.Spec)
	if err != nil {
		return nil, err
	}
	if err := resolveNetworks(v, &s.Spec); err != nil {
		return nil, err
	}
	if err := allocate(v, &s); err != nil {
		return nil, err
	}
	previous := old.Spec
	s.PreviousSpec, s.PreviousRevision = &previous, old.Revision
	s.Revision = nextRevision(v, old)
	revision := &state.Revision{ServiceID: s.ID, Number: s.Revision, Spec: s.Spec, RegistryAuth: s.RegistryAuth, Run: run}
	return []state.Change{state.Put(&s), state.Put(revision)}, nil
}

func (u *serviceUpdate) rollBack(v *state.View, old, s *state.Service) error {
	if old.PreviousSpec == nil {
		return rpcPrecondition("service %s does not have a previous spec", u.ref)
	}
	s.Spec = *old.PreviousSpec
	s.RegistryAuth = previousAuth(v, old)
	s.UpdateStatus = &swarm.UpdateStatus{
		State: swarm.UpdateStateRollbackStarted, StartedAt: &u.now, Message: "manually requested rollback",
	}
	return nil
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

// nextRevision is above all that are stored: an automatic rollback may have
// left the service at an earlier one.
func nextRevision(v *state.View, s *state.Service) uint64 {
	last := s.Revision
	for r := range v.Revisions(s.ID) {
		last = max(last, r.Number)
	}
	return last + 1
}

// registryAuth reads and checks the credentials for the image's registry. They
// are kept as they came: a secret that only workers get to see.
func registryAuth(r *http.Request) (string, error) {
	auth := r.Header.Get(registry.AuthHeader)
	if auth == "" {
		return "", nil
	}
	raw, err := base64.URLEncoding.DecodeString(auth)
	if err != nil {
		raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(auth, "="))
	}
	var config registry.AuthConfig
	if err != nil || json.Unmarshal(raw, &config) != nil {
		return "", invalid("invalid %s header: base64url of a JSON object with the credentials is expected", registry.AuthHeader)
	}
	return auth, nil
}
