package scheduler

import (
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// heirs are tasks that start once those that run in their slots have stopped.
func heirs(serviceID string, n int) []state.Object {
	return pending(serviceID, n, statetest.Desired(taskstate.Ready))
}

func serving(serviceID string, nodes ...string) (tasks []state.Object) {
	for i, node := range nodes {
		tasks = append(tasks, statetest.Task(fmt.Sprintf("old%d", i+1), serviceID, i+1, node))
	}
	return tasks
}

func three() []state.Object {
	return []state.Object{statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3")}
}

func TestWhatIsReplacedDoesNotCountForTheSpread(t *testing.T) {
	tasks := heirs("web", 3)
	for i := range 3 { // one after the other, as an update does
		store := storeOf(three(), service("web"), serving("web", "n3", "n1", "n2"), tasks[i:i+1])
		id := fmt.Sprintf("web.%03d", i+1)
		if got, want := settle(t, store, "web")[id], []string{"n3", "n1", "n2"}[i]; got != want {
			t.Errorf("%s is on %s, want %s: the others have a task already", id, got, want)
		}
	}
}

func TestHeirTakesTheRoomOfWhatItReplaces(t *testing.T) {
	gpu := resourcesOf("gpu", 0, "gpu0")
	for name, c := range map[string]struct {
		spec func(*swarm.ServiceSpec)
		fits bool
	}{
		"a port of the host":     {hostPortSpec(80), true},
		"memory":                 {reserve(0, 5<<30), true},
		"more than the node has": {reserve(0, 9<<30), false},
		"one for each node":      {place(swarm.Placement{MaxReplicas: 1}), true},
		"a named resource":       {wantGeneric("gpu", 1), true},
		"another node only":      {place(swarm.Placement{Constraints: []string{"node.id==n2"}}), false},
		"not with start-first": {func(s *swarm.ServiceSpec) {
			hostPortSpec(80)(s)
			s.UpdateConfig = &swarm.UpdateConfig{Order: swarm.UpdateOrderStartFirst}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			old := statetest.Task("old", "web", 1, "n1", func(t *state.Task) {
				t.GenericResources = []swarm.GenericResource{{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "gpu", Value: "gpu0"}}}
			})
			store := storeOf([]state.Object{statetest.Node("n1", gpu)}, service("web", c.spec), []state.Object{old}, heirs("web", 1))
			got := settle(t, store, "web")["web.001"]
			if (got == "n1") != c.fits {
				t.Errorf("the heir is on %q, want that it fits: %v", got, c.fits)
			}
		})
	}
}

func TestHeirTakesNobodyElsesRoom(t *testing.T) {
	tasks := heirs("web", 2)
	store := storeOf(three()[:2], service("web", hostPortSpec(80)), serving("web", "n2", "n1"), tasks)
	got := settle(t, store, "web")
	if diff := gocmp.Diff(map[string]string{"old1": "n2", "old2": "n1", "web.001": "n2", "web.002": "n1"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHeirOnAGivenNode(t *testing.T) {
	old := statetest.Task("old", "web", 0, "n1")
	other := statetest.Task("other", "web", 0, "n2")
	heir := statetest.Task("heir", "web", 0, "n1", statetest.Observed(taskstate.Pending), statetest.Desired(taskstate.Ready))
	got := settle(t, storeOf(three(), service("web", statetest.Global, hostPortSpec(80)), []state.Object{old, other, heir}), "web")
	if got["heir"] != "n1" {
		t.Errorf("the heir of a global service: %q", got["heir"])
	}
}

// When the old one ends, what it held is the heir's alone.
func TestRoomIsCountedRightAfterATakeOver(t *testing.T) {
	named := []swarm.GenericResource{{NamedResourceSpec: &swarm.NamedGenericResource{Kind: "gpu", Value: "gpu0"}}}
	n := newNodeInfo()
	n.node = statetest.Node("n1", resourcesOf("gpu", 0, "gpu0"))
	n.claim(named, +1)
	n.claim(named, +1)
	n.claim(named, -1)
	if free := n.freeNamed("gpu"); len(free) != 0 {
		t.Errorf("free: %v, want none", free)
	}
	n.claim(named, -1)
	if free := n.freeNamed("gpu"); len(free) != 1 {
		t.Errorf("free: %v, want gpu0", free)
	}
}
