package executor

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

func TestTaskRunsAndIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		task := aTask("t1", taskstate.Running, "serve")
		h.x.Set(set(task), true)
		h.after(0)
		want := []taskstate.State{taskstate.Accepted, taskstate.Preparing, taskstate.Ready, taskstate.Starting, taskstate.Running}
		if diff := cmp.Diff(want, h.states("t1")); diff != "" {
			t.Fatalf("states (-want +got):\n%s", diff)
		}
		if got := h.last("t1"); got.PID == 0 || got.ContainerID == "" || got.Message != "started" {
			t.Errorf("running status lacks facts: %+v", got)
		}
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(0)
		h.want("t1", taskstate.Shutdown, "")
		if got := h.containers(); len(got) != 1 || got[0].State != engine.Exited {
			t.Errorf("after shutdown: %+v, want one exited container", got)
		}
		h.x.Set(nil, true)
		h.after(0)
		if got := h.containers(); len(got) != 0 {
			t.Errorf("after removal: %+v", got)
		}
	})
}

func TestDesiredReadyPreparesAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		task := aTask("t1", taskstate.Ready, "serve")
		h.x.Set(set(task), true)
		h.after(time.Minute)
		h.want("t1", taskstate.Ready, "")
		if got := h.containers(); len(got) != 1 || got[0].State != engine.Created {
			t.Fatalf("containers: %+v, want one that is created", got)
		}
		h.x.Set(set(desired(task, taskstate.Running)), true)
		h.after(0)
		h.want("t1", taskstate.Running, "")
	})
}

func TestHowTasksEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		act   func(h *harness, id string)
		state taskstate.State
		err   string
	}{
		{"exit 0", []string{"exit", "0"}, nil, taskstate.Complete, ""},
		{"exit 3", []string{"exit", "3"}, nil, taskstate.Failed, "task: non-zero exit (3)"},
		{"no start", []string{"unstarted"}, nil, taskstate.Failed, "starting container failed: executable file not found in $PATH: invalid argument"},
		{"killed", []string{"serve"}, func(h *harness, id string) { h.fake.Kill(id, 137, false) }, taskstate.Failed, "task: non-zero exit (137)"},
		{"out of memory", []string{"serve"}, func(h *harness, id string) { h.fake.Kill(id, 137, true) }, taskstate.Failed, "task: non-zero exit (137): out of memory"},
		{"unhealthy", []string{"serve"}, func(h *harness, id string) { h.fake.SetHealth(id, engine.Unhealthy) }, taskstate.Failed, "dockerexec: unhealthy container"},
		{"unhealthy, ignores", []string{"ignore"}, func(h *harness, id string) { h.fake.SetHealth(id, engine.Unhealthy) }, taskstate.Failed, "task: non-zero exit (137): dockerexec: unhealthy container"},
		{"removed by hand", []string{"serve"}, func(h *harness, id string) { _ = h.fake.Remove(h.t.Context(), id) }, taskstate.Failed, "dockerexec: container destroyed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, engine.NewFake("probe"))
				h.x.Set(set(aTask("t1", taskstate.Running, c.args...)), true)
				h.after(0)
				if c.act != nil {
					h.want("t1", taskstate.Running, "")
					c.act(h, h.last("t1").ContainerID)
				}
				h.after(11 * time.Second) // Docker's grace period is 10 s
				h.want("t1", c.state, c.err)
			})
		})
	}
}

func TestHealthCheckHoldsTaskInStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		task := with(aTask("t1", taskstate.Running, "serve"), func(c *swarm.ContainerSpec) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "ok"}, Interval: 3 * time.Second}
		})
		h.x.Set(set(task), true)
		h.after(2 * time.Second)
		h.want("t1", taskstate.Starting, "")
		h.after(2 * time.Second)
		h.want("t1", taskstate.Running, "")
	})
}

func TestBrokenSpecIsRejected(t *testing.T) {
	for name, broken := range map[string]assignment.Task{
		"image missing": with(aTask("t1", taskstate.Running), func(c *swarm.ContainerSpec) { c.Image = "nowhere/app" }),
		"template":      with(aTask("t1", taskstate.Running), func(c *swarm.ContainerSpec) { c.Env = []string{"A={{.Node.Nope}}"} }),
		"no spec":       {ID: "t1", Desired: taskstate.Running, Status: taskstate.Status{State: taskstate.Assigned}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, engine.NewFake("probe"))
				h.x.Set(set(broken, aTask("t2", taskstate.Running)), true)
				h.after(time.Second)
				if got := h.last("t1"); got.State != taskstate.Rejected || got.Err == "" {
					t.Errorf("broken task: %+v, want rejected with a reason", got)
				}
				h.want("t2", taskstate.Running, "")
			})
		})
	}
}

func TestTemporaryErrorsAreTriedAgain(t *testing.T) {
	for _, method := range []string{"Create", "Start", "Stop", "Remove", "Inspect"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, engine.NewFake("probe"))
				h.after(0)
				h.fake.Fail(method, 3, fmt.Errorf("busy: %w", errdefs.ErrUnavailable))
				task := aTask("t1", taskstate.Running, "serve")
				h.x.Set(set(task), true)
				h.after(time.Minute)
				h.want("t1", taskstate.Running, "")
				h.x.Set(nil, true)
				h.after(time.Minute)
				h.want("t1", taskstate.Shutdown, "")
				if got := h.containers(); len(got) != 0 {
					t.Errorf("left behind: %+v", got)
				}
			})
		})
	}
}

func TestTriesGrowSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.fake.Fail("Create", -1, fmt.Errorf("busy: %w", errdefs.ErrUnavailable))
		h.x.Set(set(aTask("t1", taskstate.Running)), true)
		h.after(time.Hour)
		h.want("t1", taskstate.Preparing, "busy: unavailable")
		if got := h.fake.Calls("Create"); got < 700 || got > 1500 { // 2.5 to 5 s apart
			t.Errorf("%d tries in an hour", got)
		}
		h.fake.Fail("Create", 0, nil)
		h.after(6 * time.Second)
		h.want("t1", taskstate.Running, "")
	})
}

func TestLostReportsAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		task := aTask("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(0)
		reports := len(h.seen["t1"])
		task.Status = h.last("t1")
		h.x.Set(set(task), true)
		h.after(0)
		if got := len(h.seen["t1"]); got != reports {
			t.Errorf("%d reports of what the managers know", got-reports)
		}
		task.Status = taskstate.Status{State: taskstate.Assigned}
		h.x.Set(set(task), true)
		h.after(0)
		if got := len(h.seen["t1"]); got != reports+1 || h.last("t1").State != taskstate.Running {
			t.Errorf("%d more reports, last %+v; want running once more", got-reports, h.last("t1"))
		}
	})
}

func TestRestartedDaemonAdoptsContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		stays, ends := aTask("t1", taskstate.Running), aTask("t2", taskstate.Running)
		h.x.Set(set(stays, ends), true)
		h.after(0)
		before := h.last("t1")
		stays.Status, ends.Status = before, h.last("t2")
		h.halt()
		h.fake.Kill(ends.Status.ContainerID, 7, false)
		starts := h.fake.Calls("Start")
		h.boot()
		h.x.Set(set(stays, ends), false)
		h.after(time.Minute)
		h.want("t2", taskstate.Failed, "task: non-zero exit (7)")
		if got := h.last("t1"); !same(got, before) || h.fake.Calls("Start") != starts || h.fake.Calls("Stop") != 0 {
			t.Errorf("adopted task: %+v, want %+v untouched", got, before)
		}
	})
}

func TestUnknownContainersGoOnceAllIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.x.Set(set(aTask("t1", taskstate.Running), aTask("t2", taskstate.Running)), true)
		h.after(0)
		h.halt()
		h.boot()
		h.x.Set(set(aTask("t1", taskstate.Running)), false)
		h.after(time.Minute)
		if got := len(h.containers()); got != 2 {
			t.Fatalf("%d containers before all is known, want 2", got)
		}
		h.x.Set(set(aTask("t1", taskstate.Running)), true)
		h.after(time.Second)
		if got := h.containers(); len(got) != 1 || got[0].Labels[TaskLabel] != "t1" {
			t.Errorf("containers: %+v, want that of t1", got)
		}
	})
}

func TestEngineRestartKeepsLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.x.Set(set(aTask("t1", taskstate.Running)), true)
		h.after(0)
		h.fake.Down(true)
		h.after(0)
		h.x.Set(set(aTask("t1", taskstate.Running), aTask("t2", taskstate.Running)), true)
		h.after(time.Hour)
		h.want("t1", taskstate.Running, "")
		if got := h.last("t2"); got.State != 0 {
			t.Errorf("a task moved without an engine: %+v", got)
		}
		h.fake.Down(false)
		h.after(10 * time.Second)
		h.want("t1", taskstate.Failed, "task: non-zero exit (137)")
		h.want("t2", taskstate.Running, "")
	})
}

func TestLostEventsAreMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.x.Set(set(aTask("t1", taskstate.Running)), true)
		h.after(0)
		h.fake.KillSilently(h.last("t1").ContainerID, 1)
		h.after(auditPeriod + time.Second)
		h.want("t1", taskstate.Failed, "task: non-zero exit (1)")
	})
}

func TestEndedTaskDoesNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		h.x.Set(set(aTask("t1", taskstate.Running)), true)
		h.after(0)
		id := h.last("t1").ContainerID
		h.fake.Kill(id, 1, false)
		h.after(0)
		if err := h.fake.Start(t.Context(), id); err != nil { // somebody's docker start
			t.Fatal(err)
		}
		h.after(auditPeriod + time.Second)
		h.want("t1", taskstate.Failed, "task: non-zero exit (1)")
		if got := h.containers(); got[0].State != engine.Exited {
			t.Errorf("container of an ended task is %s", got[0].State)
		}
	})
}

func TestShutdownInterruptsPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := engine.NewFake()
		fake.Publish("probe")
		fake.Delay("Pull", time.Hour)
		h := newHarness(t, fake)
		task := aTask("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(time.Minute)
		h.want("t1", taskstate.Preparing, "")
		h.x.Set(set(desired(task, taskstate.Shutdown)), true)
		h.after(0)
		h.want("t1", taskstate.Shutdown, "")
	})
}

func TestGivenUpByManagersIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, engine.NewFake("probe"))
		task := aTask("t1", taskstate.Running)
		h.x.Set(set(task), true)
		h.after(0)
		task.Status = taskstate.Status{State: taskstate.Rejected, Err: "assigned node no longer meets constraints"}
		h.x.Set(set(task), true)
		h.after(0)
		if got := h.containers(); got[0].State != engine.Exited {
			t.Errorf("container of a rejected task is %s", got[0].State)
		}
	})
}

type panicking struct{ Engine }

func TestPanicEndsTheTaskOnly(t *testing.T) {
	x := &Executor{log: discard(), cfg: Config{Engine: panicking{}}, slots: newSlots()}
	_, err := x.carefully(t.Context(), order{op: look, id: "x"})
	if !errors.Is(err, errdefs.ErrInternal) {
		t.Errorf("panic in a step: %v, want an internal error", err)
	}
}
