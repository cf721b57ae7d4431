package allocator

import (
	"fmt"
	"net/netip"
	"testing"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// crowd is a store with networks of a /24 each, a service on each, and as many
// new tasks of each.
func crowd(networks, tasks int) *statetest.Store {
	var changes []state.Change
	for i := range networks {
		id := fmt.Sprintf("net%03d", i)
		s, r := statetest.Service(fmt.Sprintf("s%03d", i), uint64(tasks), on(id))
		changes = append(changes, state.Put(subnetOf(id, fmt.Sprintf("10.1.%d.0/24", i))), state.Put(s), state.Put(r))
		for slot := range tasks {
			changes = append(changes, state.Put(statetest.Task(fmt.Sprintf("t%03d-%04d", i, slot), s.ID, slot+1, "")))
		}
	}
	store := statetest.New()
	store.Apply(changes...)
	return store
}

func BenchmarkTenThousandTasksInAHundredNetworks(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		store := crowd(100, 100)
		a, err := New(Config{Store: store})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		t := newTerm()
		t.note(store.View())
		if err := a.work(b.Context(), t); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for task := range store.View().TasksNew() {
			b.Fatalf("task %s is left", task.ID)
		}
		b.StartTimer()
	}
}

func BenchmarkOneTaskAmongMany(b *testing.B) {
	objects := []state.Object{subnetOf("wide", "10.64.0.0/14")}
	s, r := statetest.Service("web", 1, on("wide"))
	store := statetest.New(append(objects, r)...)
	var err error
	if s.Endpoint, err = Endpoint(store.View(), s); err != nil {
		b.Fatal(err)
	}
	store.Put(s)
	var changes []state.Change
	g := newGiver(store.View())
	family := families(store.View().Network("wide"))[0]
	for i := range 100_000 {
		t := statetest.Task(fmt.Sprintf("t%06d", i), "web", i+1, "n1")
		a, _ := g.address(family, start(t.ID, "wide"))
		t.Networks = []state.TaskNetwork{{NetworkID: "wide", Addrs: []netip.Prefix{a}}}
		changes = append(changes, state.Put(t))
	}
	changes = append(changes, state.Put(newTask("fresh", "web")))
	store.Apply(changes...)
	v := store.View()
	for b.Loop() {
		out := plan(v, worklist{items: []item{{state.KindTask, "fresh"}}}, bygone(), chunk)
		if len(out.changes) != 1 {
			b.Fatal("no address")
		}
	}
}
