package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func holding(serviceID string, n int, nodeID string) (tasks []state.Object) {
	for i := range n {
		tasks = append(tasks, statetest.Task(fmt.Sprintf("%s-%s-%d", serviceID, nodeID, i), serviceID, i+1, nodeID))
	}
	return tasks
}

func advise(v *state.View) []Advice {
	_, advice := Examine(v, v.Task("web.001"), time.Now())
	return advice
}

func memoryOf(bytes int64) func(*state.Node) {
	return func(n *state.Node) { n.Description.Resources.MemoryBytes = bytes }
}

func logDriver(name string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.LogDriver = &swarm.Driver{Name: name} }
}

func TestAdvice(t *testing.T) {
	arm := func(n *state.Node) { n.Description.Platform.Architecture = "aarch64" }
	constrained := func(c ...string) func(*swarm.ServiceSpec) { return place(swarm.Placement{Constraints: c}) }
	for name, c := range map[string]struct {
		spec func(*swarm.ServiceSpec)
		objs []state.Object
		want []Advice
	}{
		"no nodes": {spec: reserve(0, 1)},
		"a label is missing": {
			constrained("node.labels.zone == a"),
			[]state.Object{statetest.Node("n1"), statetest.Node("n2"), statetest.Task("busy", "other", 1, "n1")},
			[]Advice{
				{Steps: []Step{{Kind: AddLabel, NodeID: "n2", Key: "zone", Value: "a"}}, NodeID: "n2"}, // it has fewer tasks
				{Steps: []Step{{Kind: DropConstraint, Value: "node.labels.zone == a"}}, NodeID: "n2", Nodes: 2},
			},
		},
		"a label is in the way": {
			constrained("node.labels.zone != a"),
			[]state.Object{statetest.Node("n1", statetest.Label("zone", "A"))},
			[]Advice{
				{Steps: []Step{{Kind: RemoveLabel, NodeID: "n1", Key: "zone"}}, NodeID: "n1"},
				{Steps: []Step{{Kind: DropConstraint, Value: "node.labels.zone != a"}}, NodeID: "n1", Nodes: 1},
			},
		},
		"nothing but the constraint can go": {
			constrained("node.hostname == n9"),
			[]state.Object{statetest.Node("n1")},
			[]Advice{{Steps: []Step{{Kind: DropConstraint, Value: "node.hostname == n9"}}, NodeID: "n1", Nodes: 1}},
		},
		"one label cannot be two": {
			constrained("node.labels.zone == a", "node.labels.zone == b"),
			[]state.Object{statetest.Node("n1", statetest.Label("zone", "a"))},
			[]Advice{
				{Steps: []Step{{Kind: DropConstraint, Value: "node.labels.zone == b"}}, NodeID: "n1", Nodes: 1},
			},
		},
		"one label meets two constraints": {
			constrained("node.labels.zone == a", "node.labels.zone != b"),
			[]state.Object{statetest.Node("n1", statetest.Label("zone", "b"))},
			[]Advice{{Steps: []Step{{Kind: AddLabel, NodeID: "n1", Key: "zone", Value: "a"}}, NodeID: "n1"}},
		},
		"memory": {
			reserve(0, 9<<30),
			[]state.Object{statetest.Node("n1"), statetest.Node("n2", memoryOf(4<<30)), statetest.Node("n3", statetest.Drained, memoryOf(16<<30))},
			[]Advice{
				{Steps: []Step{{Kind: Activate, NodeID: "n3"}}, NodeID: "n3"},
				{Steps: []Step{{Kind: LowerMemory, Amount: 8 << 30, Was: 9 << 30, Free: 8 << 30}}, NodeID: "n1", Nodes: 1},
			},
		},
		"memory is short everywhere": {
			reserve(0, 1<<30),
			[]state.Object{statetest.Node("n1", memoryOf(3<<20))},
			[]Advice{{Steps: []Step{{Kind: LowerMemory, Was: 1 << 30, Free: 3 << 20}}, NodeID: "n1", Nodes: 1}},
		},
		"CPUs":    {reserve(6e9, 0), []state.Object{statetest.Node("n1")}, []Advice{{Steps: []Step{{Kind: LowerCPU, Amount: 4e9, Was: 6e9, Free: 4e9}}, NodeID: "n1", Nodes: 1}}},
		"generic": {wantGeneric("gpu", 3), []state.Object{statetest.Node("n1", resourcesOf("gpu", 2))}, []Advice{{Steps: []Step{{Kind: LowerGeneric, Key: "gpu", Amount: 2, Was: 3, Free: 2}}, NodeID: "n1", Nodes: 1}}},
		"replicas": {
			place(swarm.Placement{MaxReplicas: 1}),
			slices.Concat([]state.Object{statetest.Node("n1"), statetest.Node("n2")}, holding("web", 2, "n1"), holding("web", 1, "n2")),
			[]Advice{{Steps: []Step{{Kind: RaiseMaxReplicas, Amount: 2, Was: 1}}, NodeID: "n2", Nodes: 1}},
		},
		"a port": {
			hostPortSpec(80), slices.Concat([]state.Object{statetest.Node("n1")}, service("proxy", hostPortSpec(80)), holding("proxy", 1, "n1")),
			[]Advice{{Steps: []Step{{Kind: ChangePort, Key: "tcp", Amount: 80, Holders: []string{"proxy"}}}, NodeID: "n1", Nodes: 1}},
		},
		"a plugin": {
			logDriver("loki"),
			[]state.Object{statetest.Node("n1", plugins(swarm.PluginDescription{Type: "Log", Name: "json-file"}))},
			[]Advice{{Steps: []Step{{Kind: AddPlugin, NodeID: "n1", Key: "Log", Value: "loki"}}, NodeID: "n1"}},
		},
		"the platform": {
			place(swarm.Placement{Platforms: []swarm.Platform{{OS: "linux", Architecture: "amd64"}}}),
			[]state.Object{statetest.Node("n1", arm)},
			[]Advice{{Steps: []Step{{Kind: ChangeImage, Value: "linux/arm64"}}, NodeID: "n1", Nodes: 1}},
		},
		"a node that is down": {
			func(*swarm.ServiceSpec) {},
			[]state.Object{statetest.Node("n1", statetest.Down)},
			[]Advice{{Steps: []Step{{Kind: Revive, NodeID: "n1"}}, NodeID: "n1"}},
		},
		"two things at once": {
			func(s *swarm.ServiceSpec) { reserve(0, 9<<30)(s); constrained("node.labels.ssd == yes")(s) },
			[]state.Object{statetest.Node("n1")},
			[]Advice{
				{Steps: []Step{{Kind: LowerMemory, Amount: 8 << 30, Was: 9 << 30, Free: 8 << 30}, {Kind: AddLabel, NodeID: "n1", Key: "ssd", Value: "yes"}}, NodeID: "n1"},
				{Steps: []Step{{Kind: LowerMemory, Amount: 8 << 30, Was: 9 << 30, Free: 8 << 30}, {Kind: DropConstraint, Value: "node.labels.ssd == yes"}}, NodeID: "n1", Nodes: 1},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := storeOf(c.objs, service("web", c.spec), pending("web", 1)).View()
			if diff := gocmp.Diff(c.want, advise(v)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestExamineSaysAllThatIsAmiss(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1", memoryOf(1<<30), statetest.Drained), statetest.Node("n2"), statetest.Node("n3")},
		service("web", reserve(0, 2<<30), place(swarm.Placement{Constraints: []string{"node.labels.zone==a", "node.hostname!=n2"}})),
		service("fat", reserve(0, 3<<30)), holding("fat", 1, "n1"), pending("web", 1))
	got, _ := Examine(store.View(), store.View().Task("web.001"), time.Now())
	zone, host := Step{Kind: DropConstraint, Value: "node.labels.zone==a"}, Step{Kind: DropConstraint, Value: "node.hostname!=n2"}
	want := []Refusal{
		{NodeID: "n1", Steps: []Step{{Kind: Activate, NodeID: "n1"}, {Kind: LowerMemory, Was: 2 << 30, Free: -2 << 30}, zone}},
		{NodeID: "n2", Steps: []Step{zone, host}},
		{NodeID: "n3", Steps: []Step{zone}},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if refusals, advice := Examine(store.View(), &state.Task{ServiceID: "gone"}, time.Now()); refusals != nil || advice != nil {
		t.Errorf("of a service that is gone: %v, %v", refusals, advice)
	}
}

func TestAdviceForTheTaskOfANodeIsAboutThatNode(t *testing.T) {
	store := storeOf([]state.Object{statetest.Node("n1", memoryOf(1<<30)), statetest.Node("n2")}, service("web", reserve(0, 2<<30)),
		pending("web", 1, func(t *state.Task) { t.NodeID, t.Slot = "n1", 0 }))
	want := []Advice{{Steps: []Step{{Kind: LowerMemory, Amount: 1 << 30, Was: 2 << 30, Free: 1 << 30}}, NodeID: "n1"}}
	if diff := gocmp.Diff(want, advise(store.View())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever keeps a task from being placed: what is advised places it, and no
// part of it alone does.
func TestAdviceHelps(t *testing.T) {
	helped := 0
	rapid.Check(t, func(t *rapid.T) {
		objs := drawStuck(t)
		store := statetest.New(objs...)
		where := settle(t, store, "web")["web.001"]
		v := store.View()
		if v.Node(where) != nil {
			return // it fits
		}
		advice := advise(v)
		if diff := gocmp.Diff(advice, advise(v)); diff != "" {
			t.Fatalf("the second time it is other advice:\n%s", diff)
		}
		for _, a := range advice {
			if got := placedAfter(t, objs, a.Steps); got == "" || a.Nodes == 0 && got != a.NodeID {
				t.Fatalf("%+v places it on %q", a, got)
			}
			for i := range a.Steps {
				if part := slices.Delete(slices.Clone(a.Steps), i, i+1); placedAfter(t, objs, part) != "" {
					t.Fatalf("%+v: %+v is enough", a, part)
				}
			}
			helped++
		}
	})
	if helped == 0 {
		t.Error("no advice in any run")
	}
}

// drawStuck is a cluster and a task that most often fits nowhere.
func drawStuck(t *rapid.T) []state.Object {
	zone := rapid.SampledFrom([]string{"a", "b", "c"})
	objs := service("web", func(s *swarm.ServiceSpec) {
		if rapid.Bool().Draw(t, "reserves") {
			reserve(rapid.Int64Range(0, 6).Draw(t, "cpu")*1e9, rapid.Int64Range(0, 12).Draw(t, "memory")<<30)(s)
		}
		p := swarm.Placement{MaxReplicas: rapid.SampledFrom([]uint64{0, 1, 2}).Draw(t, "limit")}
		for range rapid.IntRange(0, 2).Draw(t, "constraints") {
			p.Constraints = append(p.Constraints, rapid.SampledFrom([]string{"node.labels.zone==", "node.labels.zone!=", "node.labels.disk==", "node.hostname!="}).Draw(t, "constraint")+zone.Draw(t, "zone"))
		}
		p.Platforms = rapid.SampledFrom([][]swarm.Platform{nil, {{OS: "linux", Architecture: "arm64"}}}).Draw(t, "platforms")
		s.TaskTemplate.Placement = &p
		if rapid.Bool().Draw(t, "port") {
			hostPortSpec(80, 81)(s)
		}
		logDriver(rapid.SampledFrom([]string{"", "loki"}).Draw(t, "driver"))(s)
	})
	objs = append(objs, service("other", reserve(1e9, 3<<30), hostPortSpec(80))...)
	objs = append(objs, pending("web", 1)...)
	for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		id := fmt.Sprintf("n%d", i)
		objs = append(objs, statetest.Node(id, statetest.Label("zone", zone.Draw(t, "zone")), plugins(swarm.PluginDescription{Type: "Log", Name: "json-file"}),
			memoryOf(rapid.Int64Range(1, 12).Draw(t, "memory")<<30), func(n *state.Node) {
				n.Spec.Availability = rapid.SampledFrom([]swarm.NodeAvailability{swarm.NodeAvailabilityActive, swarm.NodeAvailabilityDrain, swarm.NodeAvailabilityPause}).Draw(t, "availability")
				n.Status.State = rapid.SampledFrom([]swarm.NodeState{swarm.NodeStateReady, swarm.NodeStateReady, swarm.NodeStateDown}).Draw(t, "state")
			}))
		objs = append(objs, holding("other", rapid.IntRange(0, 3).Draw(t, "others"), id)...)
		objs = append(objs, holding("web", rapid.IntRange(0, 2).Draw(t, "own"), id)...)
	}
	return objs
}

// placedAfter makes the changes to the objects, and returns where a round puts
// the task then; empty: nowhere.
func placedAfter(t *rapid.T, objs []state.Object, steps []Step) string {
	var scratch swarm.ServiceSpec
	changed := slices.Clone(objs)
	for i, o := range changed {
		switch o := o.(type) {
		case *state.Node:
			n := *o
			for _, s := range steps {
				if s.NodeID == n.ID {
					s.Apply(&n, &scratch)
				}
			}
			changed[i] = &n
		case *state.Revision:
			r := *o
			for _, s := range steps {
				if s.NodeID == "" && r.ServiceID == "web" {
					s.Apply(&state.Node{}, &r.Spec)
				}
			}
			changed[i] = &r
		}
	}
	store := statetest.New(changed...)
	where := settle(t, store, "web")["web.001"]
	if store.View().Node(where) == nil {
		return ""
	}
	return where
}
