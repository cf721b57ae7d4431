package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// benchmarkSchedule places tasks of 100 services on nodes: what is measured is
// deciding and writing the decisions to the state, in updates of maxChanges.
func benchmarkSchedule(b *testing.B, nodes, tasks int) {
	var objs []state.Object
	for i := range nodes {
		objs = append(objs, statetest.Node(fmt.Sprintf("node%05d", i)))
	}
	for i := range 100 {
		objs = append(objs, service(fmt.Sprintf("service%02d", i))...)
	}
	for i := range tasks {
		id := fmt.Sprintf("service%02d", i%100)
		objs = append(objs, statetest.Task(fmt.Sprintf("task%07d", i), id, i/100+1, "", statetest.Observed(taskstate.Pending)))
	}
	var deciding time.Duration
	for b.Loop() {
		b.StopTimer()
		store := statetest.New()
		for chunk := range slices.Chunk(objs, 1000) {
			store.Put(chunk...)
		}
		b.StartTimer()
		started := time.Now()
		set := newNodeSet()
		set.sync(store.View(), time.Now())
		decisions := plan(set, time.Now())
		deciding += time.Since(started)
		for chunk := range slices.Chunk(decisions, maxChanges) {
			store.Apply(commit(store.View(), chunk)...)
		}
		b.StopTimer()
		if len(decisions) != tasks {
			b.Fatalf("%d decisions for %d tasks", len(decisions), tasks)
		}
		b.StartTimer()
	}
	b.ReportMetric(deciding.Seconds()/float64(b.N), "s-deciding/op")
	b.ReportMetric(float64(tasks)*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

func BenchmarkSchedule100kTasks1kNodes(b *testing.B)  { benchmarkSchedule(b, 1_000, 100_000) }
func BenchmarkSchedule100kTasks10kNodes(b *testing.B) { benchmarkSchedule(b, 10_000, 100_000) }

// BenchmarkExamine is what one question costs a leader of a large cluster.
func BenchmarkExamine(b *testing.B) {
	objs := service("web", reserve(1e9, 1<<40), place(swarm.Placement{Constraints: []string{"node.labels.zone==a", "node.role==worker"}}))
	objs = append(objs, service("other")...)
	for i := range 5000 {
		id := fmt.Sprintf("n%04d", i)
		objs = append(objs, statetest.Node(id))
		objs = append(objs, holding("other", 20, id)...)
	}
	v := storeOf(objs, pending("web", 1)).View()
	t := v.Task("web.001")
	for b.Loop() {
		if _, advice := Examine(v, t, time.Now()); len(advice) == 0 {
			b.Fatal("no advice")
		}
	}
}

// BenchmarkLookForMoves looks at 10 services of 1000 tasks on 1000 nodes, as
// after a node has joined.
func BenchmarkLookForMoves(b *testing.B) {
	var objs []state.Object
	var ids []string
	for i := range 1000 {
		objs = append(objs, statetest.Node(fmt.Sprintf("node%05d", i)))
	}
	for i := range 10 {
		id := fmt.Sprintf("service%02d", i)
		ids = append(ids, id)
		objs = append(objs, auto(id, 1000)...)
		for slot := range 1000 {
			objs = append(objs, statetest.Task(fmt.Sprintf("%s.%d", id, slot+1), id, slot+1, fmt.Sprintf("node%05d", slot%999)))
		}
	}
	store := statetest.New()
	for chunk := range slices.Chunk(objs, 1000) {
		store.Put(chunk...)
	}
	nodes := newNodeSet()
	nodes.sync(store.View(), long())
	for b.Loop() {
		if m := planMoves(nodes, ids, long()); len(m.hints) == 0 {
			b.Fatal("no move found")
		}
	}
}
