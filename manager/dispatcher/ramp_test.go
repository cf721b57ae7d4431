package dispatcher

import (
	"fmt"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

// rampWorld has two services of one image on n nodes, one of another, and no
// tasks.
func rampWorld(n int) *statetest.Store {
	objs := []state.Object{}
	for _, id := range []string{"web", "api", "other"} {
		service, revision := statetest.Service(id, uint64(n), func(s *swarm.ServiceSpec) {
			if id == "other" {
				s.TaskTemplate.ContainerSpec.Image = "other:1"
			}
		})
		revision.RegistryAuth = "secret"
		objs = append(objs, service, revision)
	}
	for i := range n {
		objs = append(objs, statetest.Node(nodeName(i)))
	}
	return statetest.New(objs...)
}

func nodeName(i int) string { return fmt.Sprintf("n%03d", i) }

// onEach is a task of a service on each of n nodes, as far as state.
func onEach(service string, n int, s taskstate.State) (tasks []state.Object) {
	for i := range n {
		tasks = append(tasks, taskOn(service, i, s))
	}
	return tasks
}

func taskOn(service string, i int, s taskstate.State) *state.Task {
	return statetest.Task(service+nodeName(i), service, i+1, nodeName(i), statetest.Observed(s))
}

// follow is a ramp on the changes of a store.
type follow struct {
	*ramp
	store *statetest.Store
	index uint64
}

func newFollow(s *statetest.Store) *follow {
	return &follow{newRamp(s.View()), s, s.View().Index()}
}

// step puts tasks and returns those that may pull now and could not before.
func (f *follow) step(t interface{ Fatal(...any) }, objs ...state.Object) []string {
	f.store.Put(objs...)
	events, ok := f.store.View().Since(f.index)
	if !ok {
		t.Fatal("the way from view to view is lost")
	}
	f.index = f.store.View().Index()
	released := f.advance(f.store.View(), events)
	slices.Sort(released)
	return released
}

func TestPullsDoubleAsNodesComeToHaveTheImage(t *testing.T) {
	const n = 100
	f := newFollow(rampWorld(n))
	turn := f.step(t, onEach("web", n, taskstate.Assigned)...)
	rounds := []int{}
	for done := 0; done < n; {
		rounds = append(rounds, len(turn))
		if len(rounds) > 20 {
			break
		}
		done += len(turn)
		var ready []state.Object
		for _, id := range turn {
			node := f.store.View().Task(id).NodeID
			ready = append(ready, statetest.Task(id, "web", f.store.View().Task(id).Slot, node, statetest.Observed(taskstate.Ready)))
		}
		turn = f.step(t, ready...)
	}
	if want := []int{4, 8, 16, 32, 32, 8}; !slices.Equal(rounds, want) {
		t.Errorf("nodes that pull at once: %v, want %v", rounds, want)
	}
}

func TestTurnsAreForNodesAndImages(t *testing.T) {
	f := newFollow(rampWorld(10))
	if got := f.step(t, onEach("web", 3, taskstate.Preparing)...); len(got) != 3 {
		t.Errorf("few nodes do not wait: %v", got)
	}
	f.step(t, onEach("other", 4, taskstate.Preparing)...)
	if f.held("other" + nodeName(3)) {
		t.Error("another image takes turns away")
	}
	if got := f.step(t, onEach("api", 6, taskstate.Assigned)...); len(got) != 1 || f.held("api"+nodeName(2)) || !f.held("api"+nodeName(5)) {
		t.Errorf("a second service of the image: %v gain", got)
	}
	if got := f.step(t, taskOn("api", 0, taskstate.Ready)); len(got) != 1 {
		t.Errorf("a node that has the image, and waits with another task: %v gain, want one for what it has", got)
	}
	if got := f.step(t, taskOn("web", 0, taskstate.Rejected), taskOn("web", 1, taskstate.Running), taskOn("api", 1, taskstate.Running)); len(got) != 1 || f.held("api"+nodeName(5)) {
		t.Errorf("the end of a pull and a failure: %v gain", got)
	}
	for _, s := range []string{"web", "api", "other"} {
		for i := range 10 {
			f.store.Apply(state.Delete(state.KindTask, s+nodeName(i)))
		}
	}
	f.step(t)
	if len(f.images)+len(f.tasks) > 0 {
		t.Errorf("left behind: %v, %v", f.images, f.tasks)
	}
}

// Whatever tasks do: a ramp that has followed counts what a new one counts, no
// more nodes have their turn than may, and while any waits some have it.
func TestRampFollowsTheView(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const n = 12
		f := newFollow(rampWorld(n))
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			var objs []state.Object
			for range rapid.IntRange(1, 12).Draw(rt, "tasks") {
				service := rapid.SampledFrom([]string{"web", "api", "other"}).Draw(rt, "service")
				task := taskOn(service, rapid.IntRange(0, n-1).Draw(rt, "node"), rapid.SampledFrom([]taskstate.State{
					taskstate.Pending, taskstate.Assigned, taskstate.Preparing, taskstate.Ready, taskstate.Running, taskstate.Failed, taskstate.Rejected,
				}).Draw(rt, "state"))
				task.Desired = rapid.SampledFrom([]taskstate.State{taskstate.Running, taskstate.Running, taskstate.Shutdown}).Draw(rt, "desired")
				objs = append(objs, task)
			}
			before := map[string]int{}
			for image, p := range f.images {
				before[image] = len(p.turn)
			}
			f.step(rt, objs...)
			fresh := newRamp(f.store.View())
			if diff := cmp.Diff(fresh.tasks, f.tasks, cmp.AllowUnexported(place{})); diff != "" {
				rt.Fatalf("tasks (-new +followed):\n%s", diff)
			}
			for image, p := range f.images {
				limit := max(firstPulls+len(p.has), before[image])
				if len(p.turn) > limit || len(p.turn) < min(len(p.waits), firstPulls) || len(p.turn) > len(p.waits) {
					rt.Fatalf("%s: %d of %d nodes have their turn, %d have the image", image, len(p.turn), len(p.waits), len(p.has))
				}
			}
		}
	})
}

func TestSessionsAreToldToHoldAndToPull(t *testing.T) {
	const n = 6
	store := rampWorld(n)
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	var sessions []*session
	for i := range n {
		sessions = append(sessions, attached(t, d, nodeName(i)))
	}
	store.Put(onEach("web", n, taskstate.Assigned)...)
	d.hub.advance(store.View())
	if got := d.hub.pullsWaiting(); got != n-firstPulls {
		t.Errorf("%d nodes wait for their turn, want %d", got, n-firstPulls)
	}
	for i, s := range sessions {
		line := d.hub.take(s)
		if len(line.Tasks) != 1 || line.Tasks[0].Hold != (i >= firstPulls) {
			t.Errorf("%s gets %+v", s.nodeID, line.Tasks)
		}
		for len(s.wake) > 0 {
			<-s.wake
		}
	}
	store.Put(taskOn("web", 0, taskstate.Ready))
	d.hub.advance(store.View())
	for i, s := range sessions {
		if woken := len(s.wake) > 0; woken != (i >= firstPulls) {
			t.Errorf("%s is woken: %v", s.nodeID, woken)
		}
	}
	if line := d.hub.take(sessions[5]); len(line.Tasks) != 1 || line.Tasks[0].Hold {
		t.Errorf("it may pull, and gets %+v", line.Tasks)
	}
	// What a session has missed the next one tells.
	s := d.newSession(t.Context(), nodeName(5), "worker", assignment.Hello{Boot: "b", Index: store.View().Index(), Managed: []string{"web" + nodeName(5)}})
	if err := d.hub.attach(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if line := d.hub.take(s); len(line.Tasks) != 1 || line.Tasks[0].Hold {
		t.Errorf("a resumed session gets %+v", line.Tasks)
	}
}

func TestCredentialsGoOnlyWithTasksThatHaveToPull(t *testing.T) {
	store := rampWorld(2)
	store.Put(taskOn("web", 0, taskstate.Running))
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s := d.newSession(t.Context(), nodeName(0), "worker", assignment.Hello{Boot: "b"})
	if err := d.hub.attach(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	expect := func(what string, auths ...string) {
		t.Helper()
		var got []string
		for _, spec := range d.hub.take(s).Specs {
			got = append(got, spec.RegistryAuth)
		}
		if !cmp.Equal(got, auths) {
			t.Errorf("%s: specs with credentials %q, want %q", what, got, auths)
		}
	}
	step := func(objs ...state.Object) {
		store.Put(objs...)
		d.hub.advance(store.View())
	}
	expect("a task that runs", "")
	step(statetest.Task("second", "web", 2, nodeName(0), statetest.Observed(taskstate.Assigned)))
	expect("one that has to pull", "secret")
	step(statetest.Task("third", "web", 3, nodeName(0), statetest.Observed(taskstate.Assigned)))
	expect("the next one")
	step(statetest.Task("ended", "api", 1, nodeName(0), statetest.Observed(taskstate.Assigned), statetest.Desired(taskstate.Shutdown)))
	expect("one that is to stop", "")
	step(statetest.Task("elsewhere", "other", 1, nodeName(1), statetest.Observed(taskstate.Assigned)))
	expect("one of another node")
}
