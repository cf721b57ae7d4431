package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

// scenario runs f in a bubble with three managers, the first of which leads,
// and the nodes n1 to n5.
func scenario(t *testing.T, f func(t *testing.T, l *lab), objs ...state.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		service, revision := statetest.Service("web", 3, func(s *swarm.ServiceSpec) {
			s.Labels = map[string]string{"tier": "front"}
			s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{
				{TargetPort: 80, PublishedPort: 80, PublishMode: swarm.PortConfigPublishModeIngress},
				{TargetPort: 81, PublishedPort: 81, PublishMode: swarm.PortConfigPublishModeHost},
			}}
		})
		revision.RegistryAuth = "secret"
		all := []state.Object{service, revision, &state.Cluster{GossipKeys: [][]byte{[]byte("k1")}}}
		for i := range 5 {
			all = append(all, statetest.Node(fmt.Sprintf("n%d", i+1), unheard))
		}
		l := newLab(t, 3, append(all, objs...)...)
		f(t, l)
		l.close()
		settle(time.Minute)
	})
}

// unheard is a node that has joined and has not had a session yet.
func unheard(n *state.Node) { n.Status = swarm.NodeStatus{State: swarm.NodeStateUnknown} }

func task(id, node string, options ...func(*state.Task)) *state.Task {
	return statetest.Task(id, "web", 1, node, append([]func(*state.Task){statetest.Observed(taskstate.Assigned)}, options...)...)
}

func TestSessionDeliversAssignmentsAndChanges(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		l.checkSet(w)
		l.checkNode("n1", swarm.NodeStateReady)
		n := l.store.View().Node("n1")
		if n.Boot != "b1" || n.Description.Hostname != "n1" {
			t.Errorf("node is %+v", n)
		}
		got := w.tasks["a"]
		if got.Spec == nil || got.Spec.RegistryAuth != "secret" || got.ServiceName != "web" || got.Spec.ServiceLabels["tier"] != "front" ||
			len(got.Spec.HostPorts) != 1 || got.Spec.HostPorts[0].TargetPort != 81 || got.Spec.Task.ContainerSpec.Image != "web:1" {
			t.Errorf("task a came as %+v with %+v", got, got.Spec)
		}
		l.store.Put(task("c", "n1"))
		l.store.Put(task("d", "n2"))
		l.store.Put(task("a", "n1", statetest.Desired(taskstate.Shutdown)))
		l.store.Apply(state.Delete(state.KindTask, "b"))
		settle(50 * time.Millisecond)
		l.checkSet(w)
		if w.noSpec > 0 || w.fulls.Load() != 1 || w.opens.Load() != 1 || string(w.keys[0]) != "k1" {
			t.Errorf("%d tasks without spec, %d full lines, %d sessions, keys %q", w.noSpec, w.fulls.Load(), w.opens.Load(), w.keys)
		}
	}, task("a", "n1"), task("b", "n1"), task("x", "n1", statetest.Observed(taskstate.Pending)), task("o", "n1", statetest.Observed(taskstate.Orphaned)))
}

func TestRestartResumesWithDifference(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		w.stop()
		l.store.Apply(state.Delete(state.KindTask, "b"))
		l.store.Put(task("c", "n1"))
		l.store.Put(task("d", "n1"))
		l.store.Apply(state.Delete(state.KindTask, "d"))
		again := l.start("n1", "b2", w)
		settle(time.Second)
		l.checkSet(again)
		if again.fulls.Load() != 0 || again.opens.Load() != 1 {
			t.Errorf("%d full lines, %d sessions", again.fulls.Load(), again.opens.Load())
		}
		if boot := l.store.View().Node("n1").Boot; boot != "b2" {
			t.Errorf("boot is %q", boot)
		}
		settle(time.Minute)
		l.checkNode("n1", swarm.NodeStateReady)
	}, task("a", "n1"), task("b", "n1"))
}

func TestLeaderChangeDisturbsNoWorker(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		var ws []*worker
		for i := range 5 {
			ws = append(ws, l.start(fmt.Sprintf("n%d", i+1), "b", nil))
		}
		settle(time.Second)
		updates := l.store.Updates()
		for i := range 20 {
			l.lead("")
			settle(1500 * time.Millisecond) // an election
			l.lead(fmt.Sprintf("m%d", i%3+1))
			settle(time.Duration(i) * 700 * time.Millisecond)
		}
		for _, w := range ws {
			l.checkNode(w.node, swarm.NodeStateReady)
			if n := w.opens.Load(); n != 1 {
				t.Errorf("%s opened %d sessions", w.node, n)
			}
		}
		if n := l.store.Updates() - updates; n != 0 {
			t.Errorf("%d updates for leader changes alone", n)
		}
		// A loss is still found.
		ws[0].stop()
		settle(9 * time.Second)
		l.checkNode("n1", swarm.NodeStateDown)
	})
}

func TestManagerKilled(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		var ws []*worker
		for i := range 5 {
			ws = append(ws, l.start(fmt.Sprintf("n%d", i+1), "b", nil))
		}
		settle(time.Second)
		l.kill("m1") // leader
		settle(time.Second)
		l.lead("m2")
		settle(2500 * time.Millisecond)
		l.store.Put(task("a", "n1"), task("b", "n2"), task("c", "n3"), task("d", "n4"), task("e", "n5"))
		settle(20 * time.Millisecond)
		for _, w := range ws {
			l.checkSet(w)
		}
		for range 30 {
			settle(time.Second)
			for _, w := range ws {
				l.checkNode(w.node, swarm.NodeStateReady)
			}
		}
	})
}

func TestStatusesAreMonotonic(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		step := func(s taskstate.State) {
			w.Report("a", taskstate.Status{State: s, At: time.Now(), ContainerID: "c1"})
			settle(100 * time.Millisecond)
		}
		step(taskstate.Running)
		step(taskstate.Preparing)
		w.Report("foreign", taskstate.Status{State: taskstate.Running})
		settle(100 * time.Millisecond)
		v := l.store.View()
		if got := v.Task("a").Status; got.State != taskstate.Running || got.ContainerID != "c1" {
			t.Errorf("task a: %+v", got)
		}
		if got := v.Task("foreign").Status.State; got != taskstate.Assigned {
			t.Errorf("a task of another node: %v", got)
		}
		step(taskstate.Failed)
		step(taskstate.Complete)
		if got := l.store.View().Task("a").Status.State; got != taskstate.Failed || w.Unsent() != 0 {
			t.Errorf("task a: %v, %d unsent", got, w.Unsent())
		}
	}, task("a", "n1"), task("foreign", "n2"))
}

func TestBurstOfStatusesSurvivesManagers(t *testing.T) {
	var objs []state.Object
	for i := range 2000 {
		objs = append(objs, task(fmt.Sprintf("t%04d", i), "n1"))
	}
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		for i := range 2000 {
			w.Report(fmt.Sprintf("t%04d", i), taskstate.Status{State: taskstate.Running})
		}
		l.kill("m2")
		l.lead("")
		settle(2 * time.Second)
		for i := range 2000 {
			w.Report(fmt.Sprintf("t%04d", i), taskstate.Status{State: taskstate.Complete})
		}
		l.lead("m3")
		before := l.store.Updates()
		settle(5 * time.Second)
		if w.Unsent() != 0 {
			t.Errorf("%d unsent", w.Unsent())
		}
		for tk := range l.store.View().Tasks() {
			if tk.Status.State != taskstate.Complete {
				t.Fatalf("task %s is %v", tk.ID, tk.Status.State)
			}
		}
		if n := l.store.Updates() - before; n > 10 {
			t.Errorf("%d updates for a burst", n)
		}
	}, objs...)
}

func TestChangesOfClusterReachSessions(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		l.store.Put(&state.Cluster{GossipKeys: [][]byte{[]byte("k2"), []byte("k1")}})
		promoted := *l.store.View().Node("n1")
		promoted.Spec.Role = swarm.NodeRoleManager
		l.store.Put(&promoted)
		settle(100 * time.Millisecond)
		if len(w.keys) != 2 || string(w.keys[0]) != "k2" || len(w.roles) != 1 || w.roles[0] != swarm.NodeRoleManager {
			t.Errorf("keys %q, roles %v", w.keys, w.roles)
		}
		// The session is older than the certificate that the node has by now.
		demoted := promoted
		demoted.Spec.Role = swarm.NodeRoleWorker
		l.store.Put(&demoted)
		settle(100 * time.Millisecond)
		if len(w.roles) != 2 || w.roles[1] != swarm.NodeRoleWorker {
			t.Errorf("a demotion in the same session: roles %v", w.roles)
		}
	})
}

func TestWorkerFromARestoredPastGetsEverything(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := &worker{index: 1_000_000, tasks: map[string]assignment.Task{"lost": {}}}
		again := l.start("n1", "b1", w)
		settle(time.Minute)
		l.checkSet(again)
		if again.fulls.Load() != 1 || again.opens.Load() != 1 {
			t.Errorf("%d full lines, %d sessions", again.fulls.Load(), again.opens.Load())
		}
	}, task("a", "n1"))
}

func TestLongMessagesAreCut(t *testing.T) {
	scenario(t, func(t *testing.T, l *lab) {
		w := l.start("n1", "b1", nil)
		settle(time.Second)
		w.Report("a", taskstate.Status{State: taskstate.Failed, Err: strings.Repeat("é", 5000), Message: "short"})
		settle(time.Second)
		got := l.store.View().Task("a").Status
		if len(got.Err) > 1024 || len(got.Err) < 1000 || !utf8.ValidString(got.Err) || got.Message != "short" {
			t.Errorf("status has %d bytes: %q", len(got.Err), got.Err)
		}
	}, task("a", "n1"))
}
