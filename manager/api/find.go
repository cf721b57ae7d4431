package api

import (
	"iter"
	"strconv"
	"strings"

	"shoal/raftstore/state"
)

// choose finds what a reference means: the object with this id, else the one
// with this name, else the one whose id begins so. Never a prefix of a name.
func choose[T any](kind, ref string, byID func(string) *T, byName, byPrefix iter.Seq[*T]) (*T, error) {
	if found := byID(ref); found != nil {
		return found, nil
	}
	for _, candidates := range []iter.Seq[*T]{byName, byPrefix} {
		var found *T
		count := 0
		for o := range candidates {
			found = o
			count++
		}
		switch {
		case count == 1:
			return found, nil
		case count > 1:
			return nil, invalid("%s %s is ambiguous (%d matches found)", kind, ref, count)
		}
	}
	return nil, notFound(kind, ref)
}

// one yields o unless it is nil.
func one[T any](o *T) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		if o != nil {
			yield(o)
		}
	}
}

// FindService finds a service by id, name or the beginning of its id.
func FindService(v *state.View, ref string) (*state.Service, error) {
	return choose("service", ref, v.Service, one(v.ServiceByName(ref)), v.ServicesByPrefix(ref))
}

func findNode(v *state.View, ref string) (*state.Node, error) {
	named := func(yield func(*state.Node) bool) {
		for n := range v.Nodes() {
			if strings.EqualFold(n.Description.Hostname, ref) || n.Spec.Name != "" && n.Spec.Name == ref {
				if !yield(n) {
					return
				}
			}
		}
	}
	return choose("node", ref, v.Node, named, v.NodesByPrefix(ref))
}

// FindTask finds a task by id, name or the beginning of its id.
func FindTask(v *state.View, ref string) (*state.Task, error) {
	var named *state.Task
	if i := strings.LastIndexByte(ref, '.'); i >= 0 {
		if t := v.Task(ref[i+1:]); t != nil && TaskName(v, t) == ref {
			named = t
		}
	}
	return choose("task", ref, v.Task, one(named), v.TasksByPrefix(ref))
}

// TaskName is the name of a task's container. Global services have no slots:
// the node takes the place of the number.
func TaskName(v *state.View, t *state.Task) string {
	service := t.ServiceID
	if s := v.Service(t.ServiceID); s != nil {
		service = s.Spec.Name
	} else if r := v.Revision(t.ServiceID, t.Revision); r != nil {
		service = r.Spec.Name
	}
	return slotName(service, t) + "." + t.ID
}

func slotName(service string, t *state.Task) string {
	if t.Slot == 0 {
		return service + "." + t.NodeID
	}
	return service + "." + strconv.Itoa(t.Slot)
}
