//go:build docker

package network

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"shoal/internal/id"
	"shoal/worker/assignment"
	"shoal/worker/engine"
	"shoal/worker/engine/enginetest"
)

// TestDockerNetworkOfATask takes a network through its life on the real engine,
// with a container on it. It is internal, so that the host gets no gateway
// network that others might use.
func TestDockerNetworkOfATask(t *testing.T) {
	e, err := engine.New(engine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // after the other clean-ups
	cluster := id.New()
	n, err := New(Config{
		Engine: e, Plane: newPlane(), NodeID: testNode, ClusterID: cluster, Applied: func(uint64) {}, IPv6: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Purge(context.WithoutCancel(t.Context()), e, cluster); err != nil {
			t.Errorf("purge: %v", err)
		}
	})
	net, a := attachSomewhere(t, n)
	image := enginetest.Image(t)
	spec := engine.Spec{
		Name: "networktest." + cluster, Config: &container.Config{Image: image, Cmd: []string{"serve"}},
		HostConfig: &container.HostConfig{}, Endpoints: a.Endpoints,
	}
	c, err := e.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Remove(context.WithoutCancel(t.Context()), c) })
	if err := e.Start(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	got, err := e.Inspect(t.Context(), c)
	if err != nil || len(got.Addrs[net.Name]) != 2 {
		t.Errorf("container: %+v, err %v; want two addresses", got, err)
	}

	n.Apply(&assignment.Fabric{Full: true}, 2)
	if err := n.sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if _, err := e.InspectNetwork(t.Context(), a.Endpoints[0].NetworkID); err != nil {
		t.Errorf("network in use: %v, want it to stay", err)
	}
	if err := e.Remove(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := n.sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if _, err := e.InspectNetwork(t.Context(), a.Endpoints[0].NetworkID); !errdefs.IsNotFound(err) {
		t.Errorf("network that nobody needs: %v, want not found", err)
	}
}

// attachSomewhere attaches a task to a network in a subnet that is free here,
// twice: the second time everything is there.
func attachSomewhere(t *testing.T, n *Network) (assignment.Network, engine.Attachment) {
	t.Helper()
	for third := range 4 {
		cn := internal()
		cn.ID, cn.Name, cn.VNI = id.New(), "networktest."+id.New(), 1<<23+rand.Uint32N(1<<23) //nolint:gosec // a name, no secret
		v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, 200 + byte(third), 192}), 27)
		v6 := netip.MustParsePrefix("fd0d:5200:1::/64")
		cn.Pools = []assignment.Pool{{Subnet: v4, Gateway: v4.Addr().Next()}, {Subnet: v6, Gateway: v6.Addr().Next()}}
		n.Apply(fabric(cn), 1)
		a, err := n.Attach(t.Context(), task(cn))
		if errdefs.IsPermissionDenied(err) {
			t.Logf("%s is taken: %v", v4, err)
			continue
		}
		again, againErr := n.Attach(t.Context(), task(cn))
		if err := errors.Join(err, againErr); err != nil || again.Endpoints[0].NetworkID != a.Endpoints[0].NetworkID {
			t.Fatalf("attach: %+v, then %+v, err %v", a, again, err)
		}
		return cn, a
	}
	t.Fatal("no subnet is free")
	return assignment.Network{}, engine.Attachment{}
}
