package executor

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

func TestNext(t *testing.T) {
	now := time.Unix(1000, 0)
	old := time.Unix(1, 0)
	created := &engine.Container{Summary: engine.Summary{ID: "c", State: engine.Created}}
	runs := func(h engine.Health) *engine.Container {
		return &engine.Container{Summary: engine.Summary{ID: "c", State: engine.Running, Health: h}, PID: 9}
	}
	ended := func(code int) *engine.Container {
		return &engine.Container{Summary: engine.Summary{ID: "c", State: engine.Exited}, ExitCode: code}
	}
	removing := &engine.Container{Summary: engine.Summary{ID: "c", State: engine.Removing}}
	is := func(s taskstate.State) taskstate.Status { return taskstate.Status{State: s, At: old} }
	to := func(s taskstate.State, message, err string, c *engine.Container) taskstate.Status {
		st := taskstate.Status{State: s, At: now, Message: message, Err: err}
		if c != nil {
			st.ContainerID, st.PID, st.ExitCode = c.ID, c.PID, c.ExitCode
		}
		return st
	}
	for _, c := range []struct {
		name      string
		desired   taskstate.State
		status    taskstate.State
		container *engine.Container
		stale     bool
		unhealthy bool
		want      step
	}{
		{"looks first", taskstate.Remove, taskstate.Running, runs(""), true, false, step{status: is(taskstate.Running), op: look}},
		{"accepts", taskstate.Running, taskstate.Assigned, nil, false, false, step{status: to(taskstate.Accepted, "accepted", "", nil), op: none}},
		{"prepares", taskstate.Ready, taskstate.Accepted, nil, false, false, step{status: to(taskstate.Preparing, "preparing", "", nil), op: prepare}},
		{"prepares again", taskstate.Running, taskstate.Preparing, nil, false, false, step{status: is(taskstate.Preparing), op: prepare}},
		{"makes a lost prepared container again", taskstate.Running, taskstate.Ready, nil, false, false, step{status: is(taskstate.Ready), op: prepare}},
		{"is prepared", taskstate.Ready, taskstate.Preparing, created, false, false, step{status: to(taskstate.Ready, "prepared", "", created), op: none}},
		{"waits when ready", taskstate.Ready, taskstate.Ready, created, false, false, step{status: is(taskstate.Ready), op: none}},
		{"starts", taskstate.Running, taskstate.Ready, created, false, false, step{status: to(taskstate.Starting, "starting", "", created), op: start}},
		{"starts a job", taskstate.Complete, taskstate.Ready, created, false, false, step{status: to(taskstate.Starting, "starting", "", created), op: start}},
		{"runs", taskstate.Running, taskstate.Starting, runs(engine.NoHealth), false, false, step{status: to(taskstate.Running, "started", "", runs("")), op: none}},
		{"runs when healthy", taskstate.Running, taskstate.Starting, runs(engine.Healthy), false, false, step{status: to(taskstate.Running, "started", "", runs("")), op: none}},
		{"is adopted", taskstate.Running, taskstate.Assigned, runs(engine.NoHealth), false, false, step{status: to(taskstate.Running, "started", "", runs("")), op: none}},
		{"waits for health", taskstate.Running, taskstate.Ready, runs(engine.Starting), false, false, step{status: to(taskstate.Starting, "starting", "", runs("")), op: none}},
		{"stops the unhealthy", taskstate.Running, taskstate.Running, runs(engine.Unhealthy), false, false, step{status: is(taskstate.Running), op: stop}},
		{"completes", taskstate.Running, taskstate.Running, ended(0), false, false, step{status: to(taskstate.Complete, "finished", "", ended(0)), op: none}},
		{"fails", taskstate.Running, taskstate.Running, ended(3), false, false, step{status: to(taskstate.Failed, "started", "task: non-zero exit (3)", ended(3)), op: none}},
		{"fails at once", taskstate.Running, taskstate.Starting, ended(1), false, false, step{status: to(taskstate.Failed, "started", "task: non-zero exit (1)", ended(1)), op: none}},
		{"fails for its health", taskstate.Running, taskstate.Running, ended(0), false, true, step{status: to(taskstate.Failed, "started", "dockerexec: unhealthy container", ended(0)), op: none}},
		{"fails before it was healthy", taskstate.Running, taskstate.Starting, ended(137), false, true, step{status: to(taskstate.Failed, "starting", "task: non-zero exit (137): dockerexec: unhealthy container", ended(137)), op: none}},
		{"is destroyed", taskstate.Running, taskstate.Running, nil, false, false, step{status: to(taskstate.Failed, "", "dockerexec: container destroyed", nil), op: none}},
		{"is being destroyed", taskstate.Running, taskstate.Running, removing, false, false, step{status: to(taskstate.Failed, "", "dockerexec: container destroyed", removing), op: none}},
		{"stays failed", taskstate.Running, taskstate.Failed, ended(3), false, false, step{status: is(taskstate.Failed), op: none}},
		{"does not rise again", taskstate.Running, taskstate.Failed, runs(""), false, false, step{status: is(taskstate.Failed), op: stop}},
		{"stays rejected", taskstate.Running, taskstate.Rejected, nil, false, false, step{status: is(taskstate.Rejected), op: none}},
		{"stops", taskstate.Shutdown, taskstate.Running, runs(""), false, false, step{status: is(taskstate.Running), op: stop}},
		{"is shut down", taskstate.Shutdown, taskstate.Running, ended(143), false, false, step{status: to(taskstate.Shutdown, "shutdown", "", ended(143)), op: none}},
		{"is shut down before it starts", taskstate.Shutdown, taskstate.Ready, created, false, false, step{status: to(taskstate.Shutdown, "shutdown", "", created), op: none}},
		{"is shut down before it exists", taskstate.Shutdown, taskstate.Assigned, nil, false, false, step{status: to(taskstate.Shutdown, "shutdown", "", nil), op: none}},
		{"keeps how it ended", taskstate.Shutdown, taskstate.Failed, ended(3), false, false, step{status: is(taskstate.Failed), op: none}},
		{"stops before removal", taskstate.Remove, taskstate.Running, runs(""), false, false, step{status: is(taskstate.Running), op: stop}},
		{"is removed", taskstate.Remove, taskstate.Failed, ended(3), false, false, step{status: is(taskstate.Failed), op: remove}},
		{"is shut down and removed", taskstate.Remove, taskstate.Running, ended(0), false, false, step{status: to(taskstate.Shutdown, "shutdown", "", ended(0)), op: remove}},
		{"is forgotten", taskstate.Remove, taskstate.Shutdown, nil, false, false, step{status: is(taskstate.Shutdown), op: forget}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := next(known{
				task: assignment.Task{Desired: c.desired}, status: is(c.status),
				container: c.container, stale: c.stale, unhealthy: c.unhealthy,
			}, now)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("next (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextWaitsForTheWithdrawal(t *testing.T) {
	now := time.Unix(1000, 0)
	held := known{
		task:      assignment.Task{Desired: taskstate.Shutdown, Networks: []assignment.TaskNetwork{{NetworkID: "n"}}},
		status:    taskstate.Status{State: taskstate.Running},
		container: &engine.Container{Summary: engine.Summary{ID: "c", State: engine.Running}},
		stopBy:    now.Add(time.Second),
	}
	for name, c := range map[string]struct {
		change func(*known)
		op     op
	}{
		"waits":                       {func(*known) {}, none},
		"waits before removal":        {func(k *known) { k.task.Desired = taskstate.Remove }, none},
		"withdrawn, and all arrived":  {func(k *known) { k.task.Withdrawn, k.stopBy = true, now }, stop},
		"withdrawn":                   {func(k *known) { k.task.Withdrawn = true }, none},
		"too late":                    {func(k *known) { k.stopBy = now }, stop},
		"not on a network":            {func(k *known) { k.task.Networks = nil }, stop},
		"was never running":           {func(k *known) { k.status.State = taskstate.Starting }, stop},
		"given up by the managers":    {func(k *known) { k.status.State = taskstate.Failed }, stop},
		"sick":                        {func(k *known) { k.unhealthy = true }, stop},
		"has ended by itself":         {func(k *known) { k.container = nil }, none},
		"not asked to stop, but sick": {func(k *known) { k.task.Desired, k.container.Health = taskstate.Running, engine.Unhealthy }, stop},
	} {
		k := held
		container := *held.container
		k.container = &container
		c.change(&k)
		got := next(k, now)
		waits := c.op == none && k.container != nil
		if got.op != c.op || waits != got.again.Equal(k.stopBy) {
			t.Errorf("%s: %+v, want %q", name, got, c.op)
		}
	}
}

// TestNextComesToRest walks every combination of what can be known: whatever
// the steps bring about, a task never goes back and comes to a point where
// nothing is left to do.
func TestNextComesToRest(t *testing.T) {
	containers := []*engine.Container{nil}
	for _, s := range []engine.State{engine.Created, engine.Running, engine.Exited} {
		for _, h := range []engine.Health{engine.NoHealth, engine.Healthy, engine.Unhealthy} {
			containers = append(containers, &engine.Container{Summary: engine.Summary{ID: "c", State: s, Health: h}})
		}
	}
	for _, want := range []taskstate.State{taskstate.Ready, taskstate.Running, taskstate.Complete, taskstate.Shutdown, taskstate.Remove} {
		for _, status := range taskstate.All() {
			for _, c := range containers {
				for _, files := range []bool{false, true} {
					k := known{task: assignment.Task{Desired: want}, status: taskstate.Status{State: status}, container: c, files: files}
					comesToRest(t, k)
				}
			}
		}
	}
}

func comesToRest(t *testing.T, from known) {
	t.Helper()
	k := from
	rest := false
	for range 20 {
		s := next(k, time.Unix(1000, 0))
		if s.status.State < k.status.State {
			t.Fatalf("from %+v back to %+v", k, s)
		}
		if rest = s.op == forget || s.op == none && same(s.status, k.status); rest {
			break
		}
		k.status = s.status
		k.container = brings(s.op, k.container)
		k.files = k.files && s.op != clean
	}
	if !rest {
		t.Errorf("from %+v: no rest, at %+v", from, k)
	}
	if k.task.Desired == taskstate.Remove && k.container != nil {
		t.Errorf("from %+v: container left", from)
	}
	if over := k.status.State.Terminal() && !running(k.container); over && k.files || !over && k.files != from.files {
		t.Errorf("from %+v: at %+v it has files: %v", from, k, k.files)
	}
}

// brings is what a step that succeeds makes of a container.
func brings(o op, c *engine.Container) *engine.Container {
	at := func(s engine.State) *engine.Container {
		return &engine.Container{Summary: engine.Summary{ID: "c", State: s}}
	}
	switch o {
	case prepare:
		return at(engine.Created)
	case start:
		return at(engine.Running)
	case stop:
		return at(engine.Exited)
	case remove:
		return nil
	default:
		return c
	}
}
