package manager

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shoal/raftstore"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func TestReachabilityIsTheLeadersOrGossips(t *testing.T) {
	for name, c := range map[string]struct {
		leader string
		want   map[string]bool
	}{
		"on the leader, as Raft has heard": {"a", map[string]bool{"a": true, "b": false, "c": true}},
		"on a follower, as gossip says":    {"b", map[string]bool{"a": true, "b": true, "c": false}},
		"without a leader, as gossip says": {"", map[string]bool{"a": true, "b": true, "c": false}},
	} {
		peers := []raftstore.Peer{{ID: "a", Reachable: true}, {ID: "b"}, {ID: "c", Reachable: true}}
		got := map[string]bool{}
		for _, p := range reachability(peers, "a", c.leader, func(id string) bool { return id == "c" }) {
			got[p.ID] = p.Reachable
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPlanMembership(t *testing.T) {
	manager := func(id string) *state.Node {
		return statetest.Node(id, statetest.Manager, func(n *state.Node) { n.Addr = id + ":2377" })
	}
	worker := func(id string) *state.Node {
		return statetest.Node(id, func(n *state.Node) { n.Addr = id + ":2377" })
	}
	voter := func(id string) raftstore.Peer { return raftstore.Peer{ID: id, Addr: id + ":2377", Voter: true} }
	for name, c := range map[string]struct {
		nodes []state.Object
		peers []raftstore.Peer
		want  []memberStep
	}{
		"at rest":        {[]state.Object{manager("a"), manager("b"), worker("w")}, []raftstore.Peer{voter("a"), voter("b")}, nil},
		"a new manager":  {[]state.Object{manager("a"), manager("b")}, []raftstore.Peer{voter("a")}, []memberStep{{"add", "b", "b:2377"}}},
		"one that moved": {[]state.Object{manager("a"), manager("b")}, []raftstore.Peer{voter("a"), {ID: "b", Addr: "old:1", Voter: true}}, []memberStep{{"add", "b", "b:2377"}}},
		"catching up":    {[]state.Object{manager("a"), manager("b")}, []raftstore.Peer{voter("a"), {ID: "b", Addr: "b:2377"}}, []memberStep{{"promote", "b", "b:2377"}}},
		"demoted":        {[]state.Object{manager("a"), worker("b")}, []raftstore.Peer{voter("a"), voter("b")}, []memberStep{{"remove", "b", "b:2377"}}},
		"removed":        {[]state.Object{manager("a")}, []raftstore.Peer{voter("a"), voter("b")}, []memberStep{{"remove", "b", "b:2377"}}},
		"the leader":     {[]state.Object{worker("a"), manager("b")}, []raftstore.Peer{voter("a"), voter("b")}, []memberStep{{"transfer", "a", "a:2377"}}},
		"no address yet": {[]state.Object{manager("a"), statetest.Node("b", statetest.Manager)}, []raftstore.Peer{voter("a")}, nil},
		"removals last":  {[]state.Object{manager("a"), manager("c")}, []raftstore.Peer{voter("a"), voter("b")}, []memberStep{{"add", "c", "c:2377"}, {"remove", "b", "b:2377"}}},
	} {
		view := statetest.View(append(c.nodes, &state.Cluster{})...)
		got := planMembership(view, c.peers, "a")
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(memberStep{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := planMembership(statetest.View(manager("a")), []raftstore.Peer{voter("b")}, "a"); got != nil {
		t.Errorf("planned %v before the cluster exists", got)
	}
}
