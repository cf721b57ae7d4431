package dispatcher

import (
	"maps"
	"slices"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/worker/assignment"
)

// shelf is which secrets and configs a worker has, and which of its tasks need
// them. It belongs to the session's writer.
type shelf struct {
	has    map[string]bool     // ids of values
	needs  map[string][]string // by task
	users  map[string]int      // tasks, by value
	filled bool                // needs holds all of the node's tasks
}

func newShelf(has []string) *shelf {
	s := &shelf{has: map[string]bool{}, needs: map[string][]string{}, users: map[string]int{}}
	for _, id := range has {
		s.has[id] = true
	}
	return s
}

// needed are the ids of what a task needs: none unless it is this node's and
// may still have to be started, or runs.
func needed(v *state.View, nodeID, taskID string) []string {
	t := v.Task(taskID)
	if t == nil || t.NodeID != nodeID || !assigned(t) || t.Desired >= taskstate.Shutdown || t.Status.State.Terminal() {
		return nil
	}
	r := v.Revision(t.ServiceID, t.Revision)
	if r == nil {
		return nil
	}
	return slices.Collect(state.ValuesOf(&r.Spec))
}

// write puts into a line what the worker lacks for its tasks, and what it is to
// forget. touched are the tasks that may need something else than before; with
// all, any may.
func (s *shelf) write(v *state.View, nodeID string, line *assignment.Down, touched ids, all bool) {
	changed := ids{}
	if all || !s.filled {
		s.filled = true
		for id := range s.has {
			changed[id] = true
		}
		touched = ids{}
		for id := range s.needs {
			touched[id] = true
		}
		for t := range v.TasksOfNode(nodeID) {
			touched[t.ID] = true
		}
	}
	for taskID := range touched {
		s.need(taskID, needed(v, nodeID, taskID), changed)
	}
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		switch {
		case s.users[id] == 0 && s.has[id]:
			delete(s.has, id)
			line.Forget = append(line.Forget, id)
		case s.users[id] > 0 && !s.has[id]:
			if value, ok := valueOf(v, id); ok { // else it was removed by force: the task will say so
				s.has[id] = true
				line.Values = append(line.Values, value)
			}
		}
	}
}

// maxValues is how much of secrets and configs goes in one line, if there is more
// than one: a line must come through within the worker's patience.
const maxValues = 1 << 20

// split puts values that are too many for one line into lines before it.
func split(line assignment.Down) (lines []assignment.Down) {
	values, start, size := line.Values, 0, 0
	for i, v := range values {
		if size > 0 && size+len(v.Data) > maxValues {
			lines = append(lines, assignment.Down{Welcome: line.Welcome, Values: values[start:i]})
			line.Welcome, start, size = nil, i, 0
		}
		size += len(v.Data)
	}
	line.Values = values[start:]
	return append(lines, line)
}

// need notes what a task needs from now on, and which values that concerns.
func (s *shelf) need(taskID string, values []string, changed ids) {
	for _, id := range s.needs[taskID] {
		if s.users[id]--; s.users[id] == 0 {
			delete(s.users, id)
		}
		changed[id] = true
	}
	delete(s.needs, taskID)
	if len(values) == 0 {
		return
	}
	s.needs[taskID] = values
	for _, id := range values {
		s.users[id]++
		changed[id] = true
	}
}

func valueOf(v *state.View, id string) (assignment.Value, bool) {
	if s := v.Secret(id); s != nil {
		return assignment.Value{ID: id, Template: s.Spec.Templating != nil, Data: s.Spec.Data}, true
	}
	if c := v.Config(id); c != nil {
		return assignment.Value{ID: id, Template: c.Spec.Templating != nil, Data: c.Spec.Data}, true
	}
	return assignment.Value{}, false
}
