package api

import (
	"strconv"

	"github.com/docker/docker/api/types/events"

	"shoal/raftstore/state"
)

// valueNews is what changes of secrets and configs mean to users, who see
// names: another version is an update of its name, and only the last one that
// goes takes the name with it.
type valueNews struct {
	view    *state.View // after all changes
	changes []state.Event
	told    map[string]bool
}

// valueOf is what an object is a version of; not ok if of nothing.
func valueOf(o state.Object) (k valueKind, x *value, ok bool) {
	switch o := o.(type) {
	case *state.Secret:
		return secretValue, valueOfSecret(o), true
	case *state.Config:
		return configValue, valueOfConfig(o), true
	}
	return "", nil, false
}

// silent reports whether a change is none to a user: a version that went while
// its name stayed, or after the name was said to be gone.
func (n *valueNews) silent(c state.Event) bool {
	k, gone, ok := valueOf(c.Object())
	if !ok || c.New != nil {
		return false
	}
	if n.had(k, gone.spec.Name, c.Index) {
		return true
	}
	key := string(k) + " " + gone.spec.Name + " " + strconv.FormatUint(c.Index, 10)
	again := n.told[key]
	n.told[key] = true
	return again
}

// had reports whether a name had a version after the update with an index.
func (n *valueNews) had(k valueKind, name string, index uint64) bool {
	for _, x := range k.versions(n.view, name) {
		if x.Version.Index < index {
			return true
		}
	}
	for _, c := range n.changes { // what was there then may have gone since
		kind, x, ok := valueOf(c.Object())
		if ok && kind == k && c.New == nil && c.Index > index && x.spec.Name == name && x.Version.Index < index {
			return true
		}
	}
	return false
}

// versioned turns the creation of another version into an update of its name.
func versioned(c state.Event, m *events.Message) {
	_, x, ok := valueOf(c.Object())
	if !ok || c.New == nil || c.Old != nil || x.number == 1 {
		return
	}
	m.Action = events.ActionUpdate
	m.Actor.Attributes["version"] = strconv.FormatUint(x.number, 10)
}
