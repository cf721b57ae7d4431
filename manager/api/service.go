package api

import (
	"bytes"
	"iter"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/namesgenerator"

	"shoal/internal/id"
	"shoal/internal/runspec"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

func (a *API) listServices(w http.ResponseWriter, r *http.Request) error {
	f, err := parseFilters(r, "id", "label", "mode", "name", "runtime")
	if err != nil {
		return err
	}
	withStatus, err := boolParam(r, "status")
	if err != nil {
		return err
	}
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	return writeArray(w, func(buf *bytes.Buffer) iter.Seq[error] {
		return a.cache.items(buf, v, servicesFiltered(v, f), withStatus)
	})
}

func servicesFiltered(v *state.View, f filter) iter.Seq[*state.Service] {
	return func(yield func(*state.Service) bool) {
		for s := range byPrefixes(f.values("id"), v.ServicesByPrefix) {
			if !f.prefix("name", s.Spec.Name) || !f.labels("label", s.Spec.Labels) ||
				!f.exact("mode", modeName(s.Spec.Mode)) || !f.exact("runtime", string(swarm.RuntimeContainer)) {
				continue
			}
			if !yield(s) {
				return
			}
		}
	}
}

// presentService is what clients see of a service. One that publishes nothing
// has no endpoint.
func presentService(s *state.Service) swarm.Service {
	out := s.Service
	if spec := s.Spec.EndpointSpec; spec != nil && len(spec.Ports) > 0 && out.Endpoint.Spec.Mode == "" {
		out.Endpoint.Spec = *spec
		out.Endpoint.Ports = spec.Ports
	}
	return out
}

func serviceStatus(v *state.View, s *state.Service) *swarm.ServiceStatus {
	if isJob(s.Spec.Mode) {
		return jobStatus(v, s)
	}
	status := &swarm.ServiceStatus{}
	for t := range v.TasksOfService(s.ID) {
		if t.Status.State == taskstate.Running && !isDown(v, t.NodeID) {
			status.RunningTasks++
		}
		if t.Desired == taskstate.Running {
			status.DesiredTasks++
		}
	}
	if m := s.Spec.Mode.Replicated; m != nil && m.Replicas != nil {
		status.DesiredTasks = *m.Replicas
	}
	return status
}

// jobStatus counts the tasks of a job's current run. A replicated job's desired
// tasks are those that may run at once, also when it is complete.
func jobStatus(v *state.View, s *state.Service) *swarm.ServiceStatus {
	status := &swarm.ServiceStatus{}
	for t := range v.TasksOfService(s.ID) {
		switch {
		case !thisRun(s, t):
		case t.Status.State == taskstate.Complete:
			status.CompletedTasks++
		case t.Desired == taskstate.Complete && !t.Status.State.Terminal():
			status.DesiredTasks++
			if t.Status.State == taskstate.Running && !isDown(v, t.NodeID) {
				status.RunningTasks++
			}
		}
	}
	if m := s.Spec.Mode.ReplicatedJob; m != nil && m.MaxConcurrent != nil {
		status.DesiredTasks = *m.MaxConcurrent
	}
	return status
}

// thisRun reports whether a task belongs to the current run of a job.
func thisRun(s *state.Service, t *state.Task) bool {
	return s.JobStatus != nil && t.JobIteration != nil && t.JobIteration.Index == s.JobStatus.JobIteration.Index
}

// isDown reports whether a node is down, so that what it last said of its
// tasks is no news: their replacements are counted.
func isDown(v *state.View, nodeID string) bool {
	n := v.Node(nodeID)
	return n != nil && n.Status.State == swarm.NodeStateDown
}

func (a *API) inspectService(w http.ResponseWriter, r *http.Request) error {
	defaults, err := boolParam(r, "insertDefaults")
	if err != nil {
		return err
	}
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	s, err := FindService(v, r.PathValue("id"))
	if err != nil {
		return err
	}
	out := presentService(s)
	if defaults {
		out.Spec = insertDefaults(out.Spec)
	}
	return writeJSON(w, withRun(v, s, out))
}

func (a *API) createService(w http.ResponseWriter, r *http.Request) error {
	var sent wireSpec
	body, err := readJSON(w, r, &sent)
	if err != nil {
		return err
	}
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	spec := sent.ServiceSpec
	names := []string{spec.Name}
	if spec.Name == "" {
		names = randomNames()
		spec.Name = names[0]
	}
	canonical(&spec)
	if err := validateService(&spec); err != nil {
		return err
	}
	run := canonicalRun(sent.Run)
	if err := validateRun(run, &spec); err != nil {
		return err
	}
	if err := validateRebalance(sent.Rebalance); err != nil {
		return err
	}
	service := state.Service{Service: swarm.Service{ID: id.New(), Spec: spec}, Revision: 1, RegistryAuth: auth}
	if sent.Rebalance != nil {
		service.Rebalance = *sent.Rebalance
	}
	if isJob(spec.Mode) {
		service.JobStatus = &swarm.JobStatus{LastExecution: time.Now().UTC()}
	}
	warnings := a.pin(r, &service.Spec, auth)
	answer, err := encode(swarm.ServiceCreateResponse{ID: service.ID, Warnings: warnings})
	if err != nil {
		return err
	}
	out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
		changes, err := planCreate(v, service, run, names)
		return changes, outcome{http.StatusCreated, answer}, err
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}

// planCreate puts the service under the first of the names that is free. What
// is wrong is told in Swarm's order: networks, ports, values, the name.
func planCreate(v *state.View, s state.Service, run *runspec.Spec, names []string) ([]state.Change, error) {
	if err := resolveNetworks(v, &s.Spec); err != nil {
		return nil, err
	}
	if err := allocate(v, &s); err != nil {
		return nil, err
	}
	if err := resolveValues(v, &s.Spec, nil); err != nil {
		return nil, err
	}
	for _, name := range names {
		if v.ServiceByName(name) == nil {
			s.Spec.Name = name
			revision := &state.Revision{ServiceID: s.ID, Number: s.Revision, Spec: s.Spec, RegistryAuth: s.RegistryAuth, Run: run}
			return []state.Change{state.Put(&s), state.Put(revision)}, nil
		}
	}
	return nil, rpcExists("name conflicts with an existing object: service %s already exists", names[0])
}

// randomNames are what a service without a name may be called: the first of
// them that is not taken.
func randomNames() []string {
	names := make([]string, 8)
	for i := range names {
		names[i] = namesgenerator.GetRandomName(i)
	}
	return names
}

func (a *API) removeService(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("id")
	out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
		s, err := FindService(v, ref)
		if err != nil {
			return nil, outcome{}, err
		}
		return []state.Change{state.Delete(state.KindService, s.ID)}, outcome{status: http.StatusOK}, nil
	})
	if err != nil {
		return err
	}
	writeBody(w, out.status, out.body)
	return nil
}
