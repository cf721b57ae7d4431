package orchestrator_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// action is one thing that happens to a cluster.
type action struct {
	name  string
	after time.Duration
	n     int
	spec  swarm.UpdateConfig
}

func drawActions(rt *rapid.T) []action {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) action {
		return action{
			name:  rapid.SampledFrom([]string{"scale", "image", "image", "label", "end", "end", "down", "up", "drain", "pause", "activate", "faint", "forget", "rollback", "move"}).Draw(rt, "name"),
			after: time.Duration(rapid.IntRange(0, 12_000).Draw(rt, "after")) * time.Millisecond,
			n:     rapid.IntRange(0, 7).Draw(rt, "n"),
			spec: swarm.UpdateConfig{
				Parallelism:     rapid.Uint64Range(0, 3).Draw(rt, "parallelism"),
				Delay:           time.Duration(rapid.IntRange(0, 3).Draw(rt, "delay")) * time.Second,
				FailureAction:   rapid.SampledFrom([]string{"pause", "continue", "rollback"}).Draw(rt, "action"),
				MaxFailureRatio: rapid.SampledFrom([]float32{0, 0.3, 1}).Draw(rt, "ratio"),
				Order:           rapid.SampledFrom([]string{"stop-first", "start-first"}).Draw(rt, "order"),
			},
		}
	}), 1, 12).Draw(rt, "actions")
}

func (w *world) do(service string, a action) {
	node := fmt.Sprintf("n%d", a.n%3+1)
	image := []string{"good1", "good2", "crash", "missing"}[a.n%4]
	switch a.name {
	case "scale":
		replicas := uint64(a.n)
		w.respec(service, func(s *swarm.ServiceSpec) {
			if s.Mode.Replicated != nil {
				s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &replicas}
			}
		})
	case "image":
		w.respec(service, func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Image = image
			s.UpdateConfig, s.RollbackConfig = &a.spec, &a.spec
		})
	case "label":
		w.respec(service, func(s *swarm.ServiceSpec) { s.Labels = map[string]string{"a": fmt.Sprint(a.n)} })
	case "end":
		if tasks := w.running(service); len(tasks) > 0 {
			w.end(tasks[a.n%len(tasks)], taskstate.Failed)
		}
	case "rollback":
		w.rollBack(service)
	case "move":
		w.markMove(service, node, a.n)
	case "forget": // the node is removed from the cluster
		w.unsure[node] = true
		w.store.Apply(state.Delete(state.KindNode, node))
	case "faint": // the worker hangs, and nobody has noticed
		w.faint[node] = true
	case "down":
		w.faint[node] = true
		w.node(node, statetest.Down)
	case "up":
		w.revive(node)
	case "drain":
		w.node(node, statetest.Drained)
	case "pause":
		w.node(node, statetest.Paused)
	case "activate":
		w.node(node, func(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityActive })
	}
}

// markMove does what the scheduler does when a task is better elsewhere.
func (w *world) markMove(service, node string, n int) {
	w.update(func(v *state.View) []state.Change {
		tasks := w.running(service)
		if len(tasks) == 0 || tasks[0].Slot == 0 {
			return nil
		}
		w.moved = true
		t := *tasks[n%len(tasks)]
		t.MoveTo = node
		return []state.Change{state.Put(&t)}
	})
}

// rollBack does what the API does when a user asks for it.
func (w *world) rollBack(service string) {
	s := w.store.View().Service(service)
	if s.PreviousSpec == nil {
		return
	}
	previous := *s.PreviousSpec
	w.update(func(v *state.View) []state.Change {
		changes := respec(v, service, func(spec *swarm.ServiceSpec) { *spec = previous })
		now := time.Now()
		s := changes[0].Object().(*state.Service)
		s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateRollbackStarted, StartedAt: &now, Message: "manually requested rollback"}
		return changes
	})
}

func (w *world) revive(node string) {
	delete(w.faint, node)
	if w.store.View().Node(node) == nil {
		w.store.Put(statetest.Node(node))
	}
	w.node(node, func(n *state.Node) { n.Status.State = swarm.NodeStateReady })
}

// Whatever happens to a cluster, once it stops happening the services run what
// their specs say; and on the way no state goes back, no slot is filled twice.
func TestClusterComesToRest(t *testing.T) {
	for _, mode := range []string{"replicated", "global"} {
		t.Run(mode, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				actions := drawActions(rt)
				var err error
				synctest.Test(t, func(*testing.T) { err = live(mode, actions) })
				if err != nil {
					rt.Fatal(err)
				}
			})
		})
	}
}

func live(mode string, actions []action) error {
	s, r := statetest.Service("web", 4, func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Image = "good1"
		if mode == "global" {
			statetest.Global(s)
		}
	})
	w, stop := newWorld(statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3"), s, r)
	for _, a := range actions {
		w.pass(a.after)
		w.do("web", a)
	}
	for _, node := range []string{"n1", "n2", "n3"} {
		w.revive(node)
		w.node(node, func(n *state.Node) { n.Spec.Availability = swarm.NodeAvailabilityActive })
	}
	w.respec("web", func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "good1" })
	w.pass(10 * time.Second)
	w.tick = 2 * time.Second
	w.pass(12 * time.Minute)
	err := w.settled()
	updates := w.store.Updates()
	w.pass(10 * time.Minute)
	if n := w.store.Updates() - updates; n != 0 && err == nil {
		err = fmt.Errorf("%d updates at rest", n)
	}
	if stopped := stop(); stopped != nil {
		return stopped
	}
	return err
}
