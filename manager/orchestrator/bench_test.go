package orchestrator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/id"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// crowd is a store with n services, each with the given replicas running.
func crowd(n, replicas int) *statetest.Store {
	var changes []state.Change
	for i := range n {
		name := fmt.Sprintf("s%06d", i)
		s, r := statetest.Service(name, uint64(replicas))
		changes = append(changes, state.Put(s), state.Put(r))
		for slot := 1; slot <= replicas; slot++ {
			changes = append(changes, state.Put(statetest.Task(fmt.Sprintf("%s.%d", name, slot), name, slot, "n1")))
		}
	}
	store := statetest.New(statetest.Node("n1"))
	store.Apply(changes...)
	return store
}

// rounds returns a function that runs the loop until it rests, and counts the
// looks that it takes at services.
func rounds(tb testing.TB, store *statetest.Store) (round func() int) {
	tb.Helper()
	o, err := New(Config{Store: store})
	if err != nil {
		tb.Fatal(err)
	}
	t := &term{dirty: map[string]bool{}, due: map[string]time.Time{}}
	t.seen = store.View().Index()
	return func() (planned int) {
		for {
			o.note(t)
			if len(t.dirty) == 0 {
				return planned
			}
			planned += len(t.dirty)
			if err := o.round(context.Background(), t); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// How many services are looked at for a change does not depend on how many
// there are.
func TestWorkIsProportionalToTheChange(t *testing.T) {
	for _, n := range []int{10, 500} {
		store := crowd(n, 2)
		round := rounds(t, store)
		failed := *store.View().Task("s000003.1")
		for name, c := range map[string]struct {
			change state.Change
			want   int
		}{
			"a task fails":               {state.Put(with(failed, func(t *state.Task) { t.Status.State = taskstate.Failed })), 1},
			"a task moves on":            {state.Put(with(*store.View().Task("s000004.1"), func(t *state.Task) { t.Status.Message = "healthy" })), 0},
			"a node without tasks joins": {state.Put(statetest.Node("n9")), 0},
		} {
			store.Apply(c.change)
			if got := round(); got != c.want {
				t.Errorf("%d services, %s: %d looks, want %d", n, name, got, c.want)
			}
		}
		s := *store.View().Service("s000007")
		one := uint64(1)
		s.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &one}
		store.Put(&s)
		if got := round(); got != 1 {
			t.Errorf("%d services, one is scaled: %d looks, want 1", n, got)
		}
	}
}

func with(t state.Task, change func(*state.Task)) *state.Task {
	change(&t)
	return &t
}

// One task of one service among 5,000 fails and gets its successor.
func BenchmarkOneOf5000(b *testing.B) {
	store := crowd(5000, 2)
	round := rounds(b, store)
	for n := 0; b.Loop(); n++ {
		name := fmt.Sprintf("s%06d", n%5000)
		for t := range store.View().TasksOfService(name) {
			if t.Desired == taskstate.Running && !t.Status.State.Terminal() {
				store.Put(with(*t, func(t *state.Task) { t.Status.State = taskstate.Failed }))
				break
			}
		}
		round()
	}
}

// 100,000 tasks from nothing: of 1,000 services, and of a single one.
func BenchmarkFromNothing(b *testing.B) {
	for _, services := range []int{1000, 1} {
		b.Run(fmt.Sprintf("%d-services", services), func(b *testing.B) {
			for b.Loop() {
				store := statetest.New(statetest.Node("n1"))
				for i := range services {
					s, r := statetest.Service(fmt.Sprintf("s%06d", i), uint64(100_000/services))
					store.Put(s, r)
				}
				o, err := New(Config{Store: store})
				if err != nil {
					b.Fatal(err)
				}
				t := &term{dirty: map[string]bool{}, due: map[string]time.Time{}}
				everything(store.View(), t.dirty)
				if err := o.round(context.Background(), t); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Deciding alone, for a service of 1,000 tasks that is as it should be.
func BenchmarkPlanNothing(b *testing.B) {
	store := crowd(1, 1000)
	for b.Loop() {
		if out := plan(store.View(), "s000000", time.Now(), id.New, chunk); len(out.changes) > 0 {
			b.Fatal("it planned something")
		}
	}
}
