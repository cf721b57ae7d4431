package api

import (
	"bytes"
	"crypto/subtle"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/versions"

	"shoal/internal/id"
	"shoal/raftstore/state"
)

// Swarm's: data must be smaller than this.
const (
	maxSecret    = 500 << 10
	maxConfig    = 1000 << 10
	maxValueName = 64
)

func (k valueKind) max() int {
	if k == configValue {
		return maxConfig
	}
	return maxSecret
}

// read decodes the spec of a secret, or of a config in the form of a secret's.
func (k valueKind) read(w http.ResponseWriter, r *http.Request) (spec swarm.SecretSpec, body []byte, err error) {
	if k == configValue {
		var c swarm.ConfigSpec
		body, err = readJSON(w, r, &c)
		spec = swarm.SecretSpec{Annotations: c.Annotations, Data: c.Data, Templating: c.Templating}
	} else {
		body, err = readJSON(w, r, &spec)
	}
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	return spec, body, err
}

func (a *API) createValue(k valueKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		spec, body, err := k.read(w, r)
		if err != nil {
			return err
		}
		if spec.Templating != nil && versions.LessThan(Version(r), "1.37") {
			return invalid("%s templating is not supported on the specified API version: %s", k, Version(r))
		}
		if err := k.check(spec); err != nil {
			return err
		}
		x := &value{id: id.New(), number: 1, spec: spec}
		answer, err := encode(swarm.SecretCreateResponse{ID: x.id})
		if err != nil {
			return err
		}
		out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
			if k.newest(v, spec.Name) != nil {
				return nil, outcome{}, rpcExists("%s %s already exists", k, spec.Name)
			}
			return []state.Change{state.Put(k.object(x))}, outcome{http.StatusCreated, answer}, nil
		})
		if err != nil {
			return err
		}
		writeBody(w, out.status, out.body)
		return nil
	}
}

// check refuses what no state of the cluster would take in.
func (k valueKind) check(spec swarm.SecretSpec) error {
	switch name := spec.Name; {
	case name == "":
		return rpcInvalid("name must be provided")
	case !isValueName(name):
		return rpcInvalid("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]")
	case spec.Driver != nil && spec.Driver.Name == "":
		return rpcInvalid("secret driver must have a name")
	case spec.Driver != nil:
		return unsupported("Spec.Driver", "store the secret's data in the cluster, secret plugins are not asked")
	}
	if err := validateLabels("Spec.Labels", spec.Labels); err != nil {
		return err
	}
	return k.checkData(spec)
}

func (k valueKind) checkData(spec swarm.SecretSpec) error {
	if len(spec.Data) == 0 || len(spec.Data) >= k.max() {
		return rpcInvalid("%s data must be larger than 0 and less than %d bytes", k, k.max())
	}
	t := spec.Templating
	switch {
	case t == nil:
		return nil
	case t.Name != "golang":
		return rpcInvalid("invalid Spec.Templating.Name %q, the only template driver is golang", t.Name)
	case len(t.Options) > 0:
		return rpcInvalid("invalid Spec.Templating.Options: template driver golang has none")
	}
	text := func(string) string { return "" }
	_, err := template.New("").Funcs(template.FuncMap{"join": strings.Join, "secret": text, "config": text, "env": text}).Parse(string(spec.Data))
	if err != nil {
		return rpcInvalid("invalid Spec.Data: it is no Go template: %s", k.templateError(err))
	}
	return nil
}

// templateError is what may be said of a template that cannot be read: of a
// secret's only where, as the rest quotes it.
func (k valueKind) templateError(err error) string {
	if line := regexp.MustCompile(`^template: :(\d+):`).FindStringSubmatch(err.Error()); k == secretValue && line != nil {
		return "line " + line[1]
	}
	if k == secretValue {
		return "it cannot be read"
	}
	return err.Error()
}

// isValueName: letters, digits, and inside also '-', '_' and '.'.
func isValueName(name string) bool {
	return name != "" && len(name) <= maxValueName &&
		every(name, func(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' || c == '.' }) &&
		isAlphanumeric(name[0]) && isAlphanumeric(name[len(name)-1])
}

func (a *API) updateValue(k valueKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		version, err := versionParam(r, string(k))
		if err != nil {
			return err
		}
		spec, body, err := k.read(w, r)
		if err != nil {
			return err
		}
		if err := validateLabels("Spec.Labels", spec.Labels); err != nil {
			return err
		}
		ref := r.PathValue("id")
		out, err := a.write(r, body, func(v *state.View) ([]state.Change, outcome, error) {
			changes, err := k.planLabels(v, ref, version, spec)
			return changes, outcome{status: http.StatusOK}, err
		})
		if err != nil {
			return err
		}
		writeBody(w, out.status, out.body)
		return nil
	}
}

// planLabels changes the labels: a value itself never changes.
func (k valueKind) planLabels(v *state.View, ref string, version uint64, spec swarm.SecretSpec) ([]state.Change, error) {
	old, err := k.find(v, ref)
	switch {
	case err != nil:
		return nil, err
	case !old.answersTo(spec.Name), spec.Data != nil && !k.same(spec.Data, old.spec.Data):
		return nil, rpcInvalid("only updates to Labels are allowed")
	case version != old.Version.Index:
		return nil, outOfSequence()
	}
	x := *old
	x.spec.Labels = spec.Labels
	return []state.Change{state.Put(k.object(&x))}, nil
}

func (k valueKind) same(a, b []byte) bool {
	if k == configValue {
		return bytes.Equal(a, b)
	}
	return subtle.ConstantTimeCompare(a, b) == 1
}

func (a *API) removeValue(k valueKind) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ref := r.PathValue("id")
		out, err := a.write(r, nil, func(v *state.View) ([]state.Change, outcome, error) {
			changes, err := k.planRemove(v, ref)
			return changes, outcome{status: http.StatusNoContent}, err
		})
		if err != nil {
			return err
		}
		writeBody(w, out.status, out.body)
		return nil
	}
}

// planRemove removes a name with all its versions, or the one older version
// that ref means.
func (k valueKind) planRemove(v *state.View, ref string) (changes []state.Change, err error) {
	x, err := k.find(v, ref)
	if err != nil {
		return nil, err
	}
	doomed := []*value{x}
	if k.isNewest(v, x) {
		doomed = k.versions(v, x.spec.Name)
	}
	users := map[string]bool{}
	for _, d := range doomed {
		for s := range v.ServicesUsing(d.id) {
			users[s.Spec.Name] = true
		}
		changes = append(changes, state.Delete(state.Kind(k), d.id))
	}
	if len(users) > 0 {
		word := "services"
		if len(users) == 1 {
			word = "service"
		}
		names := strings.Join(slices.Sorted(maps.Keys(users)), ", ")
		return nil, rpcInvalid("%s '%s' is in use by the following %s: %s", k, x.spec.Name, word, names)
	}
	return changes, nil
}
