package dispatcher

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// apply returns the view after changes.
func apply(t *testing.T, store *statetest.Store, changes []state.Change) *state.View {
	t.Helper()
	store.Apply(changes...)
	return store.View()
}

func TestPlanStatuses(t *testing.T) {
	running := taskstate.Status{State: taskstate.Running, At: epoch, ContainerID: "c", Ports: []swarm.PortConfig{{PublishedPort: 80}}}
	tests := []struct {
		name string
		from taskstate.State
		said Status
		want taskstate.Status // zero: no change
	}{
		{"forward", taskstate.Assigned, Status{"n1", "t", running}, running},
		{"same state, new facts", taskstate.Running, Status{"n1", "t", running}, running},
		{"nothing new", taskstate.Running, Status{"n1", "t", taskstate.Status{State: taskstate.Running}}, taskstate.Status{}},
		{"back", taskstate.Running, Status{"n1", "t", taskstate.Status{State: taskstate.Ready}}, taskstate.Status{}},
		{"other node", taskstate.Assigned, Status{"n2", "t", running}, taskstate.Status{}},
		{"no such task", taskstate.Assigned, Status{"n1", "u", running}, taskstate.Status{}},
		{"it has ended", taskstate.Complete, Status{"n1", "t", taskstate.Status{State: taskstate.Failed}}, taskstate.Status{}},
		{"it is orphaned", taskstate.Orphaned, Status{"n1", "t", running}, taskstate.Status{}},
		{"not yet assigned", taskstate.Pending, Status{"n1", "t", running}, taskstate.Status{}},
		{"state of the managers", taskstate.Assigned, Status{"n1", "t", taskstate.Status{State: taskstate.Assigned, Message: "x"}}, taskstate.Status{}},
		{"remove is not observed", taskstate.Running, Status{"n1", "t", taskstate.Status{State: taskstate.Remove}}, taskstate.Status{}},
		{"orphaned is not observed", taskstate.Running, Status{"n1", "t", taskstate.Status{State: taskstate.Orphaned}}, taskstate.Status{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := statetest.New(statetest.Task("t", "web", 1, "n1", statetest.Observed(tt.from)))
			changes := planStatuses(store.View(), []Status{tt.said})
			if (len(changes) > 0) != (tt.want.State != 0) {
				t.Fatalf("%d changes", len(changes))
			}
			if len(changes) == 0 {
				return
			}
			v := apply(t, store, changes)
			if diff := cmp.Diff(tt.want, v.Task("t").Status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if again := planStatuses(v, []Status{tt.said}); len(again) > 0 {
				t.Error("the same again is a change")
			}
		})
	}
}

func TestPlanStatusesTakesTheFurthestOfABatch(t *testing.T) {
	store := statetest.New(statetest.Task("t", "web", 1, "n1", statetest.Observed(taskstate.Assigned)))
	var batch []Status
	for _, s := range []taskstate.State{taskstate.Accepted, taskstate.Running, taskstate.Preparing} {
		batch = append(batch, Status{"n1", "t", taskstate.Status{State: s}})
	}
	v := apply(t, store, planStatuses(store.View(), batch))
	if got := v.Task("t").Status.State; got != taskstate.Running {
		t.Errorf("state %v, want running", got)
	}
}

func TestPlanNodesComesToRest(t *testing.T) {
	store := statetest.New(statetest.Node("n1", statetest.Down), statetest.Node("n2", statetest.Down), statetest.Node("n3"))
	opened := []Opened{{NodeID: "n1", Boot: "b1", Addr: "10.1.1.1:2377", Description: swarm.NodeDescription{Hostname: "new"}}, {NodeID: "gone", Boot: "x"}}
	plan := func() []state.Change {
		return planNodes(store.View(), opened, []Description{{"n3", swarm.NodeDescription{Hostname: "three"}}}, []string{"n2"}, epoch)
	}
	v := apply(t, store, plan())
	n1 := v.Node("n1")
	if n1.Status.State != swarm.NodeStateReady || n1.Status.Addr != "10.1.1.1" || n1.Addr != "10.1.1.1:2377" || n1.Boot != "b1" || n1.Description.Hostname != "new" {
		t.Errorf("n1: %+v", n1)
	}
	if v.Node("n2").Status.State != swarm.NodeStateReady || v.Node("n3").Description.Hostname != "three" {
		t.Errorf("n2: %+v, n3: %+v", v.Node("n2"), v.Node("n3"))
	}
	for id, want := range map[string]time.Time{"n1": epoch, "n2": epoch, "n3": {}} {
		if got := v.Node(id).ReturnedAt; !got.Equal(want) {
			t.Errorf("%s returned at %v, want %v", id, got, want)
		}
	}
	if again := plan(); len(again) > 0 {
		t.Errorf("%d changes the second time", len(again))
	}
}

func TestPlanNodesKeepsWhatIssuedTheCertificate(t *testing.T) {
	store := statetest.New(statetest.Node("n1", func(n *state.Node) { n.Description.TLSInfo.TrustRoot = "root" }))
	for _, plan := range [][]state.Change{
		planNodes(store.View(), []Opened{{NodeID: "n1", Description: swarm.NodeDescription{Hostname: "a"}}}, nil, nil, epoch),
		planNodes(store.View(), nil, []Description{{"n1", swarm.NodeDescription{Hostname: "b"}}}, nil, epoch),
	} {
		if d := apply(t, store, plan).Node("n1").Description; d.TLSInfo.TrustRoot != "root" || d.Hostname == "n1" {
			t.Errorf("description %+v", d)
		}
	}
}

func TestPlanNodesKeepsWhatIsNotSaid(t *testing.T) {
	store := statetest.New(statetest.Node("n1", func(n *state.Node) { n.Addr = "10.0.0.1:2377" }))
	v := apply(t, store, planNodes(store.View(), []Opened{{NodeID: "n1", Boot: "b"}}, nil, nil, epoch))
	if n := v.Node("n1"); n.Addr != "10.0.0.1:2377" || n.Status.Addr != "10.0.0.1" || n.Description.Hostname != "n1" {
		t.Errorf("n1: %+v", n)
	}
}

func TestPlanDownAndOrphans(t *testing.T) {
	store := statetest.New(statetest.Node("n1"), statetest.Node("n2"),
		statetest.Task("a", "web", 1, "n1"), statetest.Task("b", "web", 2, "n1", statetest.Observed(taskstate.Failed)),
		statetest.Task("c", "web", 3, "n2"), statetest.Task("d", "web", 4, "n9"))
	v := apply(t, store, planDown(store.View(), []string{"n1", "n9"}, epoch))
	if n := v.Node("n1"); n.Status.State != swarm.NodeStateDown || !n.DownSince.Equal(epoch) {
		t.Errorf("n1: %+v", n)
	}
	if again := planDown(v, []string{"n1"}, epoch.Add(time.Hour)); len(again) > 0 {
		t.Error("down again")
	}
	if early := planOrphans(v, epoch.Add(OrphanAfter-time.Second), 10); len(early) > 0 {
		t.Error("orphaned early")
	}
	v = apply(t, store, planOrphans(v, epoch.Add(OrphanAfter), 10))
	v = apply(t, store, planRemoved(v, v.Tasks(), epoch, 10))
	var got []string
	for tk := range v.Tasks() {
		got = append(got, fmt.Sprint(tk.ID, " ", tk.Status.State))
	}
	want := []string{"a orphaned", "b failed", "c running", "d orphaned"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	if again := append(planOrphans(v, epoch.Add(2*OrphanAfter), 10), planRemoved(v, v.Tasks(), epoch, 10)...); len(again) > 0 {
		t.Errorf("%d changes the second time", len(again))
	}
}

func TestNewsConcernOnlyTheirNodes(t *testing.T) {
	at := func(node string, s, desired taskstate.State) *state.Task {
		return statetest.Task("t", "web", 1, node, statetest.Observed(s), statetest.Desired(desired))
	}
	tests := []struct {
		name     string
		old, new *state.Task
		want     string
	}{
		{"assigned", at("", taskstate.Pending, taskstate.Running), at("n1", taskstate.Assigned, taskstate.Running), "n1 has t"},
		{"status only", at("n1", taskstate.Assigned, taskstate.Running), at("n1", taskstate.Running, taskstate.Running), ""},
		{"desired", at("n1", taskstate.Running, taskstate.Running), at("n1", taskstate.Running, taskstate.Shutdown), "n1 has t"},
		{"ended stays", at("n1", taskstate.Running, taskstate.Running), at("n1", taskstate.Failed, taskstate.Running), ""},
		{"orphaned", at("n1", taskstate.Running, taskstate.Running), at("n1", taskstate.Orphaned, taskstate.Running), "n1 drops t"},
		{"deleted", at("n1", taskstate.Failed, taskstate.Running), nil, "n1 drops t"},
		{"deleted before it had a node", at("", taskstate.Pending, taskstate.Running), nil, ""},
		{"created", nil, at("", taskstate.New, taskstate.Running), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := state.Event{}
			if tt.old != nil {
				e.Old = tt.old
			}
			if tt.new != nil {
				e.New = tt.new
			}
			got := ""
			for node, d := range newsOf([]state.Event{e}).deltas {
				for id, task := range d {
					verb := "has"
					if task == nil {
						verb = "drops"
					}
					got += node + " " + verb + " " + id
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestResumeSendsTheDifference(t *testing.T) {
	store := statetest.New(statetest.Task("a", "web", 1, "n1"), statetest.Task("b", "web", 2, "n1"))
	index := store.View().Index()
	store.Put(statetest.Task("b", "web", 2, "n1", statetest.Desired(taskstate.Shutdown)))
	store.Put(statetest.Task("c", "web", 3, "n1"))
	d := resume(store.View(), "n1", index, []string{"a", "b", "z"})
	line := assignment.Down{}
	d.write(store.View(), &line, map[specKey]bool{}, nil)
	var sent []string
	for _, task := range line.Tasks {
		sent = append(sent, task.ID)
	}
	if !cmp.Equal(sent, []string{"b", "c"}) || !cmp.Equal(line.Remove, []string{"z"}) {
		t.Errorf("sent %v, removed %v", sent, line.Remove)
	}
	// A task that the worker lost is sent however old it is.
	if d := resume(store.View(), "n1", store.View().Index(), []string{"b", "c"}); len(d) != 1 || d["a"] == nil {
		t.Errorf("after a loss: %v", d)
	}
}

func TestNodeAddr(t *testing.T) {
	tests := []struct{ advertised, remote, want string }{
		{"10.0.0.1:2377", "192.168.1.1:555", "10.0.0.1:2377"},
		{"host.example:2377", "192.168.1.1:555", "host.example:2377"},
		{":2377", "192.168.1.1:555", "192.168.1.1:2377"},
		{"0.0.0.0:2377", "[fd00::1]:555", "[fd00::1]:2377"},
		{":2377", "127.0.0.1:555", ""},
		{"", "192.168.1.1:555", ""},
		{":2377", "nonsense", ""},
	}
	for _, tt := range tests {
		if got := nodeAddr(tt.advertised, tt.remote); got != tt.want {
			t.Errorf("nodeAddr(%q, %q) = %q, want %q", tt.advertised, tt.remote, got, tt.want)
		}
	}
}
