package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/raftstore/state"
)

// wireSpec is a service's spec as it is sent: Docker's, and beside it what only
// shoal knows. Docker's clients read it without that and send it back without.
type wireSpec struct {
	swarm.ServiceSpec
	Run       *runspec.Spec    `json:",omitempty"`
	Rebalance *state.Rebalance `json:",omitempty"` // not in previous specs: it is no part of a revision
}

// UnmarshalJSON reads Docker's spec as if nothing stood beside it, so that what
// is wrong with it has Docker's words.
func (w *wireSpec) UnmarshalJSON(text []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return json.Unmarshal(text, &w.ServiceSpec) // says why not
	}
	ours := false
	for name, into := range map[string]any{"Run": &w.Run, "Rebalance": &w.Rebalance} {
		field, ok := fields[name]
		if !ok {
			continue
		}
		if err := strictly(field, into); err != nil {
			return err
		}
		delete(fields, name)
		ours = true
	}
	if ours {
		rest, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		text = rest
	}
	return strictly(text, &w.ServiceSpec)
}

// strictly refuses fields that there are not, as the rest of a request does.
func strictly(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// wireService is a service with such specs.
type wireService struct {
	swarm.Service
	Spec         wireSpec
	PreviousSpec *wireSpec `json:",omitempty"`
}

// withRun adds to a service what its specs in Docker's form cannot say.
func withRun(v *state.View, s *state.Service, out swarm.Service) any {
	run, previous := v.RunOf(s), v.PreviousRunOf(s)
	if run == nil && previous == nil && s.Rebalance == "" {
		return &out
	}
	w := wireService{Service: out, Spec: wireSpec{ServiceSpec: out.Spec, Run: run}}
	if s.Rebalance != "" {
		w.Spec.Rebalance = &s.Rebalance
	}
	if out.PreviousSpec != nil {
		w.PreviousSpec = &wireSpec{ServiceSpec: *out.PreviousSpec, Run: previous}
	}
	return &w
}

// wireTask is a task whose spec has what its service's says beside Docker's.
type wireTask struct {
	swarm.Task
	Spec wireTaskSpec
}

type wireTaskSpec struct {
	swarm.TaskSpec
	Run *runspec.Spec `json:",omitempty"`
}

// show is present for clients that know Run.
func (j *taskJoin) show(t *state.Task) any {
	out := j.present(t)
	r := j.revision(t.ServiceID, t.Revision)
	if r == nil || r.Run == nil {
		return &out
	}
	return &wireTask{Task: out, Spec: wireTaskSpec{out.Spec, r.Run}}
}

// canonicalRun gives equal run specs one form; one that says nothing is none.
func canonicalRun(r *runspec.Spec) *runspec.Spec {
	if r == nil {
		return nil
	}
	dropEmpty(reflect.ValueOf(r).Elem())
	for i := range r.Devices {
		d := &r.Devices[i]
		d.PathInContainer = cmp.Or(d.PathInContainer, d.PathOnHost)
		d.CgroupPermissions = cmp.Or(d.CgroupPermissions, "rwm")
	}
	for i, port := range r.ExposedPorts {
		if !strings.Contains(port, "/") {
			r.ExposedPorts[i] = port + "/tcp"
		}
	}
	if reflect.ValueOf(*r).IsZero() {
		return nil
	}
	return r
}

// run is the run spec that an update leaves the service with. One that the
// request does not mention is kept: Docker's clients never do.
func (u *serviceUpdate) run(v *state.View, old *state.Service) (*runspec.Spec, error) {
	if u.hasRun {
		return u.newRun, validateRun(u.newRun, &u.spec)
	}
	kept := v.RunOf(old)
	if err := validateRun(kept, &u.spec); err != nil {
		return nil, fmt.Errorf(`%w; the request has no Run, so the service's is kept: change it with "shoal service update"`, err)
	}
	return kept, nil
}
