package api

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/id"
	"shoal/raftstore/state"
)

// ValueSet answers POST /shoal/v1/secrets/{id}/set and .../configs/{id}/set,
// whose body is {"Data":…}: another version of a name. Services that refer to
// the name are rolled to it; those that refer to one version, NAME@N, and jobs,
// which would run again, keep theirs.
type ValueSet struct {
	ID      string
	Version uint64
	New     bool     // false: the newest version had this data already
	Rolled  []string // names of services that were changed to use it
	Kept    []string // names of services that stay with an older one
}

// ValueVersion is an item of GET /shoal/v1/secrets/{id}/versions and
// .../configs/{id}/versions, newest first.
type ValueVersion struct {
	ID        string
	Version   uint64
	CreatedAt time.Time
	Services  []string // names of services that use it
}

func (a *API) listVersions(k valueKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := a.config.Linearizable(r.Context())
		if err != nil {
			return err
		}
		x, err := k.find(v, r.PathValue("id"))
		if err != nil {
			return err
		}
		list := []ValueVersion{}
		for _, x := range k.versions(v, x.spec.Name) {
			item := ValueVersion{ID: x.id, Version: x.number, CreatedAt: x.CreatedAt, Services: []string{}}
			for s := range v.ServicesUsing(x.id) {
				item.Services = append(item.Services, s.Spec.Name)
			}
			slices.Sort(item.Services)
			list = append(list, item)
		}
		return writeJSON(w, list)
	}
}

func (a *API) setValue(k valueKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		var request struct{ Data []byte }
		body, err := readJSON(w, r, &request)
		if err != nil {
			return err
		}
		if err := k.checkData(swarm.SecretSpec{Data: request.Data}); err != nil {
			return err
		}
		ref, newID := r.PathValue("id"), id.New()
		out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
			changes, set, err := k.planSet(v, ref, newID, request.Data)
			if err != nil {
				return nil, outcome{}, err
			}
			answer, err := encode(set)
			return changes, outcome{http.StatusOK, answer}, err
		})
		if err != nil {
			return err
		}
		writeBody(w, out.status, out.body)
		return nil
	}
}

// planSet makes data the newest version of a name, unless it is that already,
// and gives it to the services that follow the name, each by a revision of its
// own: a rollback of the service then brings back the version before.
func (k valueKind) planSet(v *state.View, ref, newID string, data []byte) ([]state.Change, ValueSet, error) {
	old, err := k.find(v, ref)
	if err != nil {
		return nil, ValueSet{}, err
	}
	old = k.newest(v, old.spec.Name)
	x := &value{id: newID, number: old.number + 1, spec: old.spec}
	x.spec.Data = data
	if err := k.checkData(x.spec); err != nil { // it may have become a template that cannot be read
		return nil, ValueSet{}, err
	}
	set := ValueSet{ID: old.id, Version: old.number}
	var changes []state.Change
	if !k.same(data, old.spec.Data) {
		set = ValueSet{ID: x.id, Version: x.number, New: true}
		changes = append(changes, state.Put(k.object(x)))
	}
	set.Rolled, set.Kept = []string{}, []string{}
	for _, s := range k.usersOfOlder(v, old.spec.Name, set.ID) {
		next := *s
		next.UpdateStatus = nil
		if !k.roll(v, &next.Spec, old.spec.Name, set.ID) {
			set.Kept = append(set.Kept, s.Spec.Name)
			continue
		}
		set.Rolled = append(set.Rolled, s.Spec.Name)
		changes = append(changes, revise(v, s, &next, v.RunOf(s), 0)...)
	}
	return changes, set, nil
}

// usersOfOlder are the services that use another version of a name, by name.
func (k valueKind) usersOfOlder(v *state.View, name, newest string) []*state.Service {
	found := map[string]*state.Service{}
	for _, x := range k.versions(v, name) {
		if x.id == newest {
			continue
		}
		for s := range v.ServicesUsing(x.id) {
			found[s.Spec.Name] = s
		}
	}
	sorted := make([]*state.Service, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		sorted = append(sorted, found[name])
	}
	return sorted
}

// roll makes the references of a spec that follow a name refer to its version
// id. It reports false if none did.
func (k valueKind) roll(v *state.View, spec *swarm.ServiceSpec, name, id string) (rolled bool) {
	if spec.Mode.ReplicatedJob != nil || spec.Mode.GlobalJob != nil {
		return false
	}
	k.mapReferences(spec, func(ref, refName string) string {
		if x := k.get(v, ref); x != nil && x.spec.Name == name && refName == name && ref != id {
			rolled = true
			return id
		}
		return ref
	})
	return rolled
}

// mapReferences replaces the ids that a spec refers to. What the spec shares
// with others stays as it is.
func (k valueKind) mapReferences(spec *swarm.ServiceSpec, to func(id, name string) string) {
	c := *spec.TaskTemplate.ContainerSpec
	if k == configValue {
		c.Configs = slices.Clone(c.Configs)
		for i, ref := range c.Configs {
			next := *ref
			next.ConfigID = to(ref.ConfigID, ref.ConfigName)
			c.Configs[i] = &next
		}
	} else {
		c.Secrets = slices.Clone(c.Secrets)
		for i, ref := range c.Secrets {
			next := *ref
			next.SecretID = to(ref.SecretID, ref.SecretName)
			c.Secrets[i] = &next
		}
	}
	spec.TaskTemplate.ContainerSpec = &c
}
