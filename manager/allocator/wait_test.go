package allocator

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// loop is an allocator that a test turns by hand.
func loop(t *testing.T, store Store) (turn func() *term, gathered func() map[string]float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	a, err := New(Config{Store: store, Log: slog.New(slog.DiscardHandler), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	tm := newTerm()
	turn = func() *term {
		t.Helper()
		for tm.note(store.View()); len(tm.take().items) > 0; tm.note(store.View()) {
			if err := a.work(t.Context(), tm); err != nil {
				t.Fatal(err)
			}
		}
		a.metrics.show(store.View(), tm)
		return tm
	}
	return turn, func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := strings.TrimPrefix(f.GetName(), "shoal_allocator_")
				for _, label := range m.GetLabel() {
					name += " " + label.GetValue()
				}
				values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return values
	}
}

// What a free address costs does not depend on how many wait for one.
func TestOneAddressWakesOneTask(t *testing.T) {
	s, r := statetest.Service("web", 9, on("tiny"))
	store := statetest.New(subnetOf("tiny", "10.1.0.0/29"), s, r)
	for i := range 300 {
		store.Put(newTask(fmt.Sprintf("t%03d", i), "web"))
	}
	turn, gathered := loop(t, store)
	tm := turn()
	if n := len(tm.waits.of); n != 296 {
		t.Fatalf("%d tasks wait, want all but 4", n)
	}
	first := *store.View().Task("t000")
	first.Status.State = taskstate.Failed
	store.Put(&first)
	tm.note(store.View())
	w := tm.take()
	out := plan(store.View(), w, bygone(), chunk)
	if len(w.items) != 1 || len(out.tasks) != 2 || out.tasks["t004"] != "" {
		t.Errorf("%d items, tasks looked at: %v, want the next one served and one that finds nothing left", len(w.items), out.tasks)
	}
	turn()
	store.Put(newTask("late", "web"))
	tm.note(store.View())
	if out := plan(store.View(), tm.take(), bygone(), chunk); len(out.tasks) != 1 || out.tasks["late"] != "tiny" {
		t.Errorf("a new task on a full network: %v", out.tasks)
	}
	turn()
	want := map[string]float64{
		"addresses_used ipv4 tiny": 5, "addresses_usable ipv4 tiny": 5, "waiting task": 296, "full_networks": 1,
		"given_total task": 5, "given_total service": 1,
	}
	got := gathered()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %v, want %v", name, got[name], want[name])
		}
	}
}

func TestQueueGoesOnInTheNextUpdate(t *testing.T) {
	s, r := statetest.Service("web", 9, on("gone"))
	store := statetest.New(s, r)
	for i := range 20 {
		store.Put(newTask(fmt.Sprintf("t%03d", i), "web"))
	}
	turn, _ := loop(t, store)
	turn()
	store.Put(subnetOf("gone", "10.1.0.0/24"))
	tm := newTerm()
	tm.note(store.View())
	for tm.note(store.View()); len(tm.take().items) > 0; tm.note(store.View()) {
		w := tm.take()
		out := plan(store.View(), w, bygone(), 3)
		if len(out.changes) > 4 {
			t.Fatalf("%d changes in one update", len(out.changes))
		}
		store.Apply(out.changes...)
		tm.settle(w, out)
	}
	for task := range store.View().TasksNew() {
		t.Errorf("task %s is left: %+v", task.ID, task.Status)
	}
}

// A rollback of the orchestrator may ask for a port that is somebody else's by
// now. The tasks wait for it, and not without their service's address.
func TestTasksWaitForTheEndpointOfTheirService(t *testing.T) {
	owner, ownerRev := statetest.Service("owner", 1, publish(8080))
	store := statetest.New(ingress(), subnetOf("net", "10.1.0.0/24"), owner, ownerRev)
	turn, _ := loop(t, store)
	turn()
	s, r := statetest.Service("web", 1, publish(8080), on("net"))
	store.Put(s, r, newTask("t1", "web"))
	turn()
	task := store.View().Task("t1")
	if task.Status.State != taskstate.New || !strings.Contains(task.Status.Err, "service web: port '8080' is already in use by service 'owner' (owner) as an ingress port") {
		t.Errorf("while the port is taken: %+v", task.Status)
	}
	store.Apply(state.Delete(state.KindService, "owner"))
	turn()
	task, web := store.View().Task("t1"), store.View().Service("web")
	if task.Status.State != taskstate.Pending || task.Status.Err != "" || len(task.Networks) != 2 || len(web.Endpoint.VirtualIPs) != 2 {
		t.Errorf("once it is free: %+v, endpoint %+v", task, web.Endpoint)
	}
}

func TestTaskThatNeverRunsGivesItsAddressBack(t *testing.T) {
	s, r := statetest.Service("web", 1, on("net"))
	store := statetest.New(subnetOf("net", "10.1.0.0/24"), s, r, newTask("t1", "web"))
	turn, _ := loop(t, store)
	turn()
	task := *store.View().Task("t1")
	addr := task.Networks[0].Addrs[0].Addr()
	task.Desired = taskstate.Shutdown
	store.Put(&task)
	turn()
	if got := store.View().Task("t1"); len(got.Networks) > 0 || store.View().AddrUsed(addr) {
		t.Errorf("it keeps %v", got.Networks)
	}
}

func TestEndpointFollowsFromTheSpec(t *testing.T) {
	dual := networks()["both"]
	objs := []state.Object{ingress(), dual, networks()["small"]}
	vips := func(e swarm.Endpoint) (text string) {
		for _, vip := range e.VirtualIPs {
			if vip.NetworkID == dual.ID || vip.NetworkID == "small" {
				text += " " + vip.Addr
			} else {
				text += " ingress " + vip.Addr
			}
		}
		return strings.TrimSpace(text)
	}
	host := func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{Mode: "vip", Ports: []swarm.PortConfig{{Protocol: "tcp", TargetPort: 1, PublishMode: "host"}}}
	}
	dnsrr := func(s *swarm.ServiceSpec) { s.EndpointSpec = &swarm.EndpointSpec{Mode: "dnsrr"} }
	for name, c := range map[string]struct {
		spec  []func(*swarm.ServiceSpec)
		vips  string
		mode  swarm.ResolutionMode
		ports int
	}{
		"nothing":                  {nil, "", "", 0},
		"host port":                {[]func(*swarm.ServiceSpec){host}, "", "vip", 1},
		"ingress port":             {[]func(*swarm.ServiceSpec){publish(80)}, "ingress 10.0.0.2/24", "vip", 1},
		"one for each family":      {[]func(*swarm.ServiceSpec){on("both")}, "10.1.1.2/27 fd01::2/124", "vip", 0},
		"in the order of the spec": {[]func(*swarm.ServiceSpec){on("small", "both"), publish(80, 0)}, "ingress 10.0.0.2/24 10.1.0.2/29 10.1.1.2/27 fd01::2/124", "vip", 2},
		"dnsrr":                    {[]func(*swarm.ServiceSpec){on("both"), dnsrr}, "", "dnsrr", 0},
		"predefined":               {[]func(*swarm.ServiceSpec){on("host")}, "", "", 0},
	} {
		s, _ := statetest.Service("web", 1, c.spec...)
		e, err := Endpoint(statetest.View(objs...), s)
		if err != nil || vips(e) != c.vips || e.Spec.Mode != c.mode || len(e.Ports) != c.ports {
			t.Errorf("%s: %+v, err %v", name, e, err)
		}
		s.Endpoint = e
		if again, err := Endpoint(statetest.View(append(objs, s)...), s); err != nil || vips(again) != c.vips {
			t.Errorf("%s, again: %+v, err %v", name, again, err)
		}
		s.Spec.EndpointSpec, s.Spec.TaskTemplate.Networks = nil, nil
		if none, err := Endpoint(statetest.View(append(objs, s)...), s); err != nil || len(none.VirtualIPs)+len(none.Ports) > 0 || none.Spec.Mode != "" {
			t.Errorf("%s, taken away: %+v, err %v", name, none, err)
		}
	}
}
