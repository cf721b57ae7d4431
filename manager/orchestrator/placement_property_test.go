package orchestrator

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/constraint"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// Whatever happens to the labels and availability of nodes: once all is at
// rest, tasks run where they may and nowhere else, and all of them run if there
// is a node that takes them.
func TestTasksMoveWithTheLabelsOfNodes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const replicas = 3
		store := statetest.New(svc(replicas, constraints("node.labels.zone == a"))...)
		for i := range 4 {
			store.Put(statetest.Node(fmt.Sprintf("n%d", i), statetest.Label("zone", "a")))
		}
		p := &placer{store: store, now: time.Now()}
		p.rest(rt)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			p.step(rt)
			if rapid.Bool().Draw(rt, "rest") {
				p.rest(rt)
				p.check(rt, replicas)
			}
		}
		p.rest(rt)
		p.check(rt, replicas)
	})
}

// placer is the rest of a cluster: a scheduler and workers that do as told.
type placer struct {
	store *statetest.Store
	now   time.Time
	ids   int
}

func (p *placer) step(rt *rapid.T) {
	n := *p.store.View().Node(fmt.Sprintf("n%d", rapid.IntRange(0, 3).Draw(rt, "node")))
	switch rapid.IntRange(0, 3).Draw(rt, "what") {
	case 0:
		n.Spec.Labels = map[string]string{"zone": rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "zone")}
	case 1:
		n.Spec.Labels = map[string]string{}
	default:
		n.Spec.Availability = rapid.SampledFrom([]swarm.NodeAvailability{
			swarm.NodeAvailabilityActive, swarm.NodeAvailabilityPause, swarm.NodeAvailabilityDrain,
		}).Draw(rt, "availability")
		n.StartFirst = n.Spec.Availability == swarm.NodeAvailabilityDrain && rapid.Bool().Draw(rt, "gently")
	}
	p.store.Put(&n)
}

func (p *placer) rest(rt *rapid.T) {
	newID := func() string { p.ids++; return fmt.Sprintf("new%06d", p.ids) }
	for range 100 {
		out := plan(p.store.View(), "web", p.now, newID, chunk)
		p.store.Apply(out.changes...)
		if !p.work() && len(out.changes) == 0 {
			if out.due.IsZero() {
				return
			}
			p.now = out.due.Add(time.Millisecond)
		}
	}
	rt.Fatalf("no rest: %v", describe(p.store.View(), "web"))
}

// work takes each task one step: onto a node, into operation, to its end.
func (p *placer) work() (worked bool) {
	v := p.store.View()
	for t := range v.TasksOfService("web") {
		next := *t
		switch {
		case t.Status.State.Terminal():
		case t.Desired >= taskstate.Shutdown:
			next.Status.State = taskstate.Shutdown
		case t.NodeID == "":
			for n := range v.Nodes() {
				if n.Spec.Availability == swarm.NodeAvailabilityActive && fits(n) {
					next.NodeID, next.Status.State = n.ID, taskstate.Assigned
				}
			}
		case t.Desired == taskstate.Running && t.Status.State < taskstate.Running:
			next.Status.State = taskstate.Running
		}
		if next.Status.State != t.Status.State {
			p.store.Put(&next)
			worked = true
		}
	}
	return worked
}

func fits(n *state.Node) bool {
	c, err := constraint.Parse([]string{"node.labels.zone == a"})
	return err == nil && constraint.MatchAll(c, facts(n))
}

func (p *placer) check(rt *rapid.T, replicas int) {
	v := p.store.View()
	takes, running := false, 0
	for n := range v.Nodes() {
		takes = takes || n.Spec.Availability == swarm.NodeAvailabilityActive && fits(n)
	}
	for t := range v.TasksOfService("web") {
		if t.Status.State != taskstate.Running {
			continue
		}
		running++
		n := v.Node(t.NodeID)
		waits := n.StartFirst && fits(n) && !takes // for a place that there is not
		if n.Spec.Availability == swarm.NodeAvailabilityDrain && !waits || n.Spec.Availability == swarm.NodeAvailabilityActive && !fits(n) {
			rt.Fatalf("%s runs on %s, which is %s with labels %v", t.ID, n.ID, n.Spec.Availability, n.Spec.Labels)
		}
	}
	if running > replicas || takes && running != replicas {
		rt.Fatalf("%d of %d run: %v", running, replicas, describe(v, "web"))
	}
}
