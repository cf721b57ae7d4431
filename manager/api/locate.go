package api

import (
	"strings"

	"shoal/raftstore/state"
)

// Place is where a container is.
type Place struct {
	NodeID string
	Node   string // its name
	ID     string // of the container; its name, if the managers know no id
	TTY    bool
	Task   *state.Task // nil: no service has it
}

// Locate finds the container that ref names: a task by name, slot or id, a
// container of a task by id, or one on a cluster network by name.
func Locate(v *state.View, ref string) (Place, error) {
	ref = strings.TrimPrefix(ref, "/")
	t, err := FindTask(v, ref)
	if t == nil {
		t = taskOfSlot(v, ref)
	}
	if t == nil {
		if byContainer, second := taskOfContainer(v, ref); second != nil {
			return Place{}, second
		} else if byContainer != nil {
			t = byContainer
		}
	}
	if t != nil {
		return placeOfTask(v, t)
	}
	p, second := placeOfAttachment(v, ref)
	if second != nil || p.NodeID != "" {
		return p, second
	}
	if err != nil && status(err) == 400 {
		return p, err // an ambiguous prefix
	}
	return p, notFound("container", ref)
}

func placeOfTask(v *state.View, t *state.Task) (Place, error) {
	p := Place{NodeID: t.NodeID, Node: NodeName(v, t.NodeID), ID: t.Status.ContainerID, Task: t, TTY: TaskTTY(v, t)}
	if t.NodeID == "" {
		return p, failed("task %s has no container: it has not been scheduled", TaskName(v, t))
	}
	if p.ID == "" {
		p.ID = TaskName(v, t)
	}
	return p, nil
}

// TaskTTY reports whether the container of a task has a terminal.
func TaskTTY(v *state.View, t *state.Task) bool {
	r := v.Revision(t.ServiceID, t.Revision)
	return r != nil && r.Spec.TaskTemplate.ContainerSpec != nil && r.Spec.TaskTemplate.ContainerSpec.TTY
}

// NodeName is how a node is named to users: its own name, that of its host, or
// its id.
func NodeName(v *state.View, id string) string {
	n := v.Node(id)
	switch {
	case n == nil:
		return id
	case n.Spec.Name != "":
		return n.Spec.Name
	case n.Description.Hostname != "":
		return n.Description.Hostname
	}
	return id
}

// taskOfSlot finds the task that "web.1" means, or "web.NODE" of a global
// service: the one that runs, or else the newest.
func taskOfSlot(v *state.View, ref string) (best *state.Task) {
	name, _, found := strings.Cut(ref, ".")
	s := v.ServiceByName(name)
	if !found || s == nil {
		return nil
	}
	for t := range v.TasksOfService(s.ID) {
		if slotName(name, t) != ref && (t.Slot != 0 || name+"."+NodeName(v, t.NodeID) != ref) {
			continue
		}
		if best == nil || better(t, best) {
			best = t
		}
	}
	return best
}

// better reports whether a has more to show than b: it runs, or it is newer.
func better(a, b *state.Task) bool {
	if a.Status.State.Terminal() != b.Status.State.Terminal() {
		return b.Status.State.Terminal()
	}
	if (a.Status.ContainerID != "") != (b.Status.ContainerID != "") {
		return a.Status.ContainerID != ""
	}
	return a.CreatedAt.After(b.CreatedAt)
}

// minContainerPrefix is the shortest beginning of a container's id that is
// looked for. The docker CLI shows 12.
const minContainerPrefix = 4

func taskOfContainer(v *state.View, ref string) (found *state.Task, err error) {
	if len(ref) < minContainerPrefix || strings.Trim(ref, "0123456789abcdef") != "" {
		return nil, nil
	}
	count := 0
	for t := range v.Tasks() {
		if t.Status.ContainerID == ref {
			return t, nil
		}
		if strings.HasPrefix(t.Status.ContainerID, ref) {
			found = t
			count++
		}
	}
	if count > 1 {
		return nil, invalid("container %s is ambiguous (%d matches found)", ref, count)
	}
	return found, nil
}

func placeOfAttachment(v *state.View, ref string) (p Place, err error) {
	for a := range v.Attachments() {
		if a.Name != ref {
			continue
		}
		if p.NodeID != "" && p.NodeID != a.NodeID {
			return Place{}, invalid("container %s is ambiguous: nodes %s and %s have one of that name on a cluster network", ref, p.Node, NodeName(v, a.NodeID))
		}
		p = Place{NodeID: a.NodeID, Node: NodeName(v, a.NodeID), ID: a.Name}
	}
	return p, nil
}
