package reaper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tasks makes tasks of slot 1 of "web" on n1, oldest first, from words: the
// letters of desired (R running, r ready, C complete, S shutdown, X remove) and observed
// state (n new, p pending, a assigned, r running, c complete, s shutdown,
// f failed, o orphaned), and the revision.
func tasks(words string) (objs []state.Object) {
	desired := map[byte]taskstate.State{'R': taskstate.Running, 'r': taskstate.Ready, 'C': taskstate.Complete, 'S': taskstate.Shutdown, 'X': taskstate.Remove}
	observed := map[byte]taskstate.State{
		'n': taskstate.New, 'p': taskstate.Pending, 'a': taskstate.Assigned, 'r': taskstate.Running,
		'c': taskstate.Complete, 's': taskstate.Shutdown, 'f': taskstate.Failed, 'o': taskstate.Orphaned,
	}
	for i, w := range strings.Split(words, ",") {
		objs = append(objs, statetest.Task(fmt.Sprintf("%d:%s", i, w), "web", 1, "n1", func(t *state.Task) {
			t.Desired, t.Status.State = desired[w[0]], observed[w[1]]
			if t.Status.State < taskstate.Assigned {
				t.NodeID = ""
			}
			if len(w) > 2 {
				t.Revision = uint64(w[2] - '0')
			}
		}))
	}
	return objs
}

func limit(n int64) *state.Cluster {
	c := &state.Cluster{}
	c.Spec.Orchestration.TaskHistoryRetentionLimit = &n
	return c
}

func attempts(n uint64) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{MaxAttempts: &n} }
}

func TestTasks(t *testing.T) {
	service := func(options ...func(*swarm.ServiceSpec)) state.Object {
		s, _ := statetest.Service("web", 1, options...)
		return s
	}
	updated, _ := statetest.Service("web", 1)
	updated.Revision = 2
	updated.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating}
	node := statetest.Node("n1")
	for name, c := range map[string]struct {
		with  []state.Object
		tasks string
		want  string // what is left
	}{
		"five, the live one included":     {[]state.Object{service(), node}, "Sf,Sf,Sf,Sf,Sf,Sf,Rr", "Sf,Sf,Sf,Sf,Rr"},
		"fewer stay":                      {[]state.Object{service(), node}, "Sf,Sf,Rr", "Sf,Sf,Rr"},
		"limit of the cluster":            {[]state.Object{service(), node, limit(2)}, "Sf,Ss,Sc,Rr", "Sc,Rr"},
		"limit one leaves the live one":   {[]state.Object{service(), node, limit(1)}, "Sf,Sf,Rr", "Rr"},
		"limit zero too":                  {[]state.Object{service(), node, limit(0)}, "Sf,Sf,Rr", "Rr"},
		"limit zero leaves a finished":    {[]state.Object{service(), node, limit(0)}, "Sf,Sc", "Sc"},
		"negative keeps all":              {[]state.Object{service(), node, limit(-1)}, "Sf,Sf,Sf,Sf,Sf,Sf,Rr", "Sf,Sf,Sf,Sf,Sf,Sf,Rr"},
		"attempts + 1 replace it, lower":  {[]state.Object{service(attempts(1)), node}, "Sf,Sf,Sf,Rr", "Sf,Rr"},
		"attempts + 1 replace it, higher": {[]state.Object{service(attempts(6)), node, limit(1)}, "Sf,Sf,Sf,Sf,Sf,Sf,Rr", "Sf,Sf,Sf,Sf,Sf,Sf,Rr"},
		"what still stops stays":          {[]state.Object{service(), node, limit(1)}, "Sr,Sa,Sf,Rr", "Sr,Sa,Rr"},
		"called off before it had a node": {[]state.Object{service(), node, limit(1)}, "Sp,Sn,Rr", "Rr"},
		"ended but not yet dealt with":    {[]state.Object{service(), node, limit(1)}, "Rf,rf,Rr", "Rf,rf,Rr"},
		"orphaned":                        {[]state.Object{service(), node}, "So,Rr", "Rr"},
		"orphaned but not yet dealt with": {[]state.Object{service(), node}, "Ro", "Ro"},
		"removed":                         {[]state.Object{service(), node}, "Xf,Xs,Xc,Xp,Xn,Xa,Xr,Rr", "Xa,Xr,Rr"},
		"removed, node gone":              {[]state.Object{service()}, "Xa,Xr,Sr,Sf,Rr", "Sf,Rr"},
		"service gone":                    {[]state.Object{node}, "Xr,Xs", "Xr"},
		"a job's task that is complete":   {[]state.Object{service(), node, limit(1)}, "Sf,Sf,Cc", "Cc"},
		"a job's failures":                {[]state.Object{service(), node, limit(2)}, "Sf,Sf,Sf,Cr", "Sf,Cr"},
		"a job's lost task":               {[]state.Object{service(), node}, "Co,Sf,Cr", "Co,Sf,Cr"},
		"an update keeps its evidence":    {[]state.Object{updated, node, limit(1)}, "Ss1,Ss1,Sf2,Sf2,Rr2", "Ss1,Sf2,Rr2"},
	} {
		store := statetest.New(c.with...)
		store.Put(tasks(c.tasks)...)
		apply(t, store, func(v *state.View) []state.Change { return planTasks(v, place{"web", 1}) })
		var left []string
		for task := range store.View().Tasks() {
			_, word, _ := strings.Cut(task.ID, ":")
			left = append(left, word)
		}
		if got := strings.Join(left, ","); got != c.want {
			t.Errorf("%s: left %q, want %q", name, got, c.want)
		}
	}
}

// apply applies a plan and checks that the next one plans nothing.
func apply(t *testing.T, store *statetest.Store, plan func(*state.View) []state.Change) {
	t.Helper()
	if changes := plan(store.View()); len(changes) > 0 {
		store.Apply(changes...)
	}
	if again := plan(store.View()); len(again) > 0 {
		t.Errorf("the plan after a plan has %d changes", len(again))
	}
}

func TestGlobalServiceKeepsHistoryOfEachNode(t *testing.T) {
	s, _ := statetest.Service("web", 1, statetest.Global)
	store := statetest.New(s, statetest.Node("n1"), statetest.Node("n2"), limit(2))
	for i := range 4 {
		for _, node := range []string{"n1", "n2"} {
			store.Put(statetest.Task(fmt.Sprintf("%s.%d", node, i), "web", 0, node,
				statetest.Desired(taskstate.Shutdown), statetest.Observed(taskstate.Failed)))
		}
	}
	apply(t, store, func(v *state.View) []state.Change { return planTasks(v, place{"web", 0}) })
	for _, node := range []string{"n1", "n2"} {
		var left []string
		for task := range store.View().TasksOfNode(node) {
			left = append(left, task.ID)
		}
		if want := []string{node + ".2", node + ".3"}; !slices.Equal(left, want) {
			t.Errorf("left of %s: %v, want %v", node, left, want)
		}
	}
}

func TestRevisions(t *testing.T) {
	for name, c := range map[string]struct {
		service *state.Service
		number  uint64
		task    uint64
		want    []uint64
	}{
		"ten or fewer stay": {&state.Service{Revision: 4, PreviousRevision: 3}, 4, 0, []uint64{1, 2, 3, 4}},
		"the last ten":      {&state.Service{Revision: 12, PreviousRevision: 11}, 12, 0, []uint64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		"and that of tasks": {&state.Service{Revision: 12}, 12, 2, []uint64{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		"and the previous":  {&state.Service{Revision: 12, PreviousRevision: 1}, 12, 0, []uint64{1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		"deleted":           {nil, 3, 0, nil},
		"deleted, one runs": {nil, 3, 2, []uint64{2}},
	} {
		store := statetest.New()
		if c.service != nil {
			c.service.ID = "web"
			store.Put(c.service)
		}
		for n := uint64(1); n <= c.number; n++ {
			store.Put(&state.Revision{ServiceID: "web", Number: n})
		}
		store.Put(&state.Revision{ServiceID: "web2", Number: 1})
		if c.task > 0 {
			store.Put(statetest.Task("t", "web", 1, "n1", func(t *state.Task) { t.Revision = c.task }))
		}
		apply(t, store, func(v *state.View) []state.Change { return planRevisions(v, "web") })
		var left []uint64
		for r := range store.View().Revisions("web") {
			left = append(left, r.Number)
		}
		if !slices.Equal(left, c.want) {
			t.Errorf("%s: left %v, want %v", name, left, c.want)
		}
		if store.View().Revision("web2", 1) == nil {
			t.Errorf("%s: another service's revision is gone", name)
		}
	}
}

// running runs a reaper on store in a bubble while test does.
func running(t *testing.T, store *statetest.Store, test func()) {
	t.Helper()
	r, err := New(Config{Store: store, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	test()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want canceled", err)
	}
}

func requests(v *state.View) (n int) {
	for range v.RequestsByAge() {
		n++
	}
	return n
}

func putRequests(store *statetest.Store, prefix string, n int) {
	var changes []state.Change
	for i := range n {
		changes = append(changes, state.Put(&state.Request{ID: fmt.Sprintf("%s%06d", prefix, i)}))
	}
	store.Apply(changes...)
}

func TestRunForgetsRequestsByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		putRequests(store, "old", 5)
		running(t, store, func() {
			time.Sleep(5 * time.Minute) // virtual time, here and below
			putRequests(store, "new", 3)
			time.Sleep(5*time.Minute - time.Second)
			if n := requests(store.View()); n != 8 {
				t.Errorf("%d requests before their time, want 8", n)
			}
			time.Sleep(time.Minute)
			if n := requests(store.View()); n != 3 {
				t.Errorf("%d requests after ten minutes, want 3", n)
			}
			time.Sleep(5 * time.Minute)
			if n := requests(store.View()); n != 0 {
				t.Errorf("%d requests at the end, want 0", n)
			}
			updates := store.Updates()
			putRequests(store, "last", 1)
			time.Sleep(11 * time.Minute)
			if n := store.Updates() - updates; requests(store.View()) != 0 || n != 2 {
				t.Errorf("a late request: %d left after %d updates", requests(store.View()), n)
			}
		})
	})
}

func TestRunForgetsRequestsByNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New()
		running(t, store, func() {
			putRequests(store, "a", keepRequests)
			time.Sleep(time.Second)
			if n := requests(store.View()); n != keepRequests {
				t.Errorf("%d requests, want %d", n, keepRequests)
			}
			putRequests(store, "b", 1)
			time.Sleep(time.Second)
			if n, want := requests(store.View()), keepRequests+1-chunk; n != want {
				t.Errorf("%d requests, want %d", n, want)
			}
			if store.View().Request("b000000") == nil {
				t.Error("the newest request is gone")
			}
		})
	})
}

func TestRunReapsInChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(statetest.Node("n1"))
		var changes []state.Change
		for i := range 3 * chunk {
			changes = append(changes, state.Put(statetest.Task(fmt.Sprintf("t%06d", i), "web", i/2+1, "n1",
				statetest.Desired(taskstate.Remove), statetest.Observed(taskstate.Shutdown))))
		}
		changes = append(changes, state.Put(&state.Revision{ServiceID: "web", Number: 1}))
		running(t, store, func() {
			store.Apply(changes...)
			before := store.Updates()
			time.Sleep(2 * time.Second)
			for task := range store.View().Tasks() {
				t.Fatalf("task %s is left", task.ID)
			}
			if store.View().Revision("web", 1) != nil {
				t.Error("the revision is left")
			}
			if n := store.Updates() - before; n != 4 { // three of tasks, one of the revision
				t.Errorf("%d updates, want 4", n)
			}
		})
	})
}

func TestRunNoticesLimitsAndLostNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := statetest.Service("web", 1)
		store := statetest.New(s, statetest.Node("n1"), limit(5))
		store.Put(tasks("Sf,Sf,Sr,Rp")...)
		running(t, store, func() {
			time.Sleep(time.Second)
			store.Put(limit(2))
			time.Sleep(time.Second)
			if store.View().Task("0:Sf") != nil || store.View().Task("2:Sr") == nil {
				t.Error("a lower limit: want the first task gone and the running one left")
			}
			store.Apply(state.Delete(state.KindNode, "n1"))
			time.Sleep(time.Second)
			if store.View().Task("2:Sr") != nil {
				t.Error("a task that was stopping on a deleted node is left")
			}
		})
	})
}

func TestRunPassesErrorsOfTheStoreOn(t *testing.T) {
	lost := errors.New("leadership lost")
	store := statetest.New(tasks("Xs")...)
	store.Fail(lost)
	r, err := New(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); !errors.Is(err, lost) {
		t.Errorf("Run: %v, want %v", err, lost)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New without a store succeeded")
	}
}
