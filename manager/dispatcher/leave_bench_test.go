package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// BenchmarkWithdrawal is the time from a task's order to stop until its
// withdrawal is written down, with five nodes on its network, three managers
// and sessions over connections in memory; without commits and without data
// planes.
func BenchmarkWithdrawal(b *testing.B) {
	service, revision := statetest.Service("web", 5)
	objects := []state.Object{service, revision, testNetwork("net1", false), testNetwork("ingress", true)}
	for i := range 5 {
		node := fmt.Sprintf("n%d", i+1)
		objects = append(objects, statetest.Node(node, unheard), task("t"+node, node, onNetwork("net1")))
	}
	l := &lab{t: b, store: statetest.New(objects...), net: &network{listeners: map[string]*listener{}, cut: map[string]bool{}}, managers: map[string]*manager{}}
	for i := range 3 {
		l.startManager(fmt.Sprintf("m%d", i+1))
	}
	m := l.managers["m1"]
	ctx, cancel := context.WithCancel(b.Context())
	m.resign = cancel
	m.term.Go(func() {
		if err := m.d.Run(ctx); !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	})
	l.leader = m
	b.Cleanup(l.close)
	for i := range 5 {
		l.start(fmt.Sprintf("n%d", i+1), "b", nil)
	}
	await(b, l, func(v *state.View) bool {
		ready := 0
		for n := range v.Nodes() {
			if n.Status.State == swarm.NodeStateReady {
				ready++
			}
		}
		return ready == 5
	})
	var took time.Duration
	for b.Loop() {
		l.store.Put(task("x", "n1", onNetwork("net1")))
		leaving := task("x", "n1", onNetwork("net1"), statetest.Desired(taskstate.Shutdown))
		began := time.Now()
		l.store.Put(leaving)
		await(b, l, func(v *state.View) bool { return v.Task("x").Withdrawn })
		took += time.Since(began)
		l.store.Apply(state.Delete(state.KindTask, "x"))
	}
	b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "ms/withdrawal")
}

func await(b *testing.B, l *lab, cond func(*state.View) bool) {
	b.Helper()
	late := time.After(30 * time.Second)
	for {
		changed := l.store.Changed()
		if cond(l.store.View()) {
			return
		}
		select {
		case <-changed:
		case <-late:
			b.Fatal("it does not come to pass")
		}
	}
}
