package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// long is when all that a test puts in place has run for long enough.
func long() time.Time { return time.Now().Add(time.Minute) }

// auto is a service that is rebalanced by itself.
func auto(id string, replicas uint64, options ...func(*swarm.ServiceSpec)) []state.Object {
	s, r := statetest.Service(id, replicas, options...)
	s.Rebalance = state.RebalanceAuto
	return []state.Object{s, r}
}

// on returns tasks of a service, of slots from 1, one on each node given.
func on(id string, nodes ...string) (tasks []state.Object) {
	for i, n := range nodes {
		tasks = append(tasks, statetest.Task(fmt.Sprintf("%s.%d", id, i+1), id, i+1, n))
	}
	return tasks
}

func edit(objs []state.Object, at int, change func(*state.Task)) []state.Object {
	change(objs[at].(*state.Task))
	return objs
}

// found runs one look at services, and says what it marks: "web.1 n2".
func found(store *statetest.Store, now time.Time, services ...string) (marks []string, m *moves) {
	nodes := newNodeSet()
	nodes.sync(store.View(), now)
	m = planMoves(nodes, services, now)
	for _, h := range m.hints {
		marks = append(marks, strings.TrimSpace(h.task.ID+" "+h.to))
	}
	return marks, m
}

func TestPlanMoves(t *testing.T) {
	spread := place(swarm.Placement{Preferences: []swarm.PlacementPreference{{Spread: &swarm.SpreadOver{SpreadDescriptor: "node.labels.zone"}}}})
	nodes := func(options ...func(*state.Node)) []state.Object {
		return []state.Object{statetest.Node("n1"), statetest.Node("n2", options...)}
	}
	zones := func(of ...string) (objs []state.Object) {
		for i, zone := range of {
			objs = append(objs, statetest.Node(fmt.Sprintf("n%d", i+1), statetest.Label("zone", zone)))
		}
		return objs
	}
	status := func(objs []state.Object, s swarm.UpdateState) []state.Object {
		objs[0].(*state.Service).UpdateStatus = &swarm.UpdateStatus{State: s}
		return objs
	}
	returned := func(ago time.Duration) func(*state.Node) {
		return func(n *state.Node) { n.ReturnedAt = long().Add(-ago) }
	}
	mounted := func(m mount.Mount) func(*swarm.ServiceSpec) {
		return func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{m} }
	}
	heir := func(id string, slot int, node, of string, s taskstate.State) []state.Object {
		return []state.Object{statetest.Task(id, "web", slot, node, statetest.Observed(s), func(t *state.Task) { t.Moves = of })}
	}
	for name, c := range map[string]struct {
		groups [][]state.Object
		want   string
	}{
		"two more than on the empty node":       {[][]state.Object{nodes(), auto("web", 2), on("web", "n1", "n1")}, "web.2 n2"},
		"one more, and no other tasks":          {[][]state.Object{nodes(), auto("web", 1), on("web", "n1")}, ""},
		"one more, on a node with many tasks":   {[][]state.Object{nodes(), auto("web", 1), on("web", "n1"), service("db"), on("db", "n1")}, "web.1 n2"},
		"one more, on a node with as many":      {[][]state.Object{nodes(), auto("web", 1), on("web", "n1"), service("db"), on("db", "n1", "n2")}, ""},
		"as many, on a node with many tasks":    {[][]state.Object{nodes(), auto("web", 2), on("web", "n1", "n2"), service("db"), on("db", "n1", "n1", "n1")}, ""},
		"a setting of another's does not count": {[][]state.Object{nodes(), service("web"), on("web", "n1", "n1")}, ""},

		"zones come first":                   {[][]state.Object{zones("a", "a", "b"), auto("web", 4, spread), on("web", "n1", "n2", "n1", "n3")}, "web.3 n3"},
		"within a zone":                      {[][]state.Object{zones("a", "a", "b"), auto("web", 4, spread), on("web", "n1", "n1", "n3", "n3")}, "web.2 n2"},
		"zones are even, though nodes not":   {[][]state.Object{zones("a", "a", "b"), auto("web", 6, spread), on("web", "n1", "n2", "n3", "n3", "n3", "n1")}, ""},
		"an odd one between zones and nodes": {[][]state.Object{zones("a", "b", "b"), auto("web", 5, spread), on("web", "n1", "n1", "n1", "n2", "n3")}, "web.3 n2"},

		"not to a drained node":      {[][]state.Object{nodes(statetest.Drained), auto("web", 2), on("web", "n1", "n1")}, ""},
		"not to a paused node":       {[][]state.Object{nodes(statetest.Paused), auto("web", 2), on("web", "n1", "n1")}, ""},
		"not to a node that is down": {[][]state.Object{nodes(statetest.Down), auto("web", 2), on("web", "n1", "n1")}, ""},
		"not to one that came back":  {[][]state.Object{nodes(returned(settleTime - time.Second)), auto("web", 2), on("web", "n1", "n1")}, ""},
		"until it has settled":       {[][]state.Object{nodes(returned(settleTime)), auto("web", 2), on("web", "n1", "n1")}, "web.2 n2"},
		"not against constraints":    {[][]state.Object{nodes(), auto("web", 2, place(swarm.Placement{Constraints: []string{"node.id!=n2"}})), on("web", "n1", "n1")}, ""},
		"not where memory lacks":     {[][]state.Object{nodes(), auto("web", 2, reserve(0, 3<<30)), on("web", "n1", "n1"), service("db", reserve(0, 6<<30)), on("db", "n2")}, ""},
		"not where the port is held": {[][]state.Object{nodes(), auto("web", 2, hostPortSpec(80)), on("web", "n1", "n1"), service("db", hostPortSpec(80)), on("db", "n2")}, ""},
		"with a port of the host":    {[][]state.Object{nodes(), auto("web", 1, hostPortSpec(80)), on("web", "n1"), service("db", hostPortSpec(81)), on("db", "n1")}, "web.1 n2"},
		"not above the most per node": {[][]state.Object{
			nodes(), statetestNodes("n3"), auto("web", 4, place(swarm.Placement{MaxReplicas: 1})), on("web", "n1", "n1", "n1", "n2"),
		}, "web.3 n3"},
		"a named resource":    {[][]state.Object{nodes(resourcesOf("gpu", 0, "g1")), auto("web", 2, wantGeneric("gpu", 1)), on("web", "n1", "n1")}, "web.2 n2"},
		"no named resource":   {[][]state.Object{nodes(), auto("web", 2, wantGeneric("gpu", 1)), on("web", "n1", "n1")}, ""},
		"what writes to disk": {[][]state.Object{nodes(), auto("web", 2, mounted(mount.Mount{Type: mount.TypeBind, Source: "/srv", Target: "/srv"})), on("web", "n1", "n1")}, ""},
		"what only reads":     {[][]state.Object{nodes(), auto("web", 2, mounted(mount.Mount{Type: mount.TypeBind, Source: "/srv", Target: "/srv", ReadOnly: true})), on("web", "n1", "n1")}, "web.2 n2"},
		"a local volume":      {[][]state.Object{nodes(), auto("web", 2, mounted(mount.Mount{Type: mount.TypeVolume, Source: "data", Target: "/data"})), on("web", "n1", "n1")}, ""},
		"a volume of a file server": {[][]state.Object{nodes(), auto("web", 2, mounted(mount.Mount{Type: mount.TypeVolume, Target: "/data", VolumeOptions: &mount.VolumeOptions{
			DriverConfig: &mount.Driver{Options: map[string]string{"type": "nfs4"}},
		}})), on("web", "n1", "n1")}, "web.2 n2"},

		"a global service":     {[][]state.Object{nodes(), auto("web", 2, statetest.Global), on("web", "n1", "n1")}, ""},
		"in an update":         {[][]state.Object{nodes(), status(auto("web", 2), swarm.UpdateStateUpdating), on("web", "n1", "n1")}, ""},
		"in one that paused":   {[][]state.Object{nodes(), status(auto("web", 2), swarm.UpdateStatePaused), on("web", "n1", "n1")}, ""},
		"a task that starts":   {[][]state.Object{nodes(), auto("web", 3), edit(on("web", "n1", "n1", "n1"), 2, statetest.Observed(taskstate.Starting))}, ""},
		"a task too few":       {[][]state.Object{nodes(), auto("web", 3), on("web", "n1", "n1")}, ""},
		"a task on a lost one": {[][]state.Object{nodes(), statetestNodes("n3"), auto("web", 3), on("web", "n1", "n1", "gone")}, ""},
		"after a failed move":  {[][]state.Object{nodes(), auto("web", 2), edit(on("web", "n1", "n1"), 0, func(t *state.Task) { t.Unmoved.Until = long().Add(time.Minute) })}, ""},

		"marked before":              {[][]state.Object{nodes(), auto("web", 2), edit(on("web", "n1", "n1"), 1, func(t *state.Task) { t.MoveTo = "n2" })}, ""},
		"another one marked":         {[][]state.Object{nodes(), auto("web", 2), edit(on("web", "n1", "n1"), 0, func(t *state.Task) { t.MoveTo = "n2" })}, "web.1; web.2 n2"},
		"marked, and off since":      {[][]state.Object{nodes(), service("web"), edit(on("web", "n1"), 0, func(t *state.Task) { t.MoveTo = "n2" })}, "web.1"},
		"under way":                  {[][]state.Object{nodes(), auto("web", 3), edit(on("web", "n1", "n1", "n1"), 0, func(t *state.Task) { t.MoveTo = "n2" }), heir("h", 1, "n2", "web.1", taskstate.Starting)}, ""},
		"what is under way has left": {[][]state.Object{nodes(), auto("web", 1), edit(on("web", "n1"), 0, func(t *state.Task) { t.MoveTo = "n2" }), heir("h", 1, "n2", "web.1", taskstate.Starting), auto("db", 1), on("db", "n1")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			marks, _ := found(storeOf(c.groups...), long(), "web", "db")
			if got := strings.Join(marks, "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func statetestNodes(ids ...string) (objs []state.Object) {
	for _, id := range ids {
		objs = append(objs, statetest.Node(id))
	}
	return objs
}

// Ten services with a task each: a node that joins gets half of them, not all.
func TestMovesOfOneLookCountForEachOther(t *testing.T) {
	groups, names := [][]state.Object{statetestNodes("n1", "n2")}, []string{}
	for i := range 6 {
		names = append(names, fmt.Sprintf("s%d", i))
		groups = append(groups, auto(names[i], 1), on(names[i], "n1"))
	}
	store := storeOf(groups...)
	marks, _ := found(store, long(), names...)
	if want := []string{"s0.1 n2", "s1.1 n2", "s2.1 n2"}; !slices.Equal(marks, want) {
		t.Errorf("marks %v, want %v", marks, want)
	}
	nodes := newNodeSet()
	nodes.sync(store.View(), long())
	planMoves(nodes, names, long())
	if n1, n2 := nodes.nodes["n1"], nodes.nodes["n2"]; n1.tasks != 6 || n2.tasks != 0 || len(n2.byService) != 0 {
		t.Errorf("after the look n1 has %d tasks and n2 %d, want 6 and 0", n1.tasks, n2.tasks)
	}
}

func TestFewTasksMoveToOneNodeAtATime(t *testing.T) {
	groups, names := [][]state.Object{statetestNodes("n1", "n2")}, []string{}
	for i := range 6 {
		names = append(names, fmt.Sprintf("s%d", i))
		groups = append(groups, auto(names[i], 2), on(names[i], "n1", "n1"))
	}
	marks, m := found(storeOf(groups...), long(), names...)
	if len(marks) != maxInward {
		t.Errorf("%d moves at once: %v", len(marks), marks)
	}
	if diff := gocmp.Diff([]string{"s4", "s5"}, m.waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
}

// What ends by itself is waited for; no change would call for another look.
func TestLookIsTakenAgain(t *testing.T) {
	now := long()
	back, until := now.Add(-time.Minute), now.Add(time.Minute)
	flapped := func(n *state.Node) { n.ReturnedAt = back }
	for name, c := range map[string]struct {
		groups [][]state.Object
		now    time.Time
		want   time.Time
	}{
		"a node that settles": {[][]state.Object{{statetest.Node("n1"), statetest.Node("n2", flapped)}, auto("web", 2), on("web", "n1", "n1")}, now, back.Add(settleTime)},
		"a move given up":     {[][]state.Object{statetestNodes("n1", "n2"), auto("web", 2), edit(on("web", "n1", "n1"), 0, func(t *state.Task) { t.Unmoved.Until = until })}, now, until},
		"all is well":         {[][]state.Object{statetestNodes("n1", "n2"), auto("web", 2), on("web", "n1", "n2")}, now, time.Time{}},
	} {
		_, m := found(storeOf(c.groups...), c.now, "web")
		if got := m.due["web"]; !got.Equal(c.want) {
			t.Errorf("%s: due %v, want %v", name, got, c.want)
		}
	}
	store := storeOf(statetestNodes("n1", "n2"), auto("web", 2), edit(on("web", "n1", "n1"), 0, func(t *state.Task) { t.Status.At = long() }))
	young := store.View().Task("web.1").UpdatedAt.Add(time.Second)
	if marks, m := found(store, young, "web"); len(marks) > 0 || m.due["web"].Sub(young) > steadyAfter {
		t.Errorf("tasks that have just started: marks %v, due in %v", marks, m.due["web"].Sub(young))
	}
}

// Who asks by hand gets the moves that there are, whatever the setting is, and
// then the matter is closed.
func TestAskedForByHand(t *testing.T) {
	asked := func(objs []state.Object) []state.Object {
		s := objs[0].(*state.Service)
		s.Rebalance, s.RebalanceAsked = state.RebalanceOff, long()
		return objs
	}
	for name, c := range map[string]struct {
		tasks []state.Object
		marks string
		done  bool
	}{
		"a move":          {on("web", "n1", "n1"), "web.2 n2", false},
		"none":            {on("web", "n1", "n2"), "", true},
		"one that failed": {edit(on("web", "n1", "n1"), 0, func(t *state.Task) { t.Unmoved.Until = long().Add(time.Hour) }), "", true},
	} {
		store := storeOf(statetestNodes("n1", "n2"), asked(auto("web", 2)), c.tasks)
		marks, m := found(store, long(), "web")
		if got := strings.Join(marks, "; "); got != c.marks || len(m.done) > 0 != c.done {
			t.Errorf("%s: marks %q, done %v, want %q, %v", name, got, m.done, c.marks, c.done)
		}
		changes, _ := commitMoves(store.View(), m)
		store.Apply(changes...)
		if got := store.View().Service("web").RebalanceAsked.IsZero(); got != c.done {
			t.Errorf("%s: closed: %v, want %v", name, got, c.done)
		}
	}
}

func TestMarksOnWhatChangedMeanwhileAreLeftOut(t *testing.T) {
	store := storeOf(statetestNodes("n1", "n2"), auto("web", 2), on("web", "n1", "n1"))
	_, m := found(store, long(), "web")
	store.Put(statetest.Task("web.2", "web", 2, "n1", statetest.Desired(taskstate.Shutdown)))
	if changes, skipped := commitMoves(store.View(), m); len(changes) > 0 || !slices.Equal(skipped, []string{"web"}) {
		t.Errorf("changes %v, skipped %v", changes, skipped)
	}
}

func TestAdviseTellsAllMovesAndTheirReasons(t *testing.T) {
	store := storeOf(statetestNodes("n1", "n2", "n3"), service("web", func(s *swarm.ServiceSpec) { s.Mode.Replicated.Replicas = new(uint64(6)) }), on("web", "n1", "n1", "n1", "n1", "n2", "n2"))
	v := store.View()
	got := AdviseMoves(v, []*state.Service{v.Service("web")}, true, long())
	want := []MoveAdvice{{Moves: []Move{
		{Slot: 4, TaskID: "web.4", From: "n1", To: "n3", Why: "n1 has 4 tasks of the service, n3 has 0"},
		{Slot: 3, TaskID: "web.3", From: "n1", To: "n3", Why: "n1 has 3 tasks of the service, n3 has 1"},
	}}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	store.Put(statetest.Task("web.6", "web", 6, "n2", statetest.Observed(taskstate.Failed)))
	v = store.View()
	if got := AdviseMoves(v, []*state.Service{v.Service("web")}, true, long()); got[0].Held != "5 of its 6 tasks run" || len(got[0].Moves) > 0 {
		t.Errorf("with a failed task: %+v", got)
	}
}
