package enginetest

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shoal/internal/id"
	"shoal/worker/engine"
)

// pool is where the networks of tests are: nobody else's, it is to be hoped.
const pool = "10.213.200.0/22"

// networkSpec is a network of this run in a /26 of the pool; none of its
// addresses is the engine's to give.
func (s suite) networkSpec(subnet netip.Prefix) engine.NetworkSpec {
	gateway := subnet.Addr().Next()
	return engine.NetworkSpec{
		Name: "enginetest." + id.New(), Bridge: "shwt" + id.New()[:10], Internal: true, MTU: 1410,
		Labels: map[string]string{label: s.run},
		Subnets: []engine.Subnet{{
			Prefix: subnet, Gateway: gateway, Range: netip.PrefixFrom(gateway, 32), Reserved: []netip.Addr{subnet.Addr().Next().Next()},
		}},
	}
}

// network makes a network in the first /26 of the pool that is free.
func (s suite) network(t *testing.T, change func(*engine.NetworkSpec)) engine.Network {
	t.Helper()
	in := netip.MustParsePrefix(pool)
	for a := in.Addr(); in.Contains(a); a = after(a, 64) {
		spec := s.networkSpec(netip.PrefixFrom(a, 26))
		if change != nil {
			change(&spec)
		}
		got, err := s.e.CreateNetwork(t.Context(), spec)
		if errdefs.IsPermissionDenied(err) {
			continue // it overlaps with another one
		}
		if err != nil {
			t.Fatalf("create network: %v", err)
		}
		t.Cleanup(func() {
			if err := s.e.RemoveNetwork(context.WithoutCancel(t.Context()), got); err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("clean up network: %v", err)
			}
		})
		return engine.Network{ID: got, NetworkSpec: spec}
	}
	t.Fatalf("no subnet of %s is free", pool)
	return engine.Network{}
}

func after(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

// host is an address of a network that nobody has.
func host(n engine.Network) netip.Addr { return after(n.Subnets[0].Prefix.Addr(), 20) }

func (s suite) networkLife(t *testing.T) {
	made := s.network(t, nil)
	list, err := s.e.Networks(t.Context(), label, s.run)
	if err != nil || len(list) != 1 {
		t.Fatalf("networks: %+v, err %v; want one", list, err)
	}
	same := []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(made, list[0], same...); diff != "" {
		t.Errorf("listed (-made +got):\n%s", diff)
	}
	for _, name := range []string{made.ID, made.Name} {
		got, err := s.e.InspectNetwork(t.Context(), name)
		if err != nil {
			t.Fatalf("inspect network: %v", err)
		}
		if diff := cmp.Diff(made, *got, same...); diff != "" {
			t.Errorf("inspected (-made +got):\n%s", diff)
		}
	}
	if err := s.e.RemoveNetwork(t.Context(), made.ID); err != nil {
		t.Errorf("remove network: %v", err)
	}
	if _, err := s.e.InspectNetwork(t.Context(), made.ID); !errdefs.IsNotFound(err) {
		t.Errorf("inspect what is removed: %v, want not found", err)
	}
	if err := s.e.RemoveNetwork(t.Context(), made.ID); !errdefs.IsNotFound(err) {
		t.Errorf("remove it again: %v, want not found", err)
	}
}

func (s suite) networkRefusals(t *testing.T) {
	made := s.network(t, nil)
	again := made.NetworkSpec
	if _, err := s.e.CreateNetwork(t.Context(), again); !errdefs.IsConflict(err) {
		t.Errorf("second network of a name: %v, want a conflict", err)
	}
	again.Name, again.Bridge = "enginetest."+id.New(), "shwt"+id.New()[:10]
	if _, err := s.e.CreateNetwork(t.Context(), again); !errdefs.IsPermissionDenied(err) {
		t.Errorf("second network of a subnet: %v, want a refusal", err)
	}
	// Nobody gets an address that he did not ask for.
	spec := s.spec("serve")
	spec.Endpoints = []engine.Endpoint{{NetworkID: made.ID}}
	if err := s.e.Start(t.Context(), s.create(t, spec)); err == nil || errdefs.IsUnavailable(err) {
		t.Errorf("start without an address: %v, want a refusal", err)
	}
	spec = s.spec("serve")
	spec.Endpoints = []engine.Endpoint{{NetworkID: made.ID, Addrs: []netip.Addr{host(made)}}}
	first := s.start(t, spec)
	if err := s.e.RemoveNetwork(t.Context(), made.ID); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("remove a network in use: %v, want a failed precondition", err)
	}
	spec.Name = "enginetest." + id.New()
	if err := s.e.Start(t.Context(), s.create(t, spec)); err == nil || errdefs.IsUnavailable(err) {
		t.Errorf("start with a taken address: %v, want a refusal", err)
	}
	if err := s.e.Disconnect(t.Context(), first, made.ID); err != nil {
		t.Errorf("disconnect: %v", err)
	}
	if err := s.e.RemoveNetwork(t.Context(), made.ID); err != nil {
		t.Errorf("remove a network that was left: %v", err)
	}
	if err := s.e.Connect(t.Context(), first, engine.Endpoint{NetworkID: made.ID}); !errdefs.IsNotFound(err) {
		t.Errorf("connect to no network: %v, want not found", err)
	}
}

func (s suite) twoNetworks(t *testing.T) {
	fixed := s.network(t, nil)
	open := s.network(t, func(n *engine.NetworkSpec) { n.Internal, n.Subnets[0].Range = false, netip.Prefix{} })
	spec := s.spec("serve")
	spec.Endpoints = []engine.Endpoint{{NetworkID: fixed.ID, Addrs: []netip.Addr{host(fixed)}}, {NetworkID: open.ID}}
	id := s.create(t, spec)
	if c := s.inspect(t, id); len(c.Addrs) != 0 || c.Partial {
		t.Errorf("created: addresses %v, partial %v", c.Addrs, c.Partial)
	}
	// As long as it does not run, connecting again is no mistake.
	if err := s.e.Connect(t.Context(), id, spec.Endpoints[1]); err != nil {
		t.Errorf("connect again: %v", err)
	}
	if err := s.e.Start(t.Context(), id); err != nil {
		t.Fatalf("start: %v", err)
	}
	c := s.inspect(t, id)
	// The first address of the open one is reserved.
	want := map[string][]netip.Addr{fixed.Name: {host(fixed)}, open.Name: {after(open.Subnets[0].Prefix.Addr(), 3)}}
	if diff := cmp.Diff(want, c.Addrs, cmpopts.EquateComparable(netip.Addr{})); diff != "" || c.Partial {
		t.Errorf("partial %v, addresses (-want +got):\n%s", c.Partial, diff)
	}
	got, err := s.e.InspectNetwork(t.Context(), fixed.ID)
	if err != nil || !slices.Equal(got.Containers, []string{id}) {
		t.Errorf("network: %+v, err %v; want the container on it", got, err)
	}
}

// brokenCreation looks at a container that was made for two networks and came
// to be on one.
func (s suite) brokenCreation(t *testing.T) {
	first, second := s.network(t, nil), s.network(t, nil)
	spec := s.spec("serve")
	spec.Endpoints = []engine.Endpoint{
		{NetworkID: first.ID, Addrs: []netip.Addr{host(first)}}, {NetworkID: second.ID, Addrs: []netip.Addr{host(second)}},
	}
	id := s.create(t, spec)
	if err := s.e.Disconnect(t.Context(), id, second.ID); err != nil {
		t.Fatalf("disconnect: %v", err)
	}
	if c := s.inspect(t, id); !c.Partial {
		t.Errorf("created: %+v, want one that is not connected to all", c)
	}
	for _, ep := range spec.Endpoints {
		if err := s.e.Connect(t.Context(), id, ep); err != nil {
			t.Errorf("connect: %v", err)
		}
	}
	if err := s.e.Start(t.Context(), id); err != nil {
		t.Errorf("start: %v", err)
	}
	if c := s.inspect(t, id); c.Partial || len(c.Addrs) != 2 {
		t.Errorf("connected: %+v", c)
	}
	// A label that somebody has set says nothing.
	forged := s.spec("serve")
	forged.Config.Labels["shoal.endpoints"] = "9"
	if c := s.inspect(t, s.create(t, forged)); c.Partial {
		t.Error("a container without networks of the cluster is not connected to all")
	}
}

// lostNetwork connects containers to a network that is not there.
func (s suite) lostNetwork(t *testing.T) {
	n := s.network(t, nil)
	there := engine.Endpoint{NetworkID: n.ID, Addrs: []netip.Addr{host(n)}}
	for name, endpoints := range map[string][]engine.Endpoint{
		"alone": {{NetworkID: id.New()}}, "as the second": {there, {NetworkID: id.New()}},
	} {
		spec := s.spec("serve")
		spec.Endpoints = endpoints
		made, err := s.e.Create(t.Context(), spec)
		if err == nil { // the engine misses it later
			t.Cleanup(func() { _ = s.e.Remove(context.WithoutCancel(t.Context()), made) })
			err = s.e.Start(t.Context(), made)
		}
		if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}
