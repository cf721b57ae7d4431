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

// bygone is a time for plans that are not asked for one.
func bygone() time.Time { return time.Unix(1, 0).UTC() }

func newTask(id, service string) *state.Task { return statetest.Task(id, service, 1, "") }

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
	out := plan(store.View(), tm.take(), bygone(), chunk)
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
