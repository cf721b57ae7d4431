package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/manager/api"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// ended is a task whose container has ended some seconds ago.
func ended(s taskstate.State, ago time.Duration, exit int, err string) func(*state.Task) {
	return func(t *state.Task) {
		t.Desired = taskstate.Shutdown
		t.Status = taskstate.Status{State: s, At: time.Now().Add(-ago), ExitCode: exit, Err: err, ContainerID: "c-" + t.ID}
		t.CreatedAt = t.Status.At
	}
}

func TestWhyHearsTheContainerThatItIsAbout(t *testing.T) {
	web, webRev := statetest.Service("web", 3)
	h := newHarness(t, web, webRev, statetest.Node("n1"),
		statetest.Task("old", "web", 1, "n1", ended(taskstate.Failed, time.Minute, 1, "task: non-zero exit (1)")),
		statetest.Task("last", "web", 1, "n1", ended(taskstate.Failed, time.Second, 1, "task: non-zero exit (1): dockerexec: unhealthy container")),
		statetest.Task("waiting", "web", 1, "n1", func(t *state.Task) {
			t.Desired, t.Status.State, t.StartAfter = taskstate.Ready, taskstate.Ready, time.Now().Add(20*time.Second)
		}),
		statetest.Task("starting", "web", 2, "n1", statetest.Observed(taskstate.Starting), func(t *state.Task) { t.Status.ContainerID = "c" }),
		statetest.Task("running", "web", 3, "n1", func(t *state.Task) { t.Status.ContainerID = "c" }),
		statetest.Task("unmade", "web", 4, "n1", ended(taskstate.Rejected, time.Second, 0, "No such image"), func(t *state.Task) { t.Status.ContainerID = "" }))
	h.witness = func(t *state.Task) api.Testimony {
		return api.Testimony{
			Output: []string{"\x1b[31m" + t.ID + "\x1b[0m\n", strings.Repeat("x", 1000)}, OOM: t.ID == "old",
			Health: []api.Checkup{{ExitCode: 1, Output: "\x1b[1mfirst\r\n\n\tsecond\x07\n"}},
		}
	}
	for ref, about := range map[string]string{"old": "old", "last": "last", "waiting": "last", "starting": "starting", "running": "", "unmade": ""} {
		got := h.why(ref).Container
		if about == "" {
			if got != nil {
				t.Errorf("%s: %+v, want none", ref, got)
			}
			continue
		}
		name := map[string]string{"starting": "web.2."}[about]
		if name == "" {
			name = "web.1."
		}
		want := &api.Testimony{
			Task: name + about, Output: []string{about, strings.Repeat("x", 400) + "…"}, OOM: about == "old",
			Health: []api.Checkup{{ExitCode: 1, Output: "first\n second"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ref, diff)
		}
	}
	if got := h.why("old"); !strings.Contains(strings.Join(got.Evidence, "\n"), "the kernel has killed processes of task web.1.old for lack of memory") {
		t.Errorf("killed by the kernel: %q", got.Evidence)
	}
}

func TestWhySaysWhatAnEndMeans(t *testing.T) {
	limit := func(s *swarm.ServiceSpec) {
		s.TaskTemplate.Resources = &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 64 << 20}}
	}
	for _, c := range []struct {
		exit       int
		err        string
		spec       func(*swarm.ServiceSpec)
		cause, fix string
	}{
		{1, "task: non-zero exit (1)", nil, "task: non-zero exit (1)", "read what it said: shoal logs t1"},
		{3, "", nil, "it failed on node n1 (exit code 3)", "read what it said"},
		{126, "task: non-zero exit (126)", nil, "(126): the program is there but cannot be executed", "check the command"},
		{127, "task: non-zero exit (127)", nil, "(127): the program, or one that it runs, was not found", "check the command"},
		{134, "task: non-zero exit (134)", nil, "(134): it aborted (SIGABRT)", "read what it said"},
		{137, "task: non-zero exit (137)", nil, "(137): killed (SIGKILL)", "find out who killed it"},
		{139, "task: non-zero exit (139)", nil, "(139): segmentation fault (SIGSEGV)", "read what it said"},
		{143, "task: non-zero exit (143)", nil, "(143): ended by SIGTERM", "read what it said"},
		{137, "task: non-zero exit (137): out of memory", limit, "(137): out of memory", "it needs more than its limit of 64MiB: docker service update --limit-memory 128MiB web"},
		{137, "task: non-zero exit (137): out of memory", nil, "out of memory", "it has no limit, so its host was short of memory"},
		{137, "task: non-zero exit (137): dockerexec: unhealthy container", limit, "dockerexec: unhealthy container", "see what its health check said"},
	} {
		options := []func(*swarm.ServiceSpec){}
		if c.spec != nil {
			options = append(options, c.spec)
		}
		web, webRev := statetest.Service("web", 1, options...)
		h := newHarness(t, web, webRev, statetest.Node("n1"), statetest.Task("t1", "web", 1, "n1", ended(taskstate.Failed, 0, c.exit, c.err)))
		if got := h.why("t1"); !strings.HasSuffix(got.Cause, c.cause) || !strings.HasPrefix(got.Fix, c.fix) {
			t.Errorf("%d %s: cause %q, fix %q; want %q, %q", c.exit, c.err, got.Cause, got.Fix, c.cause, c.fix)
		}
	}
}

// An image that cannot be pulled ends tasks before they were to start: the next
// try is when that time comes.
func TestWhyCountsDownToTheNextTry(t *testing.T) {
	attempts, delay, window := uint64(7), time.Second, time.Minute
	for _, c := range []struct {
		policy *swarm.RestartPolicy
		want   string
	}{
		{nil, "restarting in 30s (restart 3; the delay doubles with each quick failure, up to 5m)"},
		{&swarm.RestartPolicy{MaxAttempts: &attempts, Delay: &delay, Window: &window}, "restarting in 30s (restart 3, of 7 at most within 1m0s; the delay doubles with each quick failure, up to 5m)"},
		{&swarm.RestartPolicy{Delay: new(time.Hour)}, "restarting in 30s (restart 3)"},
	} {
		web, webRev := statetest.Service("web", 1, func(s *swarm.ServiceSpec) { s.TaskTemplate.RestartPolicy = c.policy })
		h := newHarness(t, web, webRev, statetest.Node("n1"),
			statetest.Task("t1", "web", 1, "n1", ended(taskstate.Rejected, time.Second, 0, "No such image: web:1"), func(t *state.Task) {
				t.Desired, t.StartAfter, t.Restarts = taskstate.Ready, time.Now().Add(30*time.Second), state.Restarts{Count: 2, Quick: 2}
			}))
		got := h.why("web")
		if want := "task web.1.t1: node n1 could not start it: No such image: web:1; " + c.want; got.Cause != want || got.RetryAt == nil || !strings.HasPrefix(got.Fix, "check the name and tag") {
			t.Errorf("%+v\nwant %q", got, want)
		}
	}
}

func TestWhyTellsOfAnUpdateThatDidNotGoThrough(t *testing.T) {
	began := time.Now().Add(-time.Minute)
	web, webRev := statetest.Service("web", 1)
	web.Revision, web.UpdateStatus = 2, &swarm.UpdateStatus{State: swarm.UpdateStateRollbackCompleted, StartedAt: &began, Message: "rollback completed"}
	second := *webRev
	second.Number = 2
	h := newHarness(t, web, webRev, &second, statetest.Node("n1"),
		statetest.Task("before", "web", 1, "n1", ended(taskstate.Failed, time.Hour, 1, "long ago")),
		statetest.Task("bad", "web", 1, "n1", ended(taskstate.Failed, time.Second, 2, "task: non-zero exit (2)")),
		statetest.Task("good", "web", 1, "n1", func(t *state.Task) { t.Revision = 2 }))
	h.witness = func(*state.Task) api.Testimony { return api.Testimony{Output: []string{"no such flag"}} }
	got := h.why("web")
	want := "all tasks run, but its last update did not go through: task web.1.bad: it failed on node n1: task: non-zero exit (2)"
	if got.Cause != want || got.Container == nil || got.Container.Task != "web.1.bad" || !strings.Contains(strings.Join(got.Evidence, "\n"), "the update is rollback completed: rollback completed") {
		t.Errorf("%+v\nwant %q", got, want)
	}
	for _, u := range []*swarm.UpdateStatus{nil, {State: swarm.UpdateStateCompleted, StartedAt: &began}, {State: swarm.UpdateStateUpdating, StartedAt: &began}} {
		web.UpdateStatus = u
		h.store.Put(web)
		if got := h.why("web"); got.Cause != "all tasks run" || got.Container != nil {
			t.Errorf("%+v: %+v", u, got)
		}
	}
}
