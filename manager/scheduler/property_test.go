package scheduler

import (
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// The set that follows events must equal one that is built from the view.
func TestNodeSetFollowsEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := storeOf(service("web", reserve(1e9, 1<<28), hostPortSpec(80)), service("api", wantGeneric("gpu", 1)))
		followed := newNodeSet()
		now := time.Now()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			drawStep(t, store)
			if rapid.Bool().Draw(t, "sync") {
				followed.sync(store.View(), now)
			}
		}
		followed.sync(store.View(), now)
		built := newNodeSet()
		built.sync(store.View(), now)
		if diff := gocmp.Diff(summary(built), summary(followed)); diff != "" {
			t.Fatalf("(-built +followed):\n%s", diff)
		}
	})
}

func drawStep(t *rapid.T, store *statetest.Store) {
	nodeID := rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node")
	taskID := rapid.SampledFrom([]string{"t1", "t2", "t3"}).Draw(t, "task")
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		store.Put(statetest.Node(nodeID, resourcesOf("gpu", 2)))
	case 1:
		store.Apply(state.Delete(state.KindNode, nodeID))
	case 2:
		store.Apply(state.Delete(state.KindTask, taskID))
	default:
		task := statetest.Task(taskID, rapid.SampledFrom([]string{"web", "api"}).Draw(t, "service"), 1, nodeID,
			statetest.Observed(rapid.SampledFrom(taskstate.All()).Draw(t, "observed")), statetest.Desired(rapid.SampledFrom([]taskstate.State{taskstate.Ready, taskstate.Running, taskstate.Shutdown, taskstate.Remove}).Draw(t, "desired")))
		if task.ServiceID == "api" {
			task.GenericResources = claims{{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "gpu", Value: 1}}}
		}
		store.Put(task)
	}
}

func summary(s *nodeSet) map[string]string {
	m := map[string]string{}
	for id, n := range s.nodes {
		if n.node == nil && n.held == 0 {
			continue // known by failures only
		}
		m[id] = fmt.Sprint(n.node != nil, n.held, n.tasks, n.byService, n.reserved, n.claimed["gpu"], n.ports)
	}
	return m
}

// Whatever is pending: no node is ever promised more than it has, and tasks
// that could be placed are.
func TestPlanNeverOvercommits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var objs []state.Object
		free := map[string]int64{}
		for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			memory := rapid.Int64Range(0, 10).Draw(t, "memory")
			id := fmt.Sprintf("n%d", i)
			free[id] = memory
			objs = append(objs, statetest.Node(id, func(n *state.Node) { n.Description.Resources.MemoryBytes = memory }))
		}
		need := map[string]int64{}
		for i := range rapid.IntRange(1, 4).Draw(t, "services") {
			id := fmt.Sprintf("s%d", i)
			need[id] = rapid.Int64Range(1, 4).Draw(t, "need")
			objs = append(objs, service(id, reserve(0, need[id]))...)
			objs = append(objs, pending(id, rapid.IntRange(0, 8).Draw(t, "tasks"))...)
		}
		store := statetest.New(objs...)
		nodes := newNodeSet()
		nodes.sync(store.View(), time.Now())
		store.Apply(commit(store.View(), plan(nodes, time.Now()))...)
		var stuck []*state.Task
		for task := range store.View().Tasks() {
			if task.NodeID == "" {
				stuck = append(stuck, task)
				continue
			}
			free[task.NodeID] -= need[task.ServiceID]
		}
		for id, left := range free {
			if left < 0 {
				t.Fatalf("%s is short of %d bytes", id, -left)
			}
			for _, task := range stuck {
				if left >= need[task.ServiceID] {
					t.Fatalf("%s waits for %d bytes, %s has %d", task.ID, need[task.ServiceID], id, left)
				}
			}
		}
	})
}
