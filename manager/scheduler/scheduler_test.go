package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// pending returns n tasks of a service that wait for a node.
func pending(serviceID string, n int, options ...func(*state.Task)) (tasks []state.Object) {
	for i := range n {
		t := statetest.Task(fmt.Sprintf("%s.%03d", serviceID, i+1), serviceID, i+1, "", append([]func(*state.Task){statetest.Observed(taskstate.Pending)}, options...)...)
		tasks = append(tasks, t)
	}
	return tasks
}

func service(id string, options ...func(*swarm.ServiceSpec)) []state.Object {
	s, r := statetest.Service(id, 1, options...)
	return []state.Object{s, r}
}

// failer is what helpers need of a test, and of one run of a property.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// settle runs rounds over the store until one decides nothing, and returns
// where each task of the service is, or why it is nowhere.
func settle(t failer, store *statetest.Store, serviceID string) map[string]string {
	t.Helper()
	nodes := newNodeSet()
	for rounds := 0; ; rounds++ {
		nodes.sync(store.View(), time.Now())
		decisions := plan(nodes, time.Now())
		if len(decisions) == 0 {
			break
		}
		if rounds > 1 {
			t.Fatalf("plan after applying its own changes still plans: %+v", decisions[0])
		}
		store.Apply(commit(store.View(), decisions)...)
	}
	got := map[string]string{}
	for task := range store.View().TasksOfService(serviceID) {
		got[task.ID] = cmp.Or(task.NodeID, task.Status.Err)
	}
	return got
}

func storeOf(groups ...[]state.Object) *statetest.Store {
	return statetest.New(slices.Concat(groups...)...)
}

func TestPlanSkipsNodesThatTakeNoTasks(t *testing.T) {
	unknown := func(n *state.Node) { n.Status.State = swarm.NodeStateUnknown }
	nodes := []state.Object{
		statetest.Node("n1", statetest.Drained), statetest.Node("n2", statetest.Paused), statetest.Node("n3", statetest.Down),
		statetest.Node("n4", unknown), statetest.Node("n5"),
	}
	got := settle(t, storeOf(nodes, service("web"), pending("web", 2)), "web")
	if diff := gocmp.Diff(map[string]string{"web.001": "n5", "web.002": "n5"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPlanSetsWhatAnAssignmentIs(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1")}, service("web"), pending("web", 1))
	settle(t, store, "web")
	task := store.View().Task("web.001")
	if task.Status.State != taskstate.Assigned || task.Status.Message != messageAssigned || task.Status.Err != "" || task.Status.At.IsZero() {
		t.Errorf("status = %+v", task.Status)
	}
}

func reserve(cpu, memory int64) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{NanoCPUs: cpu, MemoryBytes: memory}}
	}
}

func place(p swarm.Placement) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement = &p }
}

func hostPortSpec(ports ...uint32) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{}
		for _, p := range ports {
			s.EndpointSpec.Ports = append(s.EndpointSpec.Ports, swarm.PortConfig{TargetPort: 80, PublishedPort: p, PublishMode: swarm.PortConfigPublishModeHost})
		}
	}
}

func resourcesOf(kind string, count int64, names ...string) func(*state.Node) {
	return func(n *state.Node) {
		r := &n.Description.Resources.GenericResources
		if count > 0 {
			*r = append(*r, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: kind, Value: count}})
		}
		for _, name := range names {
			*r = append(*r, swarm.GenericResource{NamedResourceSpec: &swarm.NamedGenericResource{Kind: kind, Value: name}})
		}
	}
}

func wantGeneric(kind string, count int64) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{GenericResources: []swarm.GenericResource{
			{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: kind, Value: count}},
		}}}
	}
}

func plugins(p ...swarm.PluginDescription) func(*state.Node) {
	return func(n *state.Node) { n.Description.Engine.Plugins = p }
}

func TestFiltersExplainThemselves(t *testing.T) {
	arm := func(n *state.Node) { n.Description.Platform.Architecture = "aarch64" }
	for name, c := range map[string]struct {
		node *state.Node
		spec func(*swarm.ServiceSpec)
		want string // the reason; empty: it fits
	}{
		"all of the CPU":        {statetest.Node("n"), reserve(4e9, 0), ""},
		"too much CPU":          {statetest.Node("n"), reserve(4e9+1, 0), "insufficient CPU"},
		"all of the memory":     {statetest.Node("n"), reserve(0, 8<<30), ""},
		"too much memory":       {statetest.Node("n"), reserve(0, 8<<30+1), "insufficient memory"},
		"no gpu":                {statetest.Node("n"), wantGeneric("gpu", 1), "insufficient gpu"},
		"too few gpus":          {statetest.Node("n", resourcesOf("gpu", 1)), wantGeneric("gpu", 2), "insufficient gpu"},
		"counted gpus":          {statetest.Node("n", resourcesOf("gpu", 2)), wantGeneric("gpu", 2), ""},
		"named gpus":            {statetest.Node("n", resourcesOf("gpu", 0, "a", "b")), wantGeneric("gpu", 2), ""},
		"constraint met":        {statetest.Node("n", statetest.Label("zone", "a")), place(swarm.Placement{Constraints: []string{"node.labels.zone==a"}}), ""},
		"constraint not met":    {statetest.Node("n"), place(swarm.Placement{Constraints: []string{"node.labels.zone == a"}}), "scheduling constraints not satisfied"},
		"constraint not parsed": {statetest.Node("n"), place(swarm.Placement{Constraints: []string{"zone=a"}}), "scheduling constraints not satisfied"},
		"platform":              {statetest.Node("n"), place(swarm.Placement{Platforms: []swarm.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}}}), ""},
		"platform, any arch":    {statetest.Node("n", arm), place(swarm.Placement{Platforms: []swarm.Platform{{OS: "linux"}}}), ""},
		"other arch":            {statetest.Node("n", arm), place(swarm.Placement{Platforms: []swarm.Platform{{OS: "linux", Architecture: "amd64"}}}), "unsupported platform"},
		"other OS":              {statetest.Node("n"), place(swarm.Placement{Platforms: []swarm.Platform{{OS: "windows", Architecture: "amd64"}}}), "unsupported platform"},
		"log driver there":      {statetest.Node("n", plugins(swarm.PluginDescription{Type: "Log", Name: "json-file"})), func(s *swarm.ServiceSpec) { s.TaskTemplate.LogDriver = &swarm.Driver{Name: "json-file"} }, ""},
		"log driver not there":  {statetest.Node("n", plugins(swarm.PluginDescription{Type: "Log", Name: "json-file"})), func(s *swarm.ServiceSpec) { s.TaskTemplate.LogDriver = &swarm.Driver{Name: "loki"} }, "missing log plugin loki"},
		"volume driver not there": {statetest.Node("n", plugins(swarm.PluginDescription{Type: "Volume", Name: "local"})), func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "v", Target: "/v", VolumeOptions: &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: "nfs"}}}}
		}, "missing volume plugin nfs"},
		"plugins not known": {statetest.Node("n"), func(s *swarm.ServiceSpec) { s.TaskTemplate.LogDriver = &swarm.Driver{Name: "loki"} }, ""},
		"host port":         {statetest.Node("n"), hostPortSpec(8080), ""},
	} {
		got := settle(t, storeOf([]state.Object{c.node}, service("web", c.spec), pending("web", 1)), "web")["web.001"]
		want := "n"
		if c.want != "" {
			want = fmt.Sprintf("no suitable node (%s on 1 node)", c.want)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestExplanationCountsNodesByReason(t *testing.T) {
	small := func(n *state.Node) { n.Description.Resources.MemoryBytes = 1 << 20 }
	store := storeOf([]state.Object{
		statetest.Node("n1", small), statetest.Node("n2", small), statetest.Node("n3", statetest.Drained), statetest.Node("n4", statetest.Down),
		statetest.Node("n5", small),
	}, service("web", reserve(0, 1<<30)), pending("web", 1))
	want := "no suitable node (insufficient memory on 3 nodes; not available for new tasks on 2 nodes)"
	if got := settle(t, store, "web")["web.001"]; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := explain(nil); got != "no suitable node (the cluster has no nodes)" {
		t.Errorf("without nodes: %q", got)
	}
}

func TestPlacedTasksTakeRoom(t *testing.T) {
	for name, c := range map[string]struct {
		options []func(*state.Node)
		spec    func(*swarm.ServiceSpec)
		reason  string
	}{
		"memory":       {nil, reserve(0, 3<<30), "insufficient memory on 2 nodes"},
		"cpu":          {nil, reserve(2e9, 0), "insufficient CPU on 2 nodes"},
		"host port":    {nil, hostPortSpec(8080), "host-mode port already in use on 2 nodes"},
		"max replicas": {nil, place(swarm.Placement{MaxReplicas: 2}), "max replicas per node limit exceed on 2 nodes"},
		"gpu":          {[]func(*state.Node){resourcesOf("gpu", 4)}, wantGeneric("gpu", 2), "insufficient gpu on 2 nodes"},
		"named gpu":    {[]func(*state.Node){resourcesOf("gpu", 0, "a", "b", "c")}, wantGeneric("gpu", 1), "insufficient gpu on 2 nodes"},
	} {
		perNode := map[string]int{"host port": 1, "named gpu": 3}
		fits := 2 * cmp.Or(perNode[name], 2)
		store := storeOf([]state.Object{statetest.Node("n1", c.options...), statetest.Node("n2", c.options...)}, service("web", c.spec), pending("web", fits))
		for id, where := range settle(t, store, "web") {
			if where != "n1" && where != "n2" {
				t.Errorf("%s: %s: %s", name, id, where)
			}
		}
		more := statetest.Task("more", "web", 99, "", statetest.Observed(taskstate.Pending))
		store.Put(more)
		if got := settle(t, store, "web")["more"]; got != "no suitable node ("+c.reason+")" {
			t.Errorf("%s: one too many: %q", name, got)
		}
		// Room that a task gives back is used; a task that only shall stop holds it.
		first := *store.View().Task("web.001")
		first.Desired = taskstate.Shutdown
		store.Put(&first)
		if name != "max replicas" { // that one counts tasks that shall run
			if got := settle(t, store, "web")["more"]; got == "n1" || got == "n2" {
				t.Errorf("%s: took the room of a task that still runs", name)
			}
		}
		ended := first
		ended.Status.State = taskstate.Shutdown
		store.Put(&ended)
		if got := settle(t, store, "web")["more"]; got != first.NodeID {
			t.Errorf("%s: after room became free: %q, want %s", name, got, first.NodeID)
		}
	}
}

func TestNamedResourcesAreClaimedOnce(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1", resourcesOf("gpu", 0, "a", "b", "c", "d"))}, service("web", wantGeneric("gpu", 2)), pending("web", 2))
	settle(t, store, "web")
	seen := map[string]bool{}
	for task := range store.View().TasksOfService("web") {
		for _, r := range task.GenericResources {
			seen[r.NamedResourceSpec.Value] = true
		}
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("claimed %v", got)
	}
}

func perNode(where map[string]string) map[string]int {
	count := map[string]int{}
	for _, n := range where {
		count[n]++
	}
	return count
}

func TestTasksSpreadOverNodes(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3")},
		service("old"), service("web"), []state.Object{statetest.Task("old.1", "old", 1, "n1"), statetest.Task("old.2", "old", 2, "n2")}, pending("web", 4))
	got := perNode(settle(t, store, "web"))
	if got["n1"]+got["n2"]+got["n3"] != 4 || got["n3"] != 2 {
		t.Errorf("4 tasks over a loaded n1, n2 and an empty n3: %v", got)
	}
	// The service's own tasks count before the load.
	store.Put(pending("old", 1)[0])
	if got := settle(t, store, "old")["old.001"]; got != "n3" {
		t.Errorf("a third task of old is on %s, want n3", got)
	}
}

func TestNodesWhereARevisionKeepsFailingComeLast(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("bad"), statetest.Node("good")}, service("web"), service("other"),
		[]state.Object{statetest.Task("load1", "other", 1, "good"), statetest.Task("load2", "other", 2, "good")})
	nodes := newNodeSet()
	placeOne := func(id string, now time.Time) string {
		store.Put(statetest.Task(id, "web", 1, "", statetest.Observed(taskstate.Pending)))
		nodes.sync(store.View(), now)
		decisions := plan(nodes, now)
		if len(decisions) != 1 {
			t.Fatalf("%d decisions", len(decisions))
		}
		store.Apply(state.Delete(state.KindTask, id))
		nodes.sync(store.View(), now)
		return decisions[0].nodeID
	}
	if got := placeOne("a", time.Now()); got != "bad" {
		t.Fatalf("before any failure: %s, want the empty node", got)
	}
	for i := range maxFailures {
		task := statetest.Task(fmt.Sprintf("f%d", i), "web", 1, "bad", statetest.Desired(taskstate.Shutdown))
		store.Put(task)
		failed := *task
		failed.Status.State = taskstate.Failed
		store.Put(&failed)
	}
	if got := placeOne("b", time.Now()); got != "good" {
		t.Errorf("after %d failures: %s, want the other node", maxFailures, got)
	}
	if got := placeOne("c", time.Now().Add(failureWindow+time.Minute)); got != "bad" {
		t.Errorf("when the failures are old: %s, want the empty node again", got)
	}
}

func TestPreferencesSpreadOverLabels(t *testing.T) {
	spread := func(descriptors ...string) func(*swarm.ServiceSpec) {
		var p swarm.Placement
		for _, d := range descriptors {
			p.Preferences = append(p.Preferences, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: d}})
		}
		return place(p)
	}
	node := func(id, zone, rack string) state.Object {
		return statetest.Node(id, statetest.Label("zone", zone), statetest.Label("rack", rack))
	}
	nodes := []state.Object{node("a1", "a", "1"), node("a2", "a", "1"), node("a3", "a", "2"), node("b1", "b", "1"), statetest.Node("none")}
	got := perNode(settle(t, storeOf(nodes, service("web", spread("node.labels.zone", "node.ignored", "node.labels.rack")), pending("web", 12)), "web"))
	want := map[string]int{"a1": 1, "a2": 1, "a3": 2, "b1": 4, "none": 4}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A branch that is full leaves the rest to the others.
	limited := func(s *swarm.ServiceSpec) { spread("node.labels.zone")(s); s.TaskTemplate.Placement.MaxReplicas = 2 }
	got = perNode(settle(t, storeOf(nodes, service("web", limited), pending("web", 10)), "web"))
	want = map[string]int{"a1": 2, "a2": 2, "a3": 2, "b1": 2, "none": 2}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("with full branches (-want +got):\n%s", diff)
	}
}

func TestBoundTasksAreConfirmedOrExplained(t *testing.T) {
	bind := func(node string) func(*state.Task) { return func(t *state.Task) { t.NodeID = node } }
	store := storeOf([]state.Object{statetest.Node("n1"), statetest.Node("n2", statetest.Paused)}, service("agent", statetest.Global, reserve(0, 5<<30)),
		[]state.Object{
			statetest.Task("a1", "agent", 0, "", statetest.Observed(taskstate.Pending), bind("n1")),
			statetest.Task("a2", "agent", 0, "", statetest.Observed(taskstate.Pending), bind("n2")),
		})
	settle(t, store, "agent")
	a1, a2 := store.View().Task("a1"), store.View().Task("a2")
	if a1.Status.State != taskstate.Assigned || a1.Status.Message != messagePreassigned || a1.NodeID != "n1" {
		t.Errorf("a1 = %+v", a1)
	}
	if a2.Status.State != taskstate.Pending || a2.Status.Err != "no suitable node (not available for new tasks on 1 node)" || a2.NodeID != "n2" {
		t.Errorf("a2 = %+v", a2)
	}
}

func TestTasksThatShallNotRunAreLeftAlone(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1")}, service("web"), pending("web", 1, statetest.Desired(taskstate.Shutdown)), pending("gone", 1))
	before := store.Updates()
	settle(t, store, "web")
	if store.Updates() != before {
		t.Error("a task that shall stop, or whose service is gone, was touched")
	}
}

func TestCommitSkipsTasksThatChangedMeanwhile(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1")}, service("web"), pending("web", 3))
	nodes := newNodeSet()
	nodes.sync(store.View(), time.Now())
	decisions := plan(nodes, time.Now())
	stopped := *store.View().Task("web.001")
	stopped.Desired = taskstate.Shutdown
	store.Put(&stopped)
	store.Apply(state.Delete(state.KindTask, "web.002"))
	changes := commit(store.View(), decisions)
	if len(changes) != 1 || changes[0].Key() != "web.003" {
		t.Errorf("changes = %v", changes)
	}
	store.Apply(state.Delete(state.KindNode, "n1"))
	if changes := commit(store.View(), decisions); len(changes) != 0 {
		t.Errorf("assigned to a node that was removed: %v", changes)
	}
}

func TestRunPlacesTasksAsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storeOf([]state.Object{statetest.Node("n1")}, service("web"))
		s, err := New(Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for i := range 3 {
			store.Put(pending("web", 3)[i])
			time.Sleep(2 * maxQuiet)
			if got := store.View().Task(fmt.Sprintf("web.%03d", i+1)); got.NodeID != "n1" {
				t.Errorf("task %d has not been placed: %+v", i+1, got.Status)
			}
		}
		updates := store.Updates()
		store.Put(statetest.Node("n1"))
		time.Sleep(time.Hour)
		if got := store.Updates(); got != updates+1 {
			t.Errorf("%d updates with nothing to do", got-updates-1)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunEndsWhenItCannotUpdate(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1")}, service("web"), pending("web", 1))
	lost := errors.New("leadership lost")
	store.Fail(lost)
	s, err := New(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, lost) {
		t.Errorf("Run: %v, want %v", err, lost)
	}
}
