package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
	"shoal/worker/assignment"
)

const (
	fabricNodes    = 4
	fabricNetworks = 3
	fabricServices = 4
)

func networkObject(id string, ingress bool) *state.Network {
	n := &state.Network{VNI: 4096}
	n.ID, n.Spec.Name, n.Spec.Ingress = id, id, ingress
	n.Pools = []state.Pool{{Subnet: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")}}
	return n
}

// drawChange is one random change of what the fabric is made of.
func drawChange(t *rapid.T, v *state.View) []state.Change {
	n := rapid.IntRange(0, 40).Draw(t, "which")
	node := fmt.Sprintf("n%d", rapid.IntRange(1, fabricNodes).Draw(t, "node"))
	network := fmt.Sprintf("net%d", rapid.IntRange(1, fabricNetworks).Draw(t, "network"))
	service := fmt.Sprintf("s%d", rapid.IntRange(1, fabricServices).Draw(t, "service"))
	switch {
	case n < 25:
		return drawTask(t, v, node, service)
	case n < 30:
		s, _ := statetest.Service(service, 1)
		if rapid.Bool().Draw(t, "publishes") {
			s.Spec.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishMode: "ingress"}}}
			s.Endpoint.Ports = []swarm.PortConfig{{Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "ingress"}}
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "networks") {
			s.Spec.TaskTemplate.Networks = append(s.Spec.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: fmt.Sprintf("net%d", 1+(i+len(service))%fabricNetworks)})
		}
		return []state.Change{state.Put(s)}
	case n < 31:
		return []state.Change{state.Delete(state.KindService, service)}
	case n < 34:
		o := statetest.Node(node)
		o.Addr = "192.0.2." + node[1:] + ":2377"
		o.MeshIndex = rapid.IntRange(0, 1).Draw(t, "index")
		if rapid.Bool().Draw(t, "down") {
			statetest.Down(o)
		}
		return []state.Change{state.Put(o)}
	case n < 35:
		return []state.Change{state.Delete(state.KindNetwork, network)}
	case n < 37:
		return []state.Change{state.Put(networkObject(network, false))}
	case n < 38:
		if rapid.Bool().Draw(t, "ingress") {
			return []state.Change{state.Put(networkObject("ingress", true))}
		}
		return []state.Change{state.Delete(state.KindNetwork, "ingress")}
	default:
		id := fmt.Sprintf("a%d", rapid.IntRange(1, 3).Draw(t, "attachment"))
		if v.Attachment(id) != nil && rapid.Bool().Draw(t, "detach") {
			return []state.Change{state.Delete(state.KindAttachment, id)}
		}
		return []state.Change{state.Put(&state.Attachment{ID: id, NetworkID: network, NodeID: node, Name: id, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.9/24")}})}
	}
}

func drawTask(t *rapid.T, v *state.View, node, service string) []state.Change {
	id := fmt.Sprintf("t%d", rapid.IntRange(1, 8).Draw(t, "task"))
	if rapid.IntRange(0, 9).Draw(t, "delete") == 0 {
		return []state.Change{state.Delete(state.KindTask, id)}
	}
	task := statetest.Task(id, service, 1, node)
	if old := v.Task(id); old != nil {
		c := *old // a task keeps its node, service and networks
		task = &c
	} else {
		for i := range rapid.IntRange(0, fabricNetworks).Draw(t, "on") {
			task.Networks = append(task.Networks, state.TaskNetwork{NetworkID: fmt.Sprintf("net%d", i+1), Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.5/24")}})
		}
		if rapid.Bool().Draw(t, "published") {
			task.Networks = append(task.Networks, state.TaskNetwork{NetworkID: "ingress"})
		}
	}
	states := []taskstate.State{taskstate.Pending, taskstate.Assigned, taskstate.Starting, taskstate.Running, taskstate.Failed}
	task.Status.State = rapid.SampledFrom(states).Draw(t, "state")
	task.Desired = rapid.SampledFrom([]taskstate.State{taskstate.Running, taskstate.Shutdown}).Draw(t, "desired")
	return []state.Change{state.Put(task)}
}

// TestWhatIsSentAddsUpToWhatThereIs: however changes come together in lines,
// and whenever sessions begin, a node knows what it would be told from nothing.
func TestWhatIsSentAddsUpToWhatThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := statetest.New(networkObject("ingress", true))
		for i := range fabricNodes {
			n := statetest.Node(fmt.Sprintf("n%d", i+1))
			n.Addr = fmt.Sprintf("192.0.2.%d:2377", i+1)
			store.Put(n)
		}
		for i := range fabricServices { // no task is there before its revision
			_, r := statetest.Service(fmt.Sprintf("s%d", i+1), 1)
			store.Put(r)
		}
		d, err := New(Config{NodeID: "m", Store: store, Identity: unknown, Forward: nowhere})
		if err != nil {
			t.Fatal(err)
		}
		d.hub.open(store.View())
		known, sessions := map[string]assignment.Known{}, map[string]*session{}
		begin := func(node string) {
			s := d.newSession(context.Background(), node, "worker", assignment.Hello{Boot: "b"})
			if err := d.hub.attach(context.Background(), s); err != nil {
				t.Fatal(err)
			}
			sessions[node] = s
		}
		read := func(node string) {
			if f := d.hub.take(sessions[node]).Fabric; f != nil {
				known[node] = known[node].With(*f)
			}
		}
		for i := range fabricNodes {
			begin(fmt.Sprintf("n%d", i+1))
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			node := fmt.Sprintf("n%d", rapid.IntRange(1, fabricNodes).Draw(t, "who"))
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				begin(node)
			case 1, 2:
				read(node)
			case 3:
				d.hub.advance(store.View())
			default:
				store.Apply(drawChange(t, store.View())...)
			}
		}
		d.hub.advance(store.View())
		for node := range sessions {
			read(node)
			on := ids{}
			for id := range networksOfNode(store.View(), node) {
				on[id] = true
			}
			want := assignment.Known{}.With(*fabricMail{full: true}.render(store.View(), on))
			if diff := cmp.Diff(want, known[node], cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Fatalf("%s knows (-from nothing +from changes):\n%s", node, diff)
			}
		}
	})
}

func TestAStepOfATasksStartTellsNobody(t *testing.T) {
	task := statetest.Task("t", "web", 1, "n1", statetest.Observed(taskstate.Assigned))
	task.Networks = []state.TaskNetwork{{NetworkID: "net1"}}
	store := statetest.New(statetest.Node("n1"), statetest.Node("n2"), networkObject("net1", false), task)
	d := newDispatcher(t, store, nil)
	d.hub.open(store.View())
	s := attached(t, d, "n1")
	next := *task
	next.Status.State = taskstate.Preparing
	store.Put(&next)
	d.hub.advance(store.View())
	if line := d.hub.take(s); line.Fabric != nil {
		t.Errorf("a task that is being prepared changes what is known of it: %+v", line.Fabric)
	}
}

// TestATaskMayStopOnceAllNodesKnow: the nodes on its network, and no others.
func TestATaskMayStopOnceAllNodesKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		on := func(id, node string) *state.Task {
			task := statetest.Task(id, "web", 1, node)
			task.Networks = []state.TaskNetwork{{NetworkID: "net1"}}
			return task
		}
		store := statetest.New(statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3"), statetest.Node("n4", statetest.Down), networkObject("net1", false),
			on("t1", "n1"), on("t2", "n2"), on("t4", "n4"))
		d := newDispatcher(t, store, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		synctest.Wait()
		report := func(list ...Applied) {
			if _, err := d.Report(ctx, Batch{ManagerID: "m", Applied: list}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		report(Applied{"n1", "b", store.View().Index()}, Applied{"n2", "b", store.View().Index()})
		leaving := on("t1", "n1")
		leaving.Desired = taskstate.Shutdown
		store.Put(leaving)
		at := store.View().Index()
		synctest.Wait()
		withdrawn := func() bool { return store.View().Task("t1").Withdrawn }
		if withdrawn() {
			t.Error("withdrawn before any node knows")
		}
		report(Applied{"n1", "b", at}, Applied{"n2", "b", at - 1}, Applied{"n3", "b", at})
		if withdrawn() {
			t.Error("withdrawn before n2 knows")
		}
		report(Applied{"n2", "b", at})
		if !withdrawn() {
			t.Error("not withdrawn once n1 and n2 know; n3 is not on the network, n4 is down")
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.Sleep(time.Second)
	})
}

func unknown(*http.Request) (nodeID, role string, ok bool)    { return "", "", false }
func nowhere(context.Context, Batch) (answer Answer, _ error) { return answer, errNotLeading }
