package allocator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// shaky is a store whose updates may fail, before or after they were made.
type shaky struct {
	*statetest.Store
	fail func() (before, after bool)
}

func (s shaky) Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error {
	before, after := s.fail()
	if before {
		return errors.New("the leader was lost")
	}
	if err := s.Store.Update(ctx, plan); err != nil {
		return err
	}
	if after {
		return errors.New("the leader was lost")
	}
	return nil
}

// life is what happens to a cluster whose allocator changes hands.
type life struct {
	*rapid.T
	store *statetest.Store
	term  *term
}

// lead lets a leader do all that there is to do. When it is lost on the way,
// the next one starts from nothing.
func (l *life) lead(steady bool) {
	a, err := New(Config{Log: slog.New(slog.DiscardHandler), Store: shaky{l.store, func() (bool, bool) {
		if steady {
			return false, false
		}
		n := rapid.IntRange(0, 9).Draw(l.T, "luck")
		return n == 0, n == 1
	}}})
	if err != nil {
		l.Fatal(err)
	}
	if !steady && rapid.IntRange(0, 4).Draw(l.T, "another") == 0 {
		l.term = newTerm()
	}
	for l.term.note(l.store.View()); len(l.term.take().items) > 0; l.term.note(l.store.View()) {
		if err := a.work(l.Context(), l.term); err != nil {
			l.term = newTerm()
			return
		}
	}
}

// networks are those that there may be: a tiny one, so that it fills up, and
// one with both families.
func networks() map[string]*state.Network {
	both := subnetOf("both", "10.1.1.0/27")
	v6 := netip.MustParsePrefix("fd01::/124")
	both.Pools = append(both.Pools, state.Pool{Subnet: v6, Gateway: v6.Addr().Next()})
	ranged := subnetOf("ranged", "10.1.2.0/24")
	ranged.Pools[0].Range = netip.MustParsePrefix("10.1.2.64/28")
	ranged.Pools[0].Reserved = []netip.Addr{netip.MustParseAddr("10.1.2.70")}
	return map[string]*state.Network{"small": subnetOf("small", "10.1.0.0/29"), "both": both, "ranged": ranged}
}

func (l *life) draw(prefix string, n int) string {
	return fmt.Sprintf("%s%d", prefix, rapid.IntRange(1, n).Draw(l.T, prefix))
}

func (l *life) network() {
	id := rapid.SampledFrom([]string{"small", "both", "ranged"}).Draw(l.T, "network")
	v := l.store.View()
	for range v.TasksOfNetwork(id) {
		return // in use, as the API has it
	}
	for range v.ServicesOfNetwork(id) {
		return
	}
	if v.Network(id) == nil {
		l.store.Put(networks()[id])
	} else {
		l.store.Apply(state.Delete(state.KindNetwork, id))
	}
}

// service makes or changes one: as the API does, or as the orchestrator when it
// rolls an update back, which knows nothing of endpoints.
func (l *life) service() {
	id, v := l.draw("s", 4), l.store.View()
	targets := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"small", "both", "ranged"}), 0, 2, rapid.ID).Draw(l.T, "on")
	ports := rapid.SliceOfN(rapid.SampledFrom([]uint32{0, 8080, 8081}), 0, 2).Draw(l.T, "ports")
	if len(ports) == 2 && ports[0] == ports[1] && ports[0] != 0 {
		ports = ports[:1]
	}
	s, r := statetest.Service(id, 1, on(targets...), publish(ports...))
	if rapid.Bool().Draw(l.T, "dnsrr") && len(ports) == 0 {
		s.Spec.EndpointSpec = &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR}
	}
	r.Spec = s.Spec
	if old := v.Service(id); old != nil {
		s.Endpoint = old.Endpoint
	}
	for old := range v.Revisions(id) {
		s.Revision = old.Number + 1
	}
	r.Number = s.Revision
	if rapid.Bool().Draw(l.T, "api") {
		e, err := Endpoint(v, s)
		if err != nil {
			return // refused
		}
		s.Endpoint = e
	}
	l.store.Put(s, r)
}

func (l *life) task() {
	id, v := l.draw("t", 14), l.store.View()
	old := v.Task(id)
	if old == nil {
		if s := v.Service(l.draw("s", 4)); s != nil {
			t := newTask(id, s.ID)
			t.Revision = s.Revision
			l.store.Put(t)
		}
		return
	}
	next := *old
	switch rapid.IntRange(0, 3).Draw(l.T, "fate") {
	case 0:
		next.Desired = taskstate.Shutdown
	case 1:
		next.Status.State = taskstate.Failed
	case 2:
		if old.Status.State == taskstate.Pending && old.Desired == taskstate.Running {
			next.Status.State, next.NodeID = taskstate.Running, "n1"
		}
	case 3:
		l.store.Apply(state.Delete(state.KindTask, id))
		return
	}
	l.store.Put(&next)
}

func (l *life) node() {
	id := l.draw("n", 10)
	if l.store.View().Node(id) == nil {
		l.store.Put(statetest.Node(id))
	} else {
		l.store.Apply(state.Delete(state.KindNode, id))
	}
}

// check looks for what is given twice or lies outside of its pool.
func (l *life) check() {
	v := l.store.View()
	owners := map[string]string{}
	claim := func(what, owner string) {
		if other, taken := owners[what]; taken {
			l.Fatalf("%s is both %s's and %s's", what, other, owner)
		}
		owners[what] = owner
	}
	for task := range v.Tasks() {
		for _, n := range task.Networks {
			if task.Status.State.Terminal() {
				continue
			}
			for _, a := range n.Addrs {
				l.within(a, n.NetworkID)
				claim(a.Addr().String(), "task "+task.ID)
			}
		}
	}
	for s := range v.Services() {
		for _, vip := range s.Endpoint.VirtualIPs {
			a := netip.MustParsePrefix(vip.Addr)
			if v.Network(vip.NetworkID) != nil { // else a rollback has left it
				l.within(a, vip.NetworkID)
			}
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
			claim(n.Mesh[1].String(), n.ID)
		}
	}
}

// within checks that a network may give an address.
func (l *life) within(a netip.Prefix, network string) {
	for _, p := range l.store.View().Network(network).Pools {
		s := spaceOf(p)
		if s.has(a.Addr()) && !s.special(a.Addr()) && a.Addr() != p.Gateway && !slices.Contains(p.Reserved, a.Addr()) && a.Bits() == p.Subnet.Bits() {
			return
		}
	}
	l.Fatalf("%v is no address that network %s may give", a, network)
}

// rested checks that nobody waits who could have what it needs, that those who
// wait say so, and that another leader would change nothing.
func (l *life) rested() {
	v := l.store.View()
	for t := range v.TasksNew() {
		if t.Desired < taskstate.Shutdown && (t.Status.Message != MessageWaiting || t.Status.Err == "") {
			l.Fatalf("task %s waits and does not say for what: %+v", t.ID, t.Status)
		}
		if w := maps.Collect(maps.All(l.term.waits.of)); t.Desired < taskstate.Shutdown && w[t.ID] == "" {
			l.Fatalf("task %s is forgotten", t.ID)
		}
	}
	for t := range v.TasksPending() {
		if calledOff(t) && len(t.Networks) > 0 {
			l.Fatalf("task %s, which never runs, keeps %v", t.ID, t.Networks)
		}
	}
	fresh := newTerm()
	fresh.note(v)
	for _, c := range plan(v, fresh.take(), bygone(), chunk).changes {
		t, ok := c.Object().(*state.Task)
		if !ok || t.Status.State != taskstate.New { // it may choose other words
			l.Fatalf("another leader would change %s %s: %+v; this one knows %+v, full %v", c.Kind(), c.Key(), c.Object(), *l.term.waits, l.term.full)
		}
	}
	for id, f := range fresh.usage.used {
		if got := l.term.usage.used[id]; got == nil || *got != *f {
			l.Fatalf("%+v addresses of network %s are in use, counted: %+v", *f, id, got)
		}
	}
}

// noLeaks removes all that holds something: then everything must be free.
func (l *life) noLeaks() {
	for s := range l.store.View().Services() {
		l.store.Apply(state.Delete(state.KindService, s.ID))
	}
	for t := range l.store.View().Tasks() {
		l.store.Apply(state.Delete(state.KindTask, t.ID))
	}
	for n := range l.store.View().Nodes() {
		l.store.Apply(state.Delete(state.KindNode, n.ID))
	}
	l.lead(true)
	v := l.store.View()
	for n := range v.Networks() {
		for _, p := range n.Pools {
			s := spaceOf(p)
			for i := range s.size {
				if a := s.at(i); v.AddrUsed(a) && a != p.Gateway && !slices.Contains(p.Reserved, a) {
					l.Fatalf("%v of network %s is held by nothing", a, n.ID)
				}
			}
		}
	}
	if len(l.term.waits.of)+len(l.term.waits.queue)+len(l.term.waits.alive)+len(l.term.stuck)+len(l.term.usage.used) > 0 {
		l.Fatalf("the loop remembers %+v, stuck %v, used %v", *l.term.waits, l.term.stuck, l.term.usage.used)
	}
}

func TestNothingIsGivenTwiceOrLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &state.Cluster{}
		c.ID, c.MeshPool = "c", netip.MustParsePrefix("10.252.0.0/21")
		l := &life{T: rt, store: statetest.New(c, ingress()), term: newTerm()}
		for _, n := range networks() {
			l.store.Put(n)
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"network", "service", "service", "remove", "task", "task", "task", "task", "node", "node"}).Draw(rt, "step") {
			case "network":
				l.network()
			case "service":
				l.service()
			case "remove":
				l.store.Apply(state.Delete(state.KindService, l.draw("s", 4)))
			case "task":
				l.task()
			case "node":
				l.node()
			}
			if rapid.Bool().Draw(rt, "work") {
				l.lead(false)
			}
			l.check()
		}
		l.lead(true)
		l.check()
		l.rested()
		l.noLeaks()
	})
}
