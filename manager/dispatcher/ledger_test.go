package dispatcher

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func nobody(string) bool    { return false }
func everybody(string) bool { return true }

// cluster returns a view with n ready nodes n01, n02 and so on.
func cluster(n int, more ...state.Object) *state.View {
	for i := range n {
		more = append(more, statetest.Node(fmt.Sprintf("n%02d", i+1)))
	}
	store := statetest.New()
	for _, o := range more {
		store.Put(o)
	}
	return store.View()
}

func alive(manager string, age time.Duration, nodes ...string) Batch {
	b := Batch{ManagerID: manager}
	for _, n := range nodes {
		b.Alive = append(b.Alive, Alive{NodeID: n, Boot: "boot of " + n, Age: age})
	}
	return b
}

// now is after the creation of every node of these tests.
func now() time.Time { return time.Now().Add(time.Hour) }

func TestSilenceAndGossipTogetherDecide(t *testing.T) {
	tests := []struct {
		name    string
		silence time.Duration
		dead    func(string) bool
		down    bool
	}{
		{"a live session beats gossip", time.Second, everybody, false},
		{"5 s is nothing", 5 * time.Second, everybody, false},
		{"nearly 7 s", 6999 * time.Millisecond, everybody, false},
		{"7 s and dead by gossip", 7 * time.Second, everybody, true},
		{"7 s and alive by gossip", 7 * time.Second, nobody, false},
		{"8 s and alive by gossip", 8 * time.Second, nobody, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, start := cluster(2), now()
			l := newLedger(start.Add(-time.Hour))
			l.hear(v, alive("m1", tt.silence, "n01"), start)
			l.hear(v, alive("m2", 0, "n02"), start)
			want := verdict{nodes: 2}
			if tt.down {
				want.down = []string{"n01"}
			}
			if tt.silence >= suspectAfter {
				want.lost = 1
			}
			got := l.judge(v, start, tt.dead)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
				t.Errorf("judge (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewLeaderGivesEverybodyTime(t *testing.T) {
	v, start := cluster(2), now()
	l := newLedger(start)
	if j := l.judge(v, start.Add(DownAfter-time.Millisecond), nobody); len(j.down) > 0 {
		t.Errorf("down too early: %v", j.down)
	}
	if j := l.judge(v, start.Add(DownAfter), nobody); len(j.down) != 2 {
		t.Errorf("down %v, want both", j.down)
	}
	l.excuse(start.Add(DownAfter))
	if j := l.judge(v, start.Add(DownAfter+time.Second), nobody); len(j.down) > 0 {
		t.Errorf("down after an excuse: %v", j.down)
	}
}

func TestNewNodeGetsTime(t *testing.T) {
	v := cluster(1, statetest.Node("new", func(n *state.Node) { n.Status.State = swarm.NodeStateUnknown }))
	created := v.Node("new").CreatedAt
	l := newLedger(created.Add(-time.Hour))
	l.hear(v, alive("m1", 0, "n01"), created.Add(7*time.Second))
	if j := l.judge(v, created.Add(7*time.Second), nobody); len(j.down)+len(j.absent) > 0 {
		t.Errorf("after 7 s: %+v", j)
	}
	if j := l.judge(v, created.Add(8*time.Second), nobody); len(j.down) > 0 || !cmp.Equal(j.absent, []string{"new"}) {
		t.Errorf("after 8 s: %+v", j)
	}
}

func TestStormBrakeBySize(t *testing.T) {
	tests := []struct {
		nodes, lost int
		braked      bool
	}{
		{1, 1, false},
		{3, 1, false},
		{3, 2, false},
		{5, 2, false},
		{5, 3, true},
		{10, 3, false}, // exactly 30 %
		{10, 4, true},
		{100, 30, false},
		{100, 31, true},
	}
	for _, tt := range tests {
		v, start := cluster(tt.nodes), now()
		l := newLedger(start.Add(-time.Hour))
		for n := range v.Nodes() {
			if n.ID > fmt.Sprintf("n%02d", tt.lost) || len(n.ID) > 3 {
				l.hear(v, alive("m1", 0, n.ID), start)
			}
		}
		j := l.judge(v, start, nobody)
		if j.lost != tt.lost || (len(j.braked) == tt.lost) != tt.braked || (len(j.down) == tt.lost) == tt.braked {
			t.Errorf("%d of %d: %d vanished, %d down, %d braked", tt.lost, tt.nodes, j.lost, len(j.down), len(j.braked))
		}
	}
}

func TestStormBrakeRemembersAMinute(t *testing.T) {
	start := now()
	down := []state.Object{statetest.Node("a", statetest.Down), statetest.Node("b", statetest.Down)}
	v := cluster(3, down...)
	l := newLedger(start.Add(-time.Hour))
	l.declared(v, []string{"a", "b"}, start)
	l.hear(v, alive("m1", 0, "n01", "n02"), start.Add(30*time.Second))
	if j := l.judge(v, start.Add(30*time.Second), nobody); len(j.braked) != 1 || j.lost != 3 || j.nodes != 5 {
		t.Errorf("within a minute: %+v", j)
	}
	l.hear(v, alive("m1", 0, "n01", "n02"), start.Add(time.Minute))
	if j := l.judge(v, start.Add(time.Minute), nobody); len(j.down) != 1 {
		t.Errorf("after a minute: %+v", j)
	}
}

func TestHearTellsClonesFromSuccessors(t *testing.T) {
	open := func(manager, boot string) Batch {
		return Batch{ManagerID: manager, Opened: []Opened{{NodeID: "n01", Boot: boot}}}
	}
	v, start := cluster(1), now()
	tests := []struct {
		name    string
		batch   Batch
		after   time.Duration // since the last word of boot 1 through m1
		refused bool
	}{
		{"same boot elsewhere", open("m2", "1"), 0, false},
		{"another boot at once", open("m2", "2"), time.Second, true},
		{"another boot after silence", open("m2", "2"), cloneWindow, false},
		{"after the end of the first", Batch{ManagerID: "m1", Gone: []Gone{{"n01", "1"}}, Opened: open("m1", "2").Opened}, 0, false},
		{"after the end of an older session", Batch{ManagerID: "m2", Gone: []Gone{{"n01", "1"}}, Opened: open("m2", "2").Opened}, 0, true},
		{"alive with another boot", Batch{ManagerID: "m2", Alive: []Alive{{"n01", "2", 0}}}, 0, true},
		{"not of the cluster", Batch{ManagerID: "m2", Opened: []Opened{{NodeID: "n77", Boot: "1"}}}, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(start)
			l.hear(v, open("m1", "1"), start)
			if h := l.hear(v, tt.batch, start.Add(tt.after)); (len(h.refused) > 0) != tt.refused {
				t.Errorf("refused: %+v", h.refused)
			}
		})
	}
}

func TestHearRevivesOnlyByFreshWords(t *testing.T) {
	v, start := cluster(1, statetest.Node("x", statetest.Down)), now()
	l := newLedger(start)
	if h := l.hear(v, alive("m1", 5*time.Second, "x", "n01"), start); len(h.revived) > 0 {
		t.Errorf("revived by an old word: %v", h.revived)
	}
	if h := l.hear(v, alive("m1", time.Second, "x", "n01"), start); !cmp.Equal(h.revived, []string{"x"}) {
		t.Errorf("revived %v, want x", h.revived)
	}
}

func TestSilentNodesAreNotWaitedForAndNamed(t *testing.T) {
	v, start := cluster(3), now()
	l := newLedger(start.Add(-time.Hour))
	nodes := []*state.Node{v.Node("n01"), v.Node("n02"), v.Node("n03")}
	batch := alive("m1", 0, "n01", "n03")
	batch.Alive = append(batch.Alive, alive("m1", awaitFor, "n02").Alive...)
	batch.Applied = []Applied{{NodeID: "n01", Boot: "boot of n01", Index: 7}}
	l.hear(v, batch, start)
	if waits, silent := l.awaits(nodes, 7, start); !waits || silent != nil {
		t.Errorf("waits %v, silent %q, want to wait for n03", waits, silent)
	}
	batch.Applied[0] = Applied{NodeID: "n03", Boot: "boot of n03", Index: 9}
	l.hear(v, batch, start)
	if waits, silent := l.awaits(nodes, 7, start); waits || !cmp.Equal(silent, []string{"n02"}) {
		t.Errorf("waits %v, silent %q, want n02 alone", waits, silent)
	}
}
