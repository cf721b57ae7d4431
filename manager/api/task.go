package api

import (
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

func (a *API) listTasks(w http.ResponseWriter, r *http.Request) error {
	f, err := parseFilters(r, "id", "name", "label", "service", "node", "desired-state", "runtime", "_up-to-date")
	if err != nil {
		return err
	}
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	q, err := newTaskQuery(v, f)
	if err != nil {
		return err
	}
	j := newTaskJoin(v)
	return writeList(w, func(yield func(any) bool) {
		for t := range q.tasks() {
			if !q.matches(t) || q.upToDate && !j.upToDate(t) {
				continue
			}
			if !yield(j.show(t)) {
				return
			}
		}
	})
}

func (a *API) inspectTask(w http.ResponseWriter, r *http.Request) error {
	v, err := a.config.Linearizable(r.Context())
	if err != nil {
		return err
	}
	t, err := FindTask(v, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, newTaskJoin(v).show(t))
}

// taskQuery is a filter over tasks with its names resolved.
type taskQuery struct {
	view     *state.View
	filter   filter
	narrow   bool     // only tasks of services count
	services []string // ids
	nodes    []string
	desired  []taskstate.State
	upToDate bool
}

func newTaskQuery(v *state.View, f filter) (taskQuery, error) {
	q := taskQuery{view: v, filter: f, upToDate: f.has("_up-to-date")}
	for _, ref := range f.values("service") {
		s, err := FindService(v, ref)
		if err != nil {
			return q, err
		}
		q.narrow, q.services = true, append(q.services, s.ID)
	}
	if !q.narrow {
		q.narrowByName()
	}
	for _, ref := range f.values("node") {
		n, err := findNode(v, ref)
		if err != nil {
			return q, err
		}
		q.nodes = append(q.nodes, n.ID)
	}
	for _, name := range f.values("desired-state") {
		if name == "" {
			continue
		}
		s, err := taskstate.Parse(strings.ToLower(name))
		if err != nil {
			return q, failed("Invalid desired-state filter: '%s'", name)
		}
		q.desired = append(q.desired, s)
	}
	return q, nil
}

// narrowByName: the names of tasks begin with that of their service, which
// has no dots.
func (q *taskQuery) narrowByName() {
	for _, name := range q.filter.values("name") {
		q.narrow = true
		service, _, whole := strings.Cut(name, ".")
		if whole {
			if s := q.view.ServiceByName(service); s != nil {
				q.services = append(q.services, s.ID)
			}
			continue
		}
		for s := range q.view.Services() {
			if strings.HasPrefix(s.Spec.Name, service) {
				q.services = append(q.services, s.ID)
			}
		}
	}
}

// tasks yields candidates from the narrowest index that the query allows.
func (q taskQuery) tasks() iter.Seq[*state.Task] {
	switch {
	case q.narrow:
		return concat(q.services, q.view.TasksOfService)
	case len(q.nodes) > 0:
		return concat(q.nodes, q.view.TasksOfNode)
	}
	return byPrefixes(q.filter.values("id"), q.view.TasksByPrefix)
}

func concat(ids []string, tasks func(string) iter.Seq[*state.Task]) iter.Seq[*state.Task] {
	slices.Sort(ids)
	return func(yield func(*state.Task) bool) {
		for _, id := range slices.Compact(ids) {
			for t := range tasks(id) {
				if !yield(t) {
					return
				}
			}
		}
	}
}

func (q taskQuery) matches(t *state.Task) bool {
	if len(q.desired) > 0 && !slices.Contains(q.desired, t.Desired) ||
		len(q.nodes) > 0 && !slices.Contains(q.nodes, t.NodeID) ||
		!q.filter.prefix("id", t.ID) || !q.filter.exact("runtime", string(swarm.RuntimeContainer)) {
		return false
	}
	if q.filter.has("name") && !q.filter.prefix("name", TaskName(q.view, t)) {
		return false
	}
	return !q.filter.has("label") || q.filter.labels("label", q.serviceLabels(t))
}

// serviceLabels: label filters on tasks mean the labels of the service.
func (q taskQuery) serviceLabels(t *state.Task) map[string]string {
	if s := q.view.Service(t.ServiceID); s != nil {
		return s.Spec.Labels
	}
	if r := q.view.Revision(t.ServiceID, t.Revision); r != nil {
		return r.Spec.Labels
	}
	return nil
}
