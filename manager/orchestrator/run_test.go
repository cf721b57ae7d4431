package orchestrator_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/taskstate"
	"shoal/manager/orchestrator"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// inCluster runs test in a bubble, in a cluster of three nodes with a service
// "web" whose tasks already run.
func inCluster(t *testing.T, replicas uint64, spec func(*swarm.ServiceSpec), test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, r := statetest.Service("web", replicas, spec)
		w, stop := newWorld(statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3"), s, r)
		w.pass(2 * time.Second)
		if err := w.settled(); err != nil {
			t.Error(err)
		}
		test(t, w)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func plain(*swarm.ServiceSpec) {}

func TestRunStartsScalesAndRemoves(t *testing.T) {
	inCluster(t, 3, plain, func(t *testing.T, w *world) {
		for _, n := range []uint64{7, 2} {
			w.respec("web", func(s *swarm.ServiceSpec) { s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n} })
			w.pass(2 * time.Second)
			if err := w.settled(); err != nil {
				t.Error(err)
			}
			if status := w.store.View().Service("web").UpdateStatus; status != nil {
				t.Errorf("scaling to %d set the update status %+v", n, status)
			}
		}
		w.store.Apply(state.Delete(state.KindService, "web"))
		w.pass(2 * time.Second)
		for task := range w.store.View().Tasks() {
			t.Errorf("task %s is left", task.ID)
		}
		for r := range w.store.View().AllRevisions() {
			t.Errorf("revision %d is left", r.Number)
		}
	})
}

func TestRunRestartsAfterTheDelay(t *testing.T) {
	inCluster(t, 1, plain, func(t *testing.T, w *world) {
		w.end(w.running("web")[0], taskstate.Failed)
		w.pass(4900 * time.Millisecond)
		if n := len(w.running("web")); n != 0 {
			t.Errorf("%d tasks run before the delay is over", n)
		}
		w.pass(500 * time.Millisecond)
		if err := w.settled(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunSlowsACrashLoopDown(t *testing.T) {
	inCluster(t, 1, plain, func(t *testing.T, w *world) {
		w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "crash" })
		w.pass(time.Second)
		before := w.store.Updates()
		w.pass(time.Hour)
		// 5, 10, 20, … 300 s: 6 restarts to the bound and 11 at it, each of some
		// ten updates. Without back-off there would be 700.
		if n := w.store.Updates() - before; n > 250 {
			t.Errorf("%d updates in an hour of crashes", n)
		}
		w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "good" })
		w.pass(2 * time.Second)
		if err := w.settled(); err != nil {
			t.Errorf("a fixed image waits for the back-off: %v", err)
		}
	})
}

// A task that cannot be prepared fails while it still waits for its delay: that
// must not shorten the delay.
func TestRunSlowsTasksWithAMissingImageDown(t *testing.T) {
	inCluster(t, 1, plain, func(t *testing.T, w *world) {
		w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "missing" })
		w.pass(time.Second)
		before := w.store.Updates()
		w.pass(time.Minute)
		first := w.store.Updates() - before
		// Each delay is used for two tries: one at its start, one at its end.
		if first < 5 || first > 60 {
			t.Errorf("%d updates in the first minute without the image", first)
		}
		w.pass(time.Hour)
		if n := w.store.Updates() - before - first; n > 250 {
			t.Errorf("%d updates in an hour without the image", n)
		}
		w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "good" })
		w.pass(2 * time.Second)
		if err := w.settled(); err != nil {
			t.Errorf("an image that is there waits for the back-off: %v", err)
		}
	})
}

func TestRunMovesTasksOfLostNodes(t *testing.T) {
	inCluster(t, 6, plain, func(t *testing.T, w *world) {
		w.faint["n1"] = true
		w.node("n1", statetest.Down)
		w.pass(time.Second)
		w.node("n2", statetest.Drained)
		w.pass(2 * time.Second)
		if err := w.settled(); err != nil {
			t.Error(err)
		}
		for _, task := range w.running("web") {
			if task.NodeID != "n3" {
				t.Errorf("slot %d runs on %s", task.Slot, task.NodeID)
			}
		}
	})
}

func TestRunUpdatesOneAtATime(t *testing.T) {
	inCluster(t, 4, func(s *swarm.ServiceSpec) {
		s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Delay: 10 * time.Second}
	}, func(t *testing.T, w *world) {
		w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "new" })
		var counts []int
		for range 5 {
			w.pass(5 * time.Second)
			counts = append(counts, w.revisionRuns(2))
			w.pass(5500 * time.Millisecond)
		}
		if want := []int{1, 2, 3, 4, 4}; !slices.Equal(counts, want) {
			t.Errorf("new tasks every 10.5 s: %v, want %v", counts, want)
		}
		w.pass(10 * time.Second)
		status := w.store.View().Service("web").UpdateStatus
		if status == nil || status.State != swarm.UpdateStateCompleted || status.Message != "update completed" || status.CompletedAt == nil {
			t.Errorf("update status %+v, want completed", status)
		}
	})
}

func (w *world) revisionRuns(n uint64) (count int) {
	for _, t := range w.running("web") {
		if t.Revision == n {
			count++
		}
	}
	return count
}

func TestRunFailedUpdate(t *testing.T) {
	for name, want := range map[string]struct {
		state  swarm.UpdateState
		bad    int // slots that lost their good task
		settle bool
	}{
		"crash pause":      {swarm.UpdateStatePaused, 2, false}, // the second is replaced as soon as the first runs
		"crash rollback":   {swarm.UpdateStateRollbackCompleted, 0, true},
		"crash continue":   {swarm.UpdateStateCompleted, 4, false},
		"missing pause":    {swarm.UpdateStatePaused, 0, false},
		"missing rollback": {swarm.UpdateStateRollbackCompleted, 0, true},
		"missing continue": {swarm.UpdateStateCompleted, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			image, action, _ := strings.Cut(name, " ")
			inCluster(t, 4, func(s *swarm.ServiceSpec) {
				s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, FailureAction: action}
			}, func(t *testing.T, w *world) {
				w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = image })
				w.pass(time.Minute)
				if status := w.store.View().Service("web").UpdateStatus; status == nil || status.State != want.state {
					t.Errorf("update status %+v, want %s", status, want.state)
				}
				if n := len(w.running("web")); n != 4-want.bad {
					t.Errorf("%d tasks run, want %d: %s", n, 4-want.bad, w.dump("web"))
				}
				if err := w.settled(); want.settle && err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A new leader knows of an update what the state says, no more.
func TestNewLeaderContinuesUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := statetest.Service("web", 4, func(s *swarm.ServiceSpec) {
			s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Delay: time.Second}
		})
		w, stop := newWorld(statetest.Node("n1"), s, r)
		w.pass(time.Second)
		w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "new" })
		for range 12 { // leaders that last a second each
			w.pass(time.Second)
			if err := stop(); err != nil {
				t.Error(err)
			}
			stop = w.lead()
		}
		w.pass(10 * time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := w.settled(); err != nil {
			t.Error(err)
		}
		if status := w.store.View().Service("web").UpdateStatus; status.State != swarm.UpdateStateCompleted {
			t.Errorf("update status %+v, want completed", status)
		}
	})
}

func TestRunPassesErrorsOfTheStoreOn(t *testing.T) {
	lost := errors.New("leadership lost")
	s, r := statetest.Service("web", 1)
	store := statetest.New(s, r)
	store.Fail(lost)
	o, err := orchestrator.New(orchestrator.Config{Store: store, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Run(t.Context()); !errors.Is(err, lost) {
		t.Errorf("Run: %v, want %v", err, lost)
	}
}

func TestNewNeedsAStore(t *testing.T) {
	if _, err := orchestrator.New(orchestrator.Config{}); err == nil {
		t.Error("New without a store succeeded")
	}
}

// At no time of a drain does a service that starts first have fewer tasks that
// run than it has replicas.
func TestStartFirstDrainNeverRunsFewer(t *testing.T) {
	startFirst := func(s *swarm.ServiceSpec) {
		s.UpdateConfig = &swarm.UpdateConfig{Order: swarm.UpdateOrderStartFirst, Parallelism: 1}
	}
	inCluster(t, 6, startFirst, func(t *testing.T, w *world) {
		for round := range 6 {
			node := []string{"n1", "n2", "n3"}[round%3]
			w.node(node, statetest.Drained)
			for range 30 {
				w.pass(100 * time.Millisecond)
				if n := len(w.running("web")); n < 6 {
					t.Fatalf("%d tasks run while %s is drained: %s", n, node, w.dump("web"))
				}
			}
			for task := range w.store.View().TasksOfNode(node) {
				if !task.Status.State.Terminal() {
					t.Errorf("task %s is still on %s: %v/%v", task.ID, node, task.Desired, task.Status.State)
				}
			}
			w.node(node, func(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityActive })
		}
	})
}
