package api

import (
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

// valueKind is a kind of value, secret or config: all that tells them apart.
// It is the word that messages use.
type valueKind state.Kind

const (
	secretValue = valueKind(state.KindSecret)
	configValue = valueKind(state.KindConfig)
)

// value is a version of a secret or config. Its spec's Data may be secret.
type value struct {
	swarm.Meta
	id     string
	number uint64
	spec   swarm.SecretSpec
}

func valueOfSecret(s *state.Secret) *value {
	if s == nil {
		return nil
	}
	return &value{Meta: s.Meta, id: s.ID, number: s.VersionNumber(), spec: s.Spec}
}

func valueOfConfig(c *state.Config) *value {
	if c == nil {
		return nil
	}
	spec := swarm.SecretSpec{Annotations: c.Spec.Annotations, Data: c.Spec.Data, Templating: c.Spec.Templating}
	return &value{Meta: c.Meta, id: c.ID, number: c.VersionNumber(), spec: spec}
}

// fullName names this one version, whichever the newest is.
func (x *value) fullName() string { return x.spec.Name + "@" + strconv.FormatUint(x.number, 10) }

// answersTo reports whether a reference by name may mean this version.
func (x *value) answersTo(name string) bool { return name == x.spec.Name || name == x.fullName() }

func mapped[A, B any](seq iter.Seq[A], f func(A) B) iter.Seq[B] {
	return func(yield func(B) bool) {
		for a := range seq {
			if !yield(f(a)) {
				return
			}
		}
	}
}

func (k valueKind) get(v *state.View, id string) *value {
	if k == configValue {
		return valueOfConfig(v.Config(id))
	}
	return valueOfSecret(v.Secret(id))
}

// versions are those of a name, newest first.
func (k valueKind) versions(v *state.View, name string) []*value {
	if k == configValue {
		return slices.Collect(mapped(v.ConfigVersions(name), valueOfConfig))
	}
	return slices.Collect(mapped(v.SecretVersions(name), valueOfSecret))
}

func (k valueKind) byPrefix(v *state.View) func(string) iter.Seq[*value] {
	return func(prefix string) iter.Seq[*value] {
		if k == configValue {
			return mapped(v.ConfigsByPrefix(prefix), valueOfConfig)
		}
		return mapped(v.SecretsByPrefix(prefix), valueOfSecret)
	}
}

// newest is the version that has the name, nil if there is none.
func (k valueKind) newest(v *state.View, name string) *value {
	if k == configValue {
		return valueOfConfig(v.ConfigByName(name))
	}
	return valueOfSecret(v.SecretByName(name))
}

func (k valueKind) isNewest(v *state.View, x *value) bool { return k.newest(v, x.spec.Name).id == x.id }

// named is what a name means: the newest version, or the one that it names by
// its number.
func (k valueKind) named(v *state.View, ref string) *value {
	name, number, numbered := strings.Cut(ref, "@")
	if !numbered {
		return k.newest(v, ref)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil
	}
	for _, x := range k.versions(v, name) {
		if x.number == n {
			return x
		}
	}
	return nil
}

func (k valueKind) find(v *state.View, ref string) (*value, error) {
	byID := func(id string) *value { return k.get(v, id) }
	return choose(string(k), ref, byID, one(k.named(v, ref)), k.byPrefix(v)(ref))
}

// object is what is stored of a value.
func (k valueKind) object(x *value) state.Object {
	if k == configValue {
		c := &state.Config{Number: x.number}
		c.ID, c.Spec = x.id, configSpec(x.spec)
		return c
	}
	s := &state.Secret{Number: x.number}
	s.ID, s.Spec = x.id, x.spec
	return s
}

func configSpec(s swarm.SecretSpec) swarm.ConfigSpec {
	return swarm.ConfigSpec{Annotations: s.Annotations, Data: s.Data, Templating: s.Templating}
}

// present is what clients see of a value: of a secret all but its data. name
// tells which version it is: one that is not the newest goes by its full name.
func (k valueKind) present(x *value, name string) any {
	spec := x.spec
	spec.Name = name
	if k == configValue {
		return swarm.Config{ID: x.id, Meta: x.Meta, Spec: configSpec(spec)}
	}
	spec.Data = nil
	return swarm.Secret{ID: x.id, Meta: x.Meta, Spec: spec}
}

// shownName is the name under which a version is shown to who asked for ref.
func (k valueKind) shownName(v *state.View, x *value, ref string) string {
	if ref == x.fullName() || !k.isNewest(v, x) {
		return x.fullName()
	}
	return x.spec.Name
}

func (a *API) inspectValue(k valueKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := a.config.Linearizable(r.Context())
		if err != nil {
			return err
		}
		ref := r.PathValue("id")
		x, err := k.find(v, ref)
		if err != nil {
			return err
		}
		return writeJSON(w, k.present(x, k.shownName(v, x, ref)))
	}
}

func (a *API) listValues(k valueKind) handler {
	accepted := []string{"id", "label", "name"}
	if k == secretValue {
		accepted = append(accepted, "names")
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		f, err := parseFilters(r, accepted...)
		if err != nil {
			return err
		}
		v, err := a.config.Linearizable(r.Context())
		if err != nil {
			return err
		}
		return writeList(w, k.filtered(v, f))
	}
}

// filtered yields the newest versions that f lets through, and older ones that
// it names in full: so a client that looks names up can pin a version.
func (k valueKind) filtered(v *state.View, f filter) iter.Seq[any] {
	asked := append(f.values("name"), f.values("names")...)
	return func(yield func(any) bool) {
		for x := range byPrefixes(f.values("id"), k.byPrefix(v)) {
			name := x.spec.Name
			switch {
			case slices.Contains(asked, x.fullName()):
				name = x.fullName()
			case !k.isNewest(v, x):
				continue
			}
			if !f.prefix("name", name) || !f.exact("names", name) || !f.labels("label", x.spec.Labels) {
				continue
			}
			if !yield(k.present(x, name)) {
				return
			}
		}
	}
}
