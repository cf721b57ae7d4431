package orchestrator

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func moveTo(node string) func(*state.Task) { return func(t *state.Task) { t.MoveTo = node } }
func moves(task string) func(*state.Task)  { return func(t *state.Task) { t.Moves = task } }

func TestPlanMoves(t *testing.T) {
	observed := statetest.Observed
	two := func(options ...func(*state.Node)) []state.Object {
		return []state.Object{statetest.Node("n1"), statetest.Node("n2", options...)}
	}
	lately := func(t *state.Task) { t.Unmoved = state.Unmoved{Count: 1, Until: time.Now().Add(time.Minute)} }
	paused := func(objs []state.Object) []state.Object {
		objs[len(objs)-1].(*state.Service).UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused}
		return objs
	}
	for name, c := range map[string]struct {
		objs []state.Object
		want string
	}{
		"the new one starts first":       {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2"))), "1 n1 r1 running/running; 1 n2 r1 running/pending"},
		"the old one serves on":          {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 running/running; 1 n2 r1 running/starting"},
		"also when nobody asks any more": {append(append(svc(1), two()...), task("a", 1, "n1"), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 running/running; 1 n2 r1 running/starting"},
		"and stops when that runs":       {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"))), "1 n1 r1 shutdown/running; 1 n2 r1 running/running"},
		"one after the other":            {append(append(svc(2), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting)), task("c", 2, "n1", moveTo("n2"))), "1 n1 r1 running/running; 1 n2 r1 running/starting; 2 n1 r1 running/running"},
		"the new one fails":              {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Failed))), "1 n1 r1 running/running; 1 n2 r1 remove/failed"},
		"the new one finds no room":      {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Pending), because("no suitable node"))), "1 n1 r1 running/running; 1 n2 r1 remove/pending"},
		"its node goes down":             {append(append(svc(1), two(statetest.Down)...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 running/running; 1 n2 r1 remove/starting"},
		"its node is drained":            {append(append(svc(1), two(statetest.Drained)...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 running/running; 1 n2 r1 remove/starting"},
		"the old one fails":              {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2"), observed(taskstate.Failed)), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 shutdown/failed; 1 n2 r1 running/starting"},
		"both fail":                      {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2"), observed(taskstate.Failed)), task("b", 1, "n2", moves("a"), observed(taskstate.Failed))), "1 - r1 ready/pending; 1 n1 r1 shutdown/failed; 1 n2 r1 shutdown/failed"},
		"the old one's node goes down":   {append(append(svc(1), statetest.Node("n1", statetest.Down), statetest.Node("n2")), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 shutdown/running; 1 n2 r1 running/starting"},
		"the old one's node is drained":  {append(append(svc(1), statetest.Node("n1", gentle), statetest.Node("n2")), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 running/running; 1 n2 r1 running/starting"},
		"an update overtakes it":         {append(append(svc(1, image("web:2")), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 - r2 ready/pending; 1 n1 r1 running/running; 1 n2 r1 remove/starting"},
		"scaled down meanwhile":          {append(append(svc(0), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 1, "n2", moves("a"), observed(taskstate.Starting))), "1 n1 r1 remove/running; 1 n2 r1 remove/starting"},

		"not in an update":                 {append(append(svc(2, image("web:2")), two()...), task("a", 1, "n1", rev(2), moveTo("n2")), task("b", 2, "n1", rev(1))), "1 n1 r2 running/running; 2 - r2 ready/pending; 2 n1 r1 running/running"},
		"not in one that is paused":        {append(append(two(), task("a", 1, "n1", moveTo("n2"))), paused(svc(1))...), "1 n1 r1 running/running"},
		"not while a task is starting":     {append(append(svc(2), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 2, "n1", observed(taskstate.Starting))), "1 n1 r1 running/running; 2 n1 r1 running/starting"},
		"not while a task is missing":      {append(append(svc(2), two()...), task("a", 1, "n1", moveTo("n2")), task("b", 2, "n1", observed(taskstate.Failed))), "1 n1 r1 running/running; 2 - r1 ready/pending; 2 n1 r1 shutdown/failed"},
		"not onto a node that is paused":   {append(append(svc(1), two(statetest.Paused)...), task("a", 1, "n1", moveTo("n2"))), "1 n1 r1 running/running"},
		"not onto a node that is gone":     {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n3"))), "1 n1 r1 running/running"},
		"not onto the node where it is":    {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n1"))), "1 n1 r1 running/running"},
		"not soon after one was given up":  {append(append(svc(1), two()...), task("a", 1, "n1", moveTo("n2"), lately)), "1 n1 r1 running/running"},
		"not what is not to be replaced":   {append(append(svc(1, condition("none")), two()...), task("a", 1, "n1", rev(2), moveTo("n2"))), "1 n1 r2 running/running"},
		"not what is global":               {append(append(svc(1, statetest.Global), statetest.Node("n1")), task("a", 0, "n1", rev(2), moveTo("n2"))), "0 n1 r2 running/running"},
		"with addresses, if it needs some": {append(append(svc(1, networks("net")), two()...), task("a", 1, "n1", rev(2), moveTo("n2"))), "1 n1 r2 running/running; 1 n2 r2 running/new"},
	} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(c.objs...)
			settle(t, store, "web")
			if got := strings.Join(describe(store.View(), "web"), "; "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// What a move was given up for is kept, and each one that follows waits longer.
func TestMoveThatFailsIsTriedAgainLater(t *testing.T) {
	store := statetest.New(append(svc(1), statetest.Node("n1"), statetest.Node("n2"), task("a", 1, "n1", moveTo("n2")))...)
	for i, wait := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		now := store.View().Task("a").Unmoved.Until
		if i == 0 {
			now = time.Now()
		}
		ids := func() string { return "heir" }
		store.Apply(plan(store.View(), "web", now, ids, chunk).changes...)
		heir := *store.View().Task("heir")
		if heir.Moves != "a" || heir.NodeID != "n2" || heir.Desired != taskstate.Running {
			t.Fatalf("try %d: %+v", i, heir)
		}
		heir.Status = taskstate.Status{State: taskstate.Rejected, Err: "no such image"}
		store.Put(&heir)
		store.Apply(plan(store.View(), "web", now, ids, chunk).changes...)
		got := store.View().Task("a")
		if u := got.Unmoved; u.Count != i+1 || !u.Until.Equal(now.Round(0).Add(wait)) || u.Err != "no such image" || got.Desired != taskstate.Running {
			t.Fatalf("try %d: %+v", i, got)
		}
		store.Apply(state.Delete(state.KindTask, "heir"))
		out := plan(store.View(), "web", now.Add(wait-time.Second), ids, chunk)
		if len(out.changes) > 0 || !out.due.Equal(got.Unmoved.Until) {
			t.Fatalf("try %d: %d changes before the wait is over, due %v", i, len(out.changes), out.due)
		}
	}
}

func TestMoveThatTakesTooLongIsGivenUp(t *testing.T) {
	store := statetest.New(append(svc(1), statetest.Node("n1"), statetest.Node("n2"),
		task("a", 1, "n1"), task("b", 1, "n2", moves("a"), statetest.Observed(taskstate.Preparing)))...)
	due := settle(t, store, "web")
	if wait := time.Until(due); wait < moveWait-time.Minute || wait > moveWait {
		t.Fatalf("looks again in %v", wait)
	}
	store.Apply(plan(store.View(), "web", due, func() string { return "x" }, chunk).changes...)
	if b := store.View().Task("b"); b.Desired != taskstate.Remove {
		t.Errorf("after %v the new task is wanted %v", moveWait, b.Desired)
	}
	if a := store.View().Task("a"); a.Desired != taskstate.Running || a.Unmoved.Err != "it did not run within 15m0s" {
		t.Errorf("the old one: %+v", a)
	}
}

// The loop learns of all that a move waits for.
func TestStepsOfAMoveTouchTheService(t *testing.T) {
	for name, change := range map[string][2]*state.Task{
		"marked":  {task("a", 1, "n1"), task("a", 1, "n1", moveTo("n2"))},
		"runs":    {task("b", 1, "n2", moves("a"), statetest.Observed(taskstate.Starting)), task("b", 1, "n2", moves("a"))},
		"no room": {task("b", 1, "n2", moves("a"), statetest.Observed(taskstate.Pending)), task("b", 1, "n2", moves("a"), statetest.Observed(taskstate.Pending), because("no room"))},
	} {
		store := statetest.New(append(svc(1), change[0])...)
		before := store.View().Index()
		store.Put(change[1])
		events, _ := store.View().Since(before)
		ids := map[string]bool{}
		if touched(store.View(), events, ids); !ids["web"] {
			t.Errorf("%s: the service is not looked at", name)
		}
	}
}
