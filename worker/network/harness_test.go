package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/worker/assignment"
	"shoal/worker/engine"
)

const testCluster, testNode = "cluster1", "n1"

// fakePlane is a data plane that is as quick as its gate lets it be.
type fakePlane struct {
	mu      sync.Mutex
	sets    []assignment.Known
	done    uint64
	held    bool // nothing comes into effect
	err     error
	changed chan struct{}
}

func newPlane() *fakePlane { return &fakePlane{changed: make(chan struct{})} }

func (p *fakePlane) Set(k assignment.Known) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets = append(p.sets, k)
	p.settleLocked()
	return uint64(len(p.sets))
}

func (p *fakePlane) settleLocked() {
	if !p.held {
		p.done = uint64(len(p.sets))
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *fakePlane) hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	p.settleLocked()
}

func (p *fakePlane) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *fakePlane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sets)
}

func (p *fakePlane) Wait(ctx context.Context, generation uint64) error {
	for {
		p.mu.Lock()
		done, changed, err := p.done, p.changed, p.err
		p.mu.Unlock()
		if err != nil || done >= generation {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *fakePlane) Audit(context.Context) (int, []string, error) { return 3, []string{"x"}, nil }

func (p *fakePlane) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// harness runs a Network on a fake engine and a fake plane in a bubble.
type harness struct {
	*Network
	t     *testing.T
	fake  *engine.Fake
	plane *fakePlane
	halt  func()

	mu      sync.Mutex
	applied []uint64
}

func boot(t *testing.T, fake *engine.Fake, known *assignment.Known) *harness {
	t.Helper()
	h := &harness{t: t, fake: fake, plane: newPlane()}
	n, err := New(Config{
		Engine: fake, Plane: h.plane, NodeID: testNode, ClusterID: testCluster, Known: known, IPv6: true,
		Log: slog.New(slog.DiscardHandler),
		Applied: func(index uint64) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.applied = append(h.applied, index)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Network = n
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := n.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}()
	h.halt = func() { cancel(); <-ended }
	n.SetEngine(true)
	return h
}

// bubble runs f with a Network that knows nothing yet.
func bubble(t *testing.T, f func(t *testing.T, h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := boot(t, engine.NewFake("probe"), nil)
		defer func() { h.halt() }()
		f(t, h)
	})
}

func (h *harness) after(d time.Duration) {
	time.Sleep(d) // the bubble's time
	synctest.Wait()
}

func (h *harness) acks() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]uint64(nil), h.applied...)
}

// networks returns the engine's networks of the cluster by name.
func (h *harness) networks() map[string]engine.Network {
	h.t.Helper()
	list, err := h.fake.Networks(h.t.Context(), ClusterLabel, "")
	if err != nil {
		h.t.Fatal(err)
	}
	byName := map[string]engine.Network{}
	for _, n := range list {
		byName[n.Name] = n
	}
	return byName
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func self() assignment.Peer {
	return assignment.Peer{
		NodeID: testNode, Addr: addr("192.0.2.1"), Index: 1, Mesh: []netip.Prefix{prefix("10.252.1.0/24"), prefix("fd00:1::/64")},
	}
}

func web() assignment.Network {
	return assignment.Network{
		ID: "netweb0123456789", Name: "web", VNI: 4097, Attachable: true,
		Pools: []assignment.Pool{{Subnet: prefix("10.0.1.0/24"), Gateway: addr("10.0.1.1")}},
	}
}

func internal() assignment.Network {
	return assignment.Network{
		ID: "netdb0123456789", Name: "db", VNI: 4098, Internal: true,
		Pools: []assignment.Pool{
			{Subnet: prefix("10.0.2.0/24"), Gateway: addr("10.0.2.1")}, {Subnet: prefix("fd00:2::/64"), Gateway: addr("fd00:2::1")},
		},
	}
}

// fabric is a full one with these networks.
func fabric(networks ...assignment.Network) *assignment.Fabric {
	return &assignment.Fabric{Full: true, Peers: []assignment.Peer{self()}, Networks: networks}
}

// task is one on these networks, with the address .10 there.
func task(networks ...assignment.Network) assignment.Task {
	t := assignment.Task{ID: "t1"}
	for _, n := range networks {
		tn := assignment.TaskNetwork{NetworkID: n.ID}
		for _, p := range n.Pools {
			a := p.Gateway
			for range 9 {
				a = a.Next()
			}
			tn.Addrs = append(tn.Addrs, netip.PrefixFrom(a, p.Subnet.Bits()))
		}
		t.Networks = append(t.Networks, tn)
	}
	return t
}
