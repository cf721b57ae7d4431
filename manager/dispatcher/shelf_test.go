package dispatcher

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

// valueWorld has two nodes, and services that use a secret and a config.
func valueWorld() *statetest.Store {
	secret, config := statetest.Secret("sec", "db", 0), statetest.Config("con", "conf", 0)
	web, webRev := statetest.Service("web", 1, statetest.Uses(secret, config))
	api, apiRev := statetest.Service("api", 1, statetest.Uses(secret))
	return statetest.New(secret, config, web, webRev, api, apiRev, statetest.Node("n1"), statetest.Node("n2"))
}

func valueIDs(line assignment.Down) (ids []string) {
	for _, v := range line.Values {
		ids = append(ids, v.ID)
	}
	return ids
}

// expectValues takes a session's next line and compares what it brings.
func expectValues(t *testing.T, d *Dispatcher, s *session, what string, values, forget []string) {
	t.Helper()
	line := d.hub.take(s)
	if diff := cmp.Diff(values, valueIDs(line)); diff != "" {
		t.Errorf("%s: values (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(forget, line.Forget); diff != "" {
		t.Errorf("%s: forget (-want +got):\n%s", what, diff)
	}
}

func TestANodeHasTheValuesThatItsTasksNeed(t *testing.T) {
	store := valueWorld()
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s1, s2 := attached(t, d, "n1"), attached(t, d, "n2")
	step := func(changes ...state.Object) {
		store.Put(changes...)
		d.hub.advance(store.View())
	}
	step(statetest.Task("a", "api", 1, "n1"))
	expectValues(t, d, s1, "first task", []string{"sec"}, nil)
	expectValues(t, d, s2, "another node", nil, nil)
	step(statetest.Task("w", "web", 1, "n1"))
	expectValues(t, d, s1, "second task", []string{"con"}, nil)
	step(statetest.Task("a", "api", 1, "n1", statetest.Desired(taskstate.Shutdown)))
	expectValues(t, d, s1, "one of two users stops", nil, nil)
	step(statetest.Task("w", "web", 1, "n1", statetest.Observed(taskstate.Failed)))
	if len(s1.wake) != 1 {
		t.Error("the end of a task does not wake its session")
	}
	expectValues(t, d, s1, "the other ends by itself", nil, []string{"con", "sec"})
	step(statetest.Task("w2", "web", 1, "n1"))
	expectValues(t, d, s1, "its successor", []string{"con", "sec"}, nil)
	store.Apply(state.Delete(state.KindTask, "w2"))
	d.hub.advance(store.View())
	expectValues(t, d, s1, "a task that is gone", nil, []string{"con", "sec"})
}

func TestAResumedSessionBringsWhatIsMissing(t *testing.T) {
	store := valueWorld()
	store.Put(statetest.Task("a", "api", 1, "n1"))
	index := store.View().Index()
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	for _, c := range []struct {
		name           string
		has            []string
		values, forget []string
	}{
		{"a restarted worker", nil, []string{"sec"}, nil},
		{"one that has all", []string{"sec"}, nil, nil},
		{"one that has more", []string{"con", "sec", "unknown"}, nil, []string{"con", "unknown"}},
	} {
		for _, from := range []uint64{0, index} {
			s := d.newSession(t.Context(), "n1", "worker", assignment.Hello{Boot: "b", Index: from, Managed: []string{"a"}, Values: c.has})
			if err := d.hub.attach(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			expectValues(t, d, s, c.name, c.values, c.forget)
		}
	}
}

func TestATaskComesWithoutAValueThatIsGone(t *testing.T) {
	store := valueWorld()
	store.Apply(state.Delete(state.KindSecret, "sec"))
	store.Put(statetest.Task("w", "web", 1, "n1"))
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s := d.newSession(t.Context(), "n1", "worker", assignment.Hello{Boot: "b"})
	if err := d.hub.attach(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	line := d.hub.take(s)
	if diff := cmp.Diff([]string{"con"}, valueIDs(line)); diff != "" || len(line.Tasks) != 1 {
		t.Errorf("%d tasks, values (-want +got):\n%s", len(line.Tasks), diff)
	}
}

func TestManyValuesAreSeveralLines(t *testing.T) {
	sized := func(sizes ...int) (values []assignment.Value) {
		for _, n := range sizes {
			values = append(values, assignment.Value{Data: make([]byte, n)})
		}
		return values
	}
	const half = maxValues / 2
	for _, c := range []struct {
		sizes, want []int // values of each line
	}{
		{nil, []int{0}},
		{[]int{half, half}, []int{2}},
		{[]int{half, half, 1}, []int{2, 1}},
		{[]int{3 * half, 1, 3 * half, half, 1}, []int{1, 1, 1, 2}},
	} {
		line := assignment.Down{Welcome: &assignment.Welcome{Version: 1}, Full: true, Index: 7, Values: sized(c.sizes...), Tasks: []assignment.Task{{ID: "t"}}}
		lines := split(line)
		var got []int
		for i, part := range lines {
			got = append(got, len(part.Values))
			last := i == len(lines)-1
			if (part.Welcome != nil) != (i == 0) || part.Full != last || (part.Index == 7) != last || (len(part.Tasks) == 1) != last {
				t.Errorf("%v: line %d of %d is %+v", c.sizes, i, len(lines), part)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.sizes, diff)
		}
	}
}
