package orchestrator

import (
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// New credentials replace a task only where it asks for its image with the old
// ones, or was refused it for good.
func TestNewCredentialsRestartNothing(t *testing.T) {
	for _, c := range []struct {
		state    taskstate.State
		replaced bool
	}{
		{taskstate.Assigned, true},
		{taskstate.Preparing, true},
		{taskstate.Ready, false},
		{taskstate.Starting, false},
		{taskstate.Running, false},
		{taskstate.Complete, false},
		{taskstate.Failed, false},
		{taskstate.Rejected, true},
	} {
		objs := svc(1, func(s *swarm.ServiceSpec) {})
		for _, o := range objs {
			switch o := o.(type) {
			case *state.Revision:
				o.Spec.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone}
				o.RegistryAuth = map[uint64]string{1: "old", 2: "new"}[o.Number]
			case *state.Service:
				o.Spec.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone}
				o.RegistryAuth = "new"
			}
		}
		objs = append(objs, statetest.Node("n1"), statetest.Task("a", "web", 1, "n1", statetest.Observed(c.state)))
		store := statetest.New(objs...)
		settle(t, store, "web")
		got := slices.ContainsFunc(slices.Collect(store.View().TasksOfService("web")), func(t *state.Task) bool { return t.Revision == 2 })
		if got != c.replaced {
			t.Errorf("a task that is %s: %v", c.state, describe(store.View(), "web"))
		}
	}
}
