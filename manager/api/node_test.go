package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func hostname(name string) func(*state.Node) {
	return func(n *state.Node) { n.Description.Hostname = name }
}

func TestNodeListFilters(t *testing.T) {
	gpu := func(n *state.Node) { n.Description.Engine.Labels = map[string]string{"gpu": "yes"} }
	h := newHarness(t,
		statetest.Node("aa1", statetest.Manager, hostname("alpha"), statetest.Label("zone", "x")),
		statetest.Node("ab2", hostname("beta"), gpu), statetest.Node("b3", hostname("alps"), statetest.Label("zone", "y")))
	for _, c := range []struct {
		filters []filters.KeyValuePair
		want    string
	}{
		{nil, "aa1 ab2 b3"},
		{[]filters.KeyValuePair{filters.Arg("name", "alp")}, "aa1 b3"},
		{[]filters.KeyValuePair{filters.Arg("id", "a")}, "aa1 ab2"},
		{[]filters.KeyValuePair{filters.Arg("role", "Manager")}, "aa1"},
		{[]filters.KeyValuePair{filters.Arg("role", "worker"), filters.Arg("role", "manager")}, "aa1 ab2 b3"},
		{[]filters.KeyValuePair{filters.Arg("role", "")}, "aa1 ab2 b3"},
		{[]filters.KeyValuePair{filters.Arg("label", "gpu=yes")}, "ab2"},
		{[]filters.KeyValuePair{filters.Arg("node.label", "zone")}, "aa1 b3"},
		{[]filters.KeyValuePair{filters.Arg("node.label", "zone=y")}, "b3"},
		{[]filters.KeyValuePair{filters.Arg("membership", "accepted")}, "aa1 ab2 b3"},
		{[]filters.KeyValuePair{filters.Arg("membership", "pending")}, ""},
	} {
		list, err := h.docker.NodeList(t.Context(), swarm.NodeListOptions{Filters: filters.NewArgs(c.filters...)})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, n := range list {
			ids = append(ids, n.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("list with %v: %q, want %q", c.filters, got, c.want)
		}
	}
}

func TestGentleDrainLastsAsLongAsTheDrain(t *testing.T) {
	h := newHarness(t, statetest.Node("w1"))
	update := func(query string, a swarm.NodeAvailability, want bool) {
		t.Helper()
		path := "/nodes/w1/update?version=" + h.store.View().Node("w1").Version.String() + query
		if status, text := h.call("POST", path, swarm.NodeSpec{Role: "worker", Availability: a}); status != 200 {
			t.Fatalf("%s: %d %s", path, status, text)
		}
		if got := h.store.View().Node("w1").StartFirst; got != want {
			t.Errorf("%s, %s: StartFirst is %v", query, a, got)
		}
	}
	update("", "drain", false)
	update("&startFirst=true", "drain", true)
	update("", "drain", true) // by a client that does not know it
	update("&startFirst=false", "drain", false)
	update("&startFirst=1", "drain", true)
	update("", "active", false)
	path := "/nodes/w1/update?version=" + h.store.View().Node("w1").Version.String() + "&startFirst="
	h.refused("paused", "POST", path+"true", swarm.NodeSpec{Role: "worker", Availability: "pause"}, nil, 400, `startFirst is for Availability drain, not "pause"`)
	h.refused("no boolean", "POST", path+"maybe", swarm.NodeSpec{Role: "worker", Availability: "drain"}, nil, 400, "invalid value for startFirst: maybe")
}

func TestManagerStatusComesFromTheConsensus(t *testing.T) {
	stale := func(n *state.Node) {
		n.Addr, n.ManagerStatus = "10.0.0.9:2377", &swarm.ManagerStatus{Leader: true, Addr: "stored"}
	}
	h := newHarness(t, statetest.Node("m1", statetest.Manager), statetest.Node("m2", statetest.Manager, stale), statetest.Node("w1", stale))
	h.peers = []api.Peer{{NodeID: "m1", Addr: "10.0.0.1:2377", Leader: true, Reachable: true}, {NodeID: "m2"}}
	for id, want := range map[string]*swarm.ManagerStatus{
		"m1": {Leader: true, Reachability: swarm.ReachabilityReachable, Addr: "10.0.0.1:2377"},
		"m2": {Reachability: swarm.ReachabilityUnreachable, Addr: "10.0.0.9:2377"},
		"w1": nil,
	} {
		got, _, err := h.docker.NodeInspectWithRaw(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.ManagerStatus); diff != "" {
			t.Errorf("manager status of %s (-want +got):\n%s", id, diff)
		}
	}
}

func TestNodeUpdateReplacesTheSpec(t *testing.T) {
	h := newHarness(t, statetest.Node("m1", statetest.Manager), statetest.Node("w1", hostname("host"), statetest.Label("old", "1")))
	n := h.store.View().Node("w1")
	spec := swarm.NodeSpec{Annotations: swarm.Annotations{Labels: map[string]string{"new": "2"}}, Role: swarm.NodeRoleManager, Availability: swarm.NodeAvailabilityDrain}
	if err := h.docker.NodeUpdate(t.Context(), "HOST", n.Version, spec); err != nil {
		t.Fatal(err)
	}
	got := h.store.View().Node("w1")
	if diff := cmp.Diff(spec, got.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if got.Description.Hostname != "host" || got.Status.State != swarm.NodeStateReady {
		t.Errorf("the update touched more than the spec: %+v", got)
	}
	if err := h.docker.NodeUpdate(t.Context(), "w1", n.Version, spec); err == nil || !strings.Contains(err.Error(), "update out of sequence") {
		t.Errorf("second update with the same version: %v", err)
	}
}

func TestManagerIsDemotedWhenTheOthersHaveAQuorum(t *testing.T) {
	objs := []state.Object{statetest.Node("m1", statetest.Manager), statetest.Node("m2", statetest.Manager), statetest.Node("m3", statetest.Manager), statetest.Node("m4", statetest.Manager)}
	worker := swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityActive}
	for _, c := range []struct {
		name      string
		reachable string
		demote    []string
		refused   string // the one that must not go
	}{
		{"all reachable", "m1 m2 m3", []string{"m3", "m2"}, "m1"},
		{"the dead one goes", "m1 m2", []string{"m3"}, ""},
		{"a live one stays while one is dead", "m1 m2", nil, "m2"},
		{"a promoted one that has not joined goes", "m1 m2", []string{"m4"}, ""},
	} {
		h := newHarness(t, objs...)
		for _, id := range []string{"m1", "m2", "m3"} {
			h.peers = append(h.peers, api.Peer{NodeID: id, Leader: id == "m1", Reachable: strings.Contains(c.reachable, id)})
		}
		for _, id := range c.demote {
			if err := h.docker.NodeUpdate(t.Context(), id, h.store.View().Node(id).Version, worker); err != nil {
				t.Errorf("%s: demote %s: %v", c.name, id, err)
			}
		}
		if c.refused == "" {
			continue
		}
		err := h.docker.NodeUpdate(t.Context(), c.refused, h.store.View().Node(c.refused).Version, worker)
		if err == nil || !strings.Contains(err.Error(), "loss of quorum") {
			t.Errorf("%s: demote %s: %v, want a refusal", c.name, c.refused, err)
		}
	}
}

func TestNodeRemoval(t *testing.T) {
	c := clusterObject()
	c.OverlayKeyAt = time.Now()
	h := newHarness(t, c, statetest.Node("w1"), statetest.Node("w2", statetest.Down), statetest.Node("w3"))
	h.peers = []api.Peer{{NodeID: "w3"}} // demoted, but still a member
	if err := h.docker.NodeRemove(t.Context(), "w1", swarm.NodeRemoveOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("removal of a ready node: %v, want a refusal", err)
	}
	if err := h.docker.NodeRemove(t.Context(), "w3", swarm.NodeRemoveOptions{Force: true}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("removal of a member of the consensus: %v, want a refusal", err)
	}
	if h.store.View().Cluster().OverlayKeyAt.IsZero() {
		t.Error("a refused removal makes the tunnels' key due")
	}
	if err := h.docker.NodeRemove(t.Context(), "w1", swarm.NodeRemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if err := h.docker.NodeRemove(t.Context(), "w2", swarm.NodeRemoveOptions{}); err != nil {
		t.Error(err)
	}
	v := h.store.View()
	if v.Node("w1") != nil || v.Node("w2") != nil || v.Node("w3") == nil {
		t.Error("want w1 and w2 gone, w3 there")
	}
	if !v.Cluster().OverlayKeyAt.IsZero() {
		t.Error("the tunnels' key that the removed nodes know is not due")
	}
}

func TestANodeThatIsTooSmallForItsTasksSaysSo(t *testing.T) {
	web, webRev := statetest.Service("web", 1, func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Reservations: &swarm.Resources{NanoCPUs: 15e8, MemoryBytes: 6 << 30}}
	})
	h := newHarness(t, web, webRev, statetest.Node("n1"), statetest.Node("n2", func(n *state.Node) {
		n.Description.Resources = swarm.Resources{NanoCPUs: 1e9, MemoryBytes: 4 << 30}
		n.Status.Message = "heartbeat is late"
	}), statetest.Task("t1", "web", 1, "n1"), statetest.Task("t2", "web", 2, "n2"))
	for id, want := range map[string]string{
		"n1": "", "n2": "heartbeat is late; its tasks have reserved more than it has: 6GiB of 4GiB memory, 1.5 of 1 CPUs",
	} {
		n, _, err := h.docker.NodeInspectWithRaw(t.Context(), id)
		if err != nil || n.Status.Message != want {
			t.Errorf("%s: %q, %v; want %q", id, n.Status.Message, err, want)
		}
	}
}
