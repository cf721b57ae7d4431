package scheduler

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	gocmp "github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func claimed(kind string, count int64, names ...string) func(*state.Task) {
	return func(t *state.Task) {
		if count > 0 {
			t.GenericResources = append(t.GenericResources, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: kind, Value: count}})
		}
		for _, name := range names {
			t.GenericResources = append(t.GenericResources, swarm.GenericResource{NamedResourceSpec: &swarm.NamedGenericResource{Kind: kind, Value: name}})
		}
	}
}

func TestShortages(t *testing.T) {
	for name, c := range map[string]struct {
		node func(*state.Node)
		want []Shortage
	}{
		"all there": {func(n *state.Node) { resourcesOf("ssd", 2)(n); resourcesOf("gpu", 0, "a", "b")(n) }, nil},
		"smaller": {
			func(n *state.Node) {
				n.Description.Resources = swarm.Resources{NanoCPUs: 1e9, MemoryBytes: 1 << 30}
				resourcesOf("ssd", 1)(n)
				resourcesOf("gpu", 0, "b", "c")(n)
			},
			[]Shortage{{"memory", 2 << 30, 1 << 30}, {"CPUs", 2e9, 1e9}, {"gpu", 2, 1}, {"ssd", 2, 1}},
		},
	} {
		store := storeOf([]state.Object{statetest.Node("n1", c.node)}, service("web", reserve(2e9, 2<<30)), []state.Object{
			statetest.Task("w1", "web", 1, "n1", claimed("ssd", 2), claimed("gpu", 0, "a", "b")),
			statetest.Task("w2", "web", 2, "n1", claimed("ssd", 9), statetest.Observed(taskstate.Failed)),
		})
		if diff := gocmp.Diff(c.want, Shortages(store.View(), store.View().Node("n1"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A node that has shrunk takes nothing more of what it is short of, and a round
// touches nothing that is on it.
func TestPlanLeavesANodeThatShrankAsItIs(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1", memoryOf(1<<30), resourcesOf("gpu", 1))},
		service("web", reserve(0, 2<<30)), service("ai", wantGeneric("gpu", 1)), service("small"),
		[]state.Object{statetest.Task("w1", "web", 9, "n1"), statetest.Task("a1", "ai", 9, "n1", claimed("gpu", 2))},
		pending("web", 1), pending("ai", 1), pending("small", 1))
	before := store.View().Task("w1")
	for serviceID, want := range map[string]string{
		"web": "no suitable node (insufficient memory on 1 node)", "ai": "no suitable node (insufficient gpu on 1 node)", "small": "n1",
	} {
		if got := settle(t, store, serviceID)[serviceID+".001"]; got != want {
			t.Errorf("%s: %q, want %q", serviceID, got, want)
		}
	}
	if store.View().Task("w1") != before {
		t.Error("what runs was changed")
	}
	_, advice := Examine(store.View(), store.View().Task("web.001"), time.Now())
	if len(advice) != 1 || advice[0].Steps[0].Kind != LowerMemory || advice[0].Steps[0].Amount != 0 {
		t.Errorf("advice %+v", advice)
	}
}
