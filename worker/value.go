package worker

import (
	"maps"
	"slices"
	"sync"

	"shoal/worker/assignment"
)

// values are the secrets and configs that the worker has been sent for its
// tasks. They are in memory only: a worker that starts has none. It is safe for
// concurrent use.
type values struct {
	mu    sync.Mutex
	known map[string]assignment.Value
	all   bool // a manager has sent all of them in this life
}

func newValues() *values { return &values{known: map[string]assignment.Value{}} }

// apply takes in a manager's line.
func (v *values) apply(down assignment.Down) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = v.all || down.Full
	for _, value := range down.Values {
		v.known[value.ID] = value
	}
	for _, id := range down.Forget {
		delete(v.known, id)
	}
}

// Value implements executor.Values.
func (v *values) Value(id string) (value assignment.Value, ok, all bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	value, ok = v.known[id]
	return value, ok, v.all
}

func (v *values) ids() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.known))
}
