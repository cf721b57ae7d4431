package orchestrator

import (
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/runspec"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// withRun gives one of the revisions a run spec.
func withRun(objs []state.Object, revision uint64, run runspec.Spec) []state.Object {
	for i, o := range objs {
		if r, ok := o.(*state.Revision); ok && r.Number == revision {
			c := *r
			c.Run = &run
			objs[i] = &c
		}
	}
	return objs
}

func TestRunSpecIsPartOfWhatATaskIs(t *testing.T) {
	nothing := func(*swarm.ServiceSpec) {}
	for name, c := range map[string]struct {
		old, current runspec.Spec
		replaced     bool
	}{
		"the same":  {runspec.Spec{ShmSize: 1}, runspec.Spec{ShmSize: 1}, false},
		"other":     {runspec.Spec{ShmSize: 1}, runspec.Spec{ShmSize: 2}, true},
		"one empty": {runspec.Spec{ShmSize: 1}, runspec.Spec{}, true},
	} {
		objs := withRun(withRun(svc(1, nothing), 1, c.old), 2, c.current)
		store := statetest.New(append(objs, statetest.Node("n1"), statetest.Task("a", "web", 1, "n1"))...)
		settle(t, store, "web")
		if got := len(slices.Collect(store.View().TasksOfService("web"))) > 1; got != c.replaced {
			t.Errorf("%s: %v", name, describe(store.View(), "web"))
		}
	}
}
