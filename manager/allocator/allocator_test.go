package allocator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// subnetOf makes a network with one pool.
func subnetOf(id, subnet string) *state.Network {
	p := netip.MustParsePrefix(subnet)
	n := &state.Network{VNI: uint32(5000 + len(id)), Pools: []state.Pool{{Subnet: p, Gateway: p.Addr().Next()}}}
	n.ID, n.Spec.Name = id, id
	return n
}

// on puts the tasks of a spec on networks.
func on(ids ...string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		for _, id := range ids {
			s.TaskTemplate.Networks = append(s.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: id})
		}
	}
}

func publish(ports ...uint32) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		e := &swarm.EndpointSpec{Mode: swarm.ResolutionModeVIP}
		for _, p := range ports {
			e.Ports = append(e.Ports, swarm.PortConfig{Protocol: "tcp", TargetPort: 80, PublishedPort: p, PublishMode: swarm.PortConfigPublishModeIngress})
		}
		s.EndpointSpec = e
	}
}

func ingress() *state.Network {
	return Ingress(netip.MustParsePrefix("10.0.0.0/8"), 24)
}

func newTask(id, service string) *state.Task { return statetest.Task(id, service, 1, "") }

// settled carries out all that a loop would do.
func settled(t *rapid.T, store *statetest.Store, tm *term) {
	for range 100 {
		tm.note(store.View())
		w := tm.take()
		if len(w.items) == 0 {
			return
		}
		out := plan(store.View(), w, time.Unix(1, 0).UTC(), 7)
		if len(out.changes) > 0 {
			store.Apply(out.changes...)
		}
		tm.settle(w, out)
	}
	t.Fatal("the allocator does not come to rest")
}

// check looks for what is given twice or lies outside of its pool.
func check(t *rapid.T, v *state.View) {
	owners := map[string]string{}
	claim := func(what, owner string) {
		if other, taken := owners[what]; taken && other != owner {
			t.Fatalf("%s is both %s's and %s's", what, other, owner)
		}
		owners[what] = owner
	}
	within := func(a netip.Prefix, network string) {
		n := v.Network(network)
		if n == nil {
			return // removed by force
		}
		for _, p := range n.Pools {
			if p.Subnet.Contains(a.Addr()) && a.Addr() != p.Gateway && a.Addr() != p.Subnet.Addr() && a.Addr() != highest(p.Subnet) {
				return
			}
		}
		t.Fatalf("%v is no address that network %s may give", a, network)
	}
	for task := range v.Tasks() {
		for _, n := range task.Networks {
			for _, a := range n.Addrs {
				within(a, n.NetworkID)
				if !task.Status.State.Terminal() {
					claim(a.Addr().String(), "task "+task.ID)
				}
			}
		}
	}
	for s := range v.Services() {
		for _, vip := range s.Endpoint.VirtualIPs {
			a := netip.MustParsePrefix(vip.Addr)
			within(a, vip.NetworkID)
			claim(a.Addr().String(), "service "+s.ID)
		}
		for _, p := range s.Endpoint.Ports {
			claim(fmt.Sprintf("port %d", p.PublishedPort), "service "+s.ID)
		}
	}
	for n := range v.Nodes() {
		if n.MeshIndex != 0 {
			claim(fmt.Sprintf("mesh %d", n.MeshIndex), n.ID)
			claim(n.Mesh[0].String(), n.ID)
		}
	}
}

func TestNothingIsGivenTwiceOrLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &state.Cluster{}
		c.ID, c.MeshPool = "c", netip.MustParsePrefix("10.252.0.0/21")
		small, large := subnetOf("small", "10.1.0.0/29"), subnetOf("large", "10.1.1.0/26")
		store := statetest.New(c, ingress(), small, large)
		tm := newTerm()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			service := fmt.Sprintf("s%d", rapid.IntRange(1, 4).Draw(t, "service"))
			task := fmt.Sprintf("t%d", rapid.IntRange(1, 12).Draw(t, "task"))
			node := fmt.Sprintf("n%d", rapid.IntRange(1, 10).Draw(t, "node"))
			v := store.View()
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				networks := rapid.SampledFrom([][]string{{"small"}, {"large"}, {"small", "large"}, {}}).Draw(t, "networks")
				ports := rapid.SliceOfN(rapid.SampledFrom([]uint32{0, 8080, 8081}), 0, 2).Draw(t, "ports")
				s, r := statetest.Service(service, 1, on(networks...), publish(ports...))
				if old := v.Service(service); old != nil {
					s.Endpoint = old.Endpoint
				}
				if e, err := Endpoint(v, s); err == nil {
					s.Endpoint = e
					store.Put(s, r)
				}
			case 2:
				store.Apply(state.Delete(state.KindService, service))
			case 3, 4, 5:
				if v.Task(task) == nil && v.Revision(service, 1) != nil {
					store.Put(newTask(task, service))
				}
			case 6:
				if old := v.Task(task); old != nil {
					next := *old
					next.Status.State = rapid.SampledFrom([]taskstate.State{max(old.Status.State, taskstate.Running), taskstate.Failed}).Draw(t, "state")
					if old.Status.State != taskstate.New || next.Status.State == taskstate.Failed {
						store.Put(&next)
					}
				}
			case 7:
				store.Apply(state.Delete(state.KindTask, task))
			case 8:
				if v.Node(node) == nil {
					store.Put(statetest.Node(node))
				} else {
					store.Apply(state.Delete(state.KindNode, node))
				}
			case 9:
				tm = newTerm() // another leader
			}
			if rapid.Bool().Draw(t, "work") {
				settled(t, store, tm)
			}
			check(t, store.View())
		}
		settled(t, store, tm)
		check(t, store.View())
		fresh := newTerm()
		fresh.note(store.View())
		if out := plan(store.View(), fresh.take(), time.Unix(1, 0).UTC(), chunk); len(out.changes) > 0 {
			t.Fatalf("another leader would change %d things", len(out.changes))
		}
		noLeaks(t, store)
	})
}

// noLeaks removes all that holds something: then everything must be free.
func noLeaks(t *rapid.T, store *statetest.Store) {
	for s := range store.View().Services() {
		store.Apply(state.Delete(state.KindService, s.ID))
	}
	for task := range store.View().Tasks() {
		store.Apply(state.Delete(state.KindTask, task.ID))
	}
	v := store.View()
	for n := range v.Networks() {
		for _, family := range families(n) {
			for i := range family[0].size {
				a := family[0].at(i)
				if v.AddrUsed(a) && a != n.Pools[0].Gateway {
					t.Fatalf("%v of network %s is held by nothing", a, n.ID)
				}
			}
		}
	}
}

func TestATaskWithoutAddressSaysWhyAndGetsTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := statetest.Service("web", 9, on("tiny"))
		store := statetest.New(subnetOf("tiny", "10.1.0.0/29"), s, r)
		a, err := New(Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		for i := range 5 { // a /29 has 6 addresses, less the gateway and the VIP
			store.Put(newTask(fmt.Sprintf("t%d", i), "web"))
			synctest.Wait()
			time.Sleep(time.Second)
		}
		var stuck *state.Task
		for task := range store.View().TasksNew() {
			stuck = task
		}
		if stuck == nil || !strings.Contains(stuck.Status.Err, "network tiny has no free IPv4 address: all 5 are in use") {
			t.Fatalf("the task that is left over: %+v", stuck)
		}
		first := *store.View().Task("t0")
		first.Status.State = taskstate.Failed
		store.Put(&first)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := store.View().Task(stuck.ID); got.Status.State != taskstate.Pending || got.Status.Err != "" {
			t.Errorf("once an address is free: %+v", got.Status)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestARestartedTaskKeepsItsReason(t *testing.T) {
	s, r := statetest.Service("web", 1, on("large"))
	next := newTask("t", "web")
	next.Status.Err = "restart 1 in 5s: task: non-zero exit (1)"
	store := statetest.New(subnetOf("large", "10.1.1.0/26"), s, r)
	tm := newTerm()
	tm.note(store.View())
	tm.take()
	store.Put(next)
	tm.note(store.View())
	out := plan(store.View(), tm.take(), time.Unix(1, 0), chunk)
	store.Apply(out.changes...)
	if got := store.View().Task("t").Status; got.State != taskstate.Pending || got.Err != next.Status.Err {
		t.Errorf("status %+v", got)
	}
}

func TestPortsAreRefusedWithTheirOwner(t *testing.T) {
	owner, _ := statetest.Service("web", 1, publish(8080))
	v := statetest.View(ingress())
	e, err := Endpoint(v, owner)
	if err != nil {
		t.Fatal(err)
	}
	owner.Endpoint = e
	v = statetest.View(ingress(), owner)
	rival, _ := statetest.Service("rival", 1, publish(8080))
	if _, err := Endpoint(v, rival); err == nil || !strings.Contains(err.Error(), "port '8080' is already in use by service 'web' (web) as an ingress port") {
		t.Errorf("a port that is taken: %v", err)
	}
	dynamic, _ := statetest.Service("dynamic", 1, publish(0, 0))
	e, err = Endpoint(v, dynamic)
	if err != nil || e.Ports[0].PublishedPort != firstDynamic || e.Ports[1].PublishedPort != firstDynamic+1 {
		t.Errorf("dynamic ports: %v, err %v", e.Ports, err)
	}
	dynamic.Endpoint = e
	dynamic.Spec.EndpointSpec.Ports = dynamic.Spec.EndpointSpec.Ports[:1]
	if again, err := Endpoint(v, dynamic); err != nil || again.Ports[0].PublishedPort != firstDynamic || len(again.VirtualIPs) != 1 || again.VirtualIPs[0] != e.VirtualIPs[0] {
		t.Errorf("after an update: %v, err %v, before %v", again, err, e)
	}
}

func BenchmarkOneTaskAmongMany(b *testing.B) {
	objects := []state.Object{subnetOf("wide", "10.64.0.0/14")}
	s, r := statetest.Service("web", 1, on("wide"))
	objects = append(objects, s, r)
	store := statetest.New(objects...)
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
		out := plan(v, worklist{[]item{{state.KindTask, "fresh"}}}, time.Unix(1, 0), chunk)
		if len(out.changes) != 1 {
			b.Fatal("no address")
		}
	}
}
