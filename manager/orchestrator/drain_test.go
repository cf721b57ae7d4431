package orchestrator

import (
	"testing"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// The task that waits on a node which is drained gently stops once its
// successor runs: that it runs is news to the service.
func TestSuccessorThatRunsTouchesTheServiceInAGentleDrain(t *testing.T) {
	for name, c := range map[string]struct {
		node func(*state.Node)
		want bool
	}{
		"gentle drain": {gentle, true}, "drain": {statetest.Drained, false}, "no drain": {func(*state.Node) {}, false},
	} {
		store := statetest.New(append(svc(1), statetest.Node("n1", c.node), statetest.Node("n2"),
			task("a", 1, "n1"), task("b", 1, "n2", statetest.Observed(taskstate.Starting)))...)
		before := store.View().Index()
		store.Put(task("b", 1, "n2"))
		events, _ := store.View().Since(before)
		ids := map[string]bool{}
		touched(store.View(), events, ids)
		if ids["web"] != c.want {
			t.Errorf("%s: touched %v", name, ids)
		}
	}
}
