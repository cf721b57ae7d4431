package orchestrator

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// jobOf puts a job "web" that is in its run number n.
func jobOf(mode swarm.ServiceMode, n uint64, options ...func(*swarm.ServiceSpec)) []state.Object {
	s, r := statetest.Service("web", 1, append([]func(*swarm.ServiceSpec){func(s *swarm.ServiceSpec) { s.Mode = mode }}, options...)...)
	s.JobStatus = &swarm.JobStatus{JobIteration: swarm.Version{Index: n}}
	return []state.Object{s, r}
}

func runs(concurrent, total uint64) swarm.ServiceMode {
	return swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &concurrent, TotalCompletions: &total}}
}

func everywhere() swarm.ServiceMode { return swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}} }

// run is a task of a job's run n.
func run(id string, n uint64, slot int, node string, s taskstate.State, options ...func(*state.Task)) *state.Task {
	return task(id, slot, node, append([]func(*state.Task){statetest.Desired(taskstate.Complete), statetest.Observed(s), func(t *state.Task) {
		t.JobIteration = &swarm.Version{Index: n}
	}}, options...)...)
}

func TestPlanJobs(t *testing.T) {
	with := func(objs []state.Object, more ...state.Object) []state.Object { return append(objs, more...) }
	nodes := func(options ...func(*state.Node)) []state.Object {
		return []state.Object{statetest.Node("n1", options...), statetest.Node("n2")}
	}
	two := nodes()
	for name, c := range map[string]struct {
		objs []state.Object
		want string
	}{
		"starts with as many as may run at once": {jobOf(runs(2, 3), 0), "0 - r1 complete/pending; 1 - r1 complete/pending"},
		"and no more than there are to do":       {jobOf(runs(5, 2), 0), "0 - r1 complete/pending; 1 - r1 complete/pending"},
		"nothing to do":                          {jobOf(runs(1, 0), 0), ""},
		"the next when one is complete":          {with(jobOf(runs(1, 3), 0), with(two, run("a", 0, 0, "n1", taskstate.Complete))...), "0 n1 r1 complete/complete; 1 - r1 complete/pending"},
		"complete":                               {with(jobOf(runs(2, 2), 0), with(two, run("a", 0, 0, "n1", taskstate.Complete), run("b", 0, 1, "n1", taskstate.Complete))...), "0 n1 r1 complete/complete; 1 n1 r1 complete/complete"},
		"a failure is tried again":               {with(jobOf(runs(1, 2), 0), with(two, run("a", 0, 0, "n1", taskstate.Failed))...), "0 - r1 ready/pending; 0 n1 r1 shutdown/failed"},
		"or not, if the policy says so":          {with(jobOf(runs(1, 2), 0, condition("none")), with(two, run("a", 0, 0, "n1", taskstate.Failed))...), "0 n1 r1 shutdown/failed; 1 - r1 complete/pending"},
		"what was given up stays so":             {with(jobOf(runs(1, 1), 0, condition("none")), with(two, run("a", 0, 0, "n1", taskstate.Failed, statetest.Desired(taskstate.Shutdown)))...), "0 n1 r1 shutdown/failed"},
		"a lost node's task runs elsewhere":      {with(jobOf(runs(1, 1), 0), with(nodes(statetest.Down), run("a", 0, 0, "n1", taskstate.Running))...), "0 - r1 complete/pending; 0 n1 r1 shutdown/running"},
		"a complete one does not":                {with(jobOf(runs(1, 1), 0), with(nodes(statetest.Down), run("a", 0, 0, "n1", taskstate.Complete))...), "0 n1 r1 complete/complete"},
		"its successor is not needed":            {with(jobOf(runs(1, 1), 0), with(two, run("a", 0, 0, "n1", taskstate.Complete, statetest.Desired(taskstate.Shutdown)), run("b", 0, 0, "n2", taskstate.Running))...), "0 n1 r1 shutdown/complete; 0 n2 r1 shutdown/running"},
		"a new run forgets the last":             {with(jobOf(runs(1, 1), 1), with(two, run("a", 0, 0, "n1", taskstate.Complete), run("b", 0, 1, "n2", taskstate.Running))...), "0 - r1 complete/pending; 0 n1 r1 remove/complete; 1 n2 r1 remove/running"},

		"global: one on each node":                {with(jobOf(everywhere(), 0), two...), "0 n1 r1 complete/pending; 0 n2 r1 complete/pending"},
		"global: once":                            {with(jobOf(everywhere(), 0), with(two, run("a", 0, 0, "n1", taskstate.Complete))...), "0 n1 r1 complete/complete; 0 n2 r1 complete/pending"},
		"global: not on a paused node":            {with(jobOf(everywhere(), 0), nodes(statetest.Paused)...), "0 n2 r1 complete/pending"},
		"global: what a paused node has, it ends": {with(jobOf(everywhere(), 0), with(nodes(statetest.Paused), run("a", 0, 0, "n1", taskstate.Running))...), "0 n1 r1 complete/running; 0 n2 r1 complete/pending"},
		"global: a drained node":                  {with(jobOf(everywhere(), 0), with(nodes(statetest.Drained), run("a", 0, 0, "n1", taskstate.Running))...), "0 n1 r1 shutdown/running; 0 n2 r1 complete/pending"},
		"global: and when it is back":             {with(jobOf(everywhere(), 0), with(two, run("a", 0, 0, "n1", taskstate.Shutdown, statetest.Desired(taskstate.Shutdown)), run("b", 0, 0, "n2", taskstate.Complete))...), "0 n1 r1 complete/pending; 0 n1 r1 shutdown/shutdown; 0 n2 r1 complete/complete"},
		"global: constraints":                     {with(jobOf(everywhere(), 0, constraints("node.id==n2")), two...), "0 n2 r1 complete/pending"},
		"global: a failure":                       {with(jobOf(everywhere(), 0, constraints("node.id==n2")), with(two, run("a", 0, 0, "n2", taskstate.Failed))...), "0 n2 r1 ready/pending; 0 n2 r1 shutdown/failed"},
		"global: given up":                        {with(jobOf(everywhere(), 0, both(constraints("node.id==n2"), condition("none"))), with(two, run("a", 0, 0, "n2", taskstate.Failed, statetest.Desired(taskstate.Shutdown)))...), "0 n2 r1 shutdown/failed"},
		"global: a new run":                       {with(jobOf(everywhere(), 4, constraints("node.id==n2")), with(two, run("a", 3, 0, "n2", taskstate.Complete))...), "0 n2 r1 complete/pending; 0 n2 r1 remove/complete"},
	} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(c.objs...)
			settle(t, store, "web")
			if diff := cmp.Diff(c.want, strings.Join(describe(store.View(), "web"), "; ")); diff != "" {
				t.Errorf("tasks (-want +got):\n%s", diff)
			}
			for task := range store.View().TasksOfService("web") {
				if task.JobIteration == nil {
					t.Errorf("task %s belongs to no run", task.ID)
				}
			}
		})
	}
}
