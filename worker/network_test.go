package worker

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"
	"testing"
	"time"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// gate is a data plane in which nothing comes into effect while it is shut.
type gate struct {
	mu      sync.Mutex
	sets    []assignment.Known
	shut    bool
	changed chan struct{}
}

func newGate(shut bool) *gate { return &gate{shut: shut, changed: make(chan struct{})} }

func (g *gate) Set(k assignment.Known) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sets = append(g.sets, k)
	return uint64(len(g.sets))
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	close(g.changed)
}

func (g *gate) Wait(ctx context.Context, _ uint64) error {
	g.mu.Lock()
	shut, changed := g.shut, g.changed
	g.mu.Unlock()
	if !shut {
		return nil
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) Audit(context.Context) (int, []string, error) {
	return 7, []string{"route missing"}, nil
}

func (g *gate) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// overlayLine assigns a task on a network, and tells of the network.
func overlayLine(index uint64) assignment.Down {
	d := down("t1", taskstate.Running)
	d.Index = index
	d.Tasks[0].Networks = []assignment.TaskNetwork{{NetworkID: "net1", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.10/24")}}}
	d.Fabric = &assignment.Fabric{
		Full:  true,
		Peers: []assignment.Peer{{NodeID: "node1", Addr: netip.MustParseAddr("192.0.2.1"), Mesh: []netip.Prefix{netip.MustParsePrefix("10.252.1.0/24")}}},
		Networks: []assignment.Network{{ID: "net1", Name: "web", VNI: 4097, Pools: []assignment.Pool{{
			Subnet: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1"),
		}}}},
	}
	return d
}

// heard is what a worker has said until something is true of it.
type heard struct {
	applied uint64
	states  map[string]taskstate.Status
}

func (m *manager) listen(t *testing.T, h *heard, enough func(*heard) bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for !enough(h) {
		select {
		case up := <-m.ups:
			h.applied = max(h.applied, up.Applied)
			for _, s := range up.Statuses {
				h.states[s.TaskID] = s.Status
			}
		case <-timeout:
			t.Fatalf("not heard: %+v", h)
		}
	}
}

func TestLineIsAcknowledgedOnceTheDataPlaneHasIt(t *testing.T) {
	m, plane := newManager(t), newGate(true)
	c := config(t, t.TempDir(), engine.NewFake("probe"), m)
	c.Plane = plane
	_, halt := run(t, c)
	defer halt()
	h := &heard{states: map[string]taskstate.Status{}}
	m.downs <- overlayLine(9)
	m.listen(t, h, func(h *heard) bool { return h.states["t1"].State == taskstate.Preparing })
	if h.applied != 0 {
		t.Errorf("index %d acknowledged before it was in effect", h.applied)
	}
	plane.open()
	m.listen(t, h, func(h *heard) bool { return h.applied == 9 && h.states["t1"].State == taskstate.Running })
	if got := h.states["t1"].Addrs; len(got) != 1 || got[0] != netip.MustParseAddr("10.252.1.2") {
		t.Errorf("addresses reported: %v", got)
	}
	m.downs <- assignment.Down{Index: 12} // nothing but how far it goes
	m.listen(t, h, func(h *heard) bool { return h.applied == 12 })
}

func TestTaskIsStoppedOnceWithdrawn(t *testing.T) {
	m, fake := newManager(t), engine.NewFake("probe")
	_, halt := run(t, config(t, t.TempDir(), fake, m))
	defer halt()
	h := &heard{states: map[string]taskstate.Status{}}
	line := overlayLine(9)
	m.downs <- line
	m.listen(t, h, func(h *heard) bool { return h.states["t1"].State == taskstate.Running })
	leaving := assignment.Down{Index: 10, Tasks: line.Tasks, Fabric: &assignment.Fabric{}}
	leaving.Tasks[0].Desired, leaving.Tasks[0].Status = taskstate.Shutdown, h.states["t1"]
	m.downs <- leaving
	m.listen(t, h, func(h *heard) bool { return h.applied == 10 })
	if h.states["t1"].State != taskstate.Running || fake.Calls("Stop") != 0 {
		t.Errorf("stopped before it was withdrawn: %+v", h.states["t1"])
	}
	began := time.Now()
	leaving.Index, leaving.Fabric, leaving.Tasks[0].Withdrawn = 11, nil, true
	m.downs <- leaving
	m.listen(t, h, func(h *heard) bool { return h.states["t1"].State == taskstate.Shutdown })
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("stopped %s after it was withdrawn", d)
	}
}

func TestNetworksAreRemembered(t *testing.T) {
	dir, fake, m := t.TempDir(), engine.NewFake("probe"), newManager(t)
	w, halt := run(t, config(t, dir, fake, m))
	m.downs <- overlayLine(9)
	m.until(t, "t1", taskstate.Running)
	known := w.network.Known()
	halt()

	plane := newGate(false)
	c := config(t, dir, fake, nil)
	c.Plane = plane
	again, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(known)
	got, _ := json.Marshal(again.network.Known())
	if string(got) != string(want) || len(plane.sets) != 1 {
		t.Errorf("remembered %s, want %s; plane told %d times", got, want, len(plane.sets))
	}
	if compared, differences, err := again.AuditNetworks(t.Context()); err != nil || compared != 7 || len(differences) != 1 {
		t.Errorf("audit: %d, %v, %v", compared, differences, err)
	}
	if err := Purge(t.Context(), "", fake, c.ClusterID, c.FileDir); err != nil {
		t.Errorf("purge: %v", err)
	}
	if left, err := fake.Networks(t.Context(), "shoal.cluster.id", ""); err != nil || len(left) != 0 {
		t.Errorf("purge left %v, err %v", left, err)
	}
}

func TestTunnelKeyMustBeOne(t *testing.T) {
	c := config(t, t.TempDir(), engine.NewFake("probe"), nil)
	c.TunnelKey = []byte("short")
	if _, err := New(c); err == nil {
		t.Error("a key of 5 bytes was accepted")
	}
}
