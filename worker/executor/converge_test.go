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
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

// happening is one thing that befalls a node.
type happening struct {
	What string
	Task int
	N    int
}

func happenings() *rapid.Generator[[]happening] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) happening {
		return happening{
			What: rapid.SampledFrom([]string{
				"assign", "assign", "assign", "raise", "raise", "withdraw", "drop", "kill", "lose", "lose", "remove", "cut", "restart", "sick",
				"engine down", "engine up", "fail", "fail", "slow", "reboot", "wait", "wait", "wait",
			}).Draw(t, "what"),
			Task: rapid.IntRange(0, 5).Draw(t, "task"),
			N:    rapid.IntRange(0, 30).Draw(t, "n"),
		}
	}), 1, 60)
}

// TestNodeConverges lets anything happen, then leaves the node in peace: its
// containers must be those that are desired, and no task may ever have gone
// back (the harness sees to that).
func TestNodeConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := happenings().Draw(rt, "happenings")
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = play(t, all) })
		if len(faults) > 0 {
			rt.Fatalf("%q", faults)
		}
	})
}

// world is a node with what its managers want of it.
type world struct {
	*harness
	tasks map[int]*assignment.Task
	made  int
	down  bool
}

func play(t *testing.T, all []happening) []string {
	fake := engine.NewFake("probe")
	networks := testNetworks(t, fake)
	networks.attachment.Endpoints[0].Addrs = nil // several tasks cannot have the same
	w := &world{harness: newHarnessOn(t, fake, networks), tasks: map[int]*assignment.Task{}}
	for _, h := range all {
		w.happen(h)
	}
	for _, method := range methods() {
		w.fake.Fail(method, 0, nil)
	}
	if w.down {
		w.fake.Down(false)
	}
	w.send()
	w.after(5 * time.Minute)
	return w.check()
}

func methods() []string {
	return []string{"Create", "Start", "Stop", "Remove", "Inspect", "List", "Watch", "Describe", "Image", "Connect"}
}

func (w *world) happen(h happening) {
	task := w.tasks[h.Task]
	id := ""
	if task != nil {
		id = w.last(task.ID).ContainerID
	}
	switch h.What {
	case "assign":
		w.assign(h)
	case "withdraw":
		if task != nil {
			task.Withdrawn = task.Desired >= taskstate.Shutdown
			w.send()
		}
	case "raise":
		if task != nil {
			task.Desired = map[taskstate.State]taskstate.State{
				taskstate.Ready: taskstate.Running, taskstate.Running: taskstate.Shutdown,
			}[task.Desired]
			if task.Desired == 0 {
				task.Desired = taskstate.Remove
			}
			w.send()
		}
	case "drop":
		delete(w.tasks, h.Task)
		w.send()
	case "kill":
		w.fake.Kill(id, h.N%3, h.N%2 == 0)
	case "lose":
		if h.N%4 == 0 {
			w.fake.LoseSilently(id)
		}
		w.fake.KillSilently(id, h.N%3)
	case "cut":
		w.fake.Cut([]string{"Create", "Start", "Stop", "Remove", "Connect"}[h.N%5], h.N/5)
	case "remove":
		_ = w.fake.Remove(w.t.Context(), id) // it may be gone
	case "restart":
		_ = w.fake.Start(w.t.Context(), id) // it may be gone
	case "sick":
		w.fake.SetHealth(id, engine.Unhealthy)
	case "engine down", "engine up":
		if down := h.What == "engine down"; down != w.down {
			w.down = down
			w.fake.Down(down)
		}
	case "fail":
		kinds := []error{errdefs.ErrUnavailable, errdefs.ErrInternal, errors.New("odd"), errdefs.ErrConflict, errdefs.ErrNotFound}
		w.fake.Fail(methods()[h.N%len(methods())], h.N/5, fmt.Errorf("fault: %w", kinds[h.N/len(methods())%len(kinds)]))
	case "slow":
		w.fake.Delay(methods()[h.N%len(methods())], time.Duration(h.N)*time.Second)
	case "reboot":
		w.halt()
		w.boot()
		w.send()
	case "wait":
		w.after(time.Duration(h.N) * 300 * time.Millisecond)
	}
}

func (w *world) assign(h happening) {
	if w.tasks[h.Task] != nil {
		return
	}
	w.made++
	programs := [][]string{{"serve"}, {"serve"}, {"ignore"}, {"exit", "0"}, {"exit", "3"}, {"unstarted"}}
	task := aTask(fmt.Sprintf("t%d", w.made), taskstate.Running, programs[h.N%len(programs)]...)
	if h.N%4 == 0 {
		task.Desired = taskstate.Ready
	}
	if h.N%2 == 0 {
		task.Networks = []assignment.TaskNetwork{{NetworkID: "web"}}
	}
	if check := []string{"", "", "ok", "bad"}[h.N%4]; check != "" {
		task = with(task, func(c *swarm.ContainerSpec) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", check}, Interval: time.Second}
		})
	}
	w.tasks[h.Task] = &task
	w.send()
}

// send is what the managers say now: all tasks, with what was last heard.
func (w *world) send() {
	var tasks []assignment.Task
	for _, t := range w.tasks {
		task := *t
		if s := w.last(t.ID); s.State != 0 {
			task.Status = s
		}
		tasks = append(tasks, task)
	}
	w.x.Set(tasks, true)
}

func (w *world) check() []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	byTask := map[string]engine.Container{}
	for _, c := range w.containers() {
		byTask[c.Labels[TaskLabel]] = c
	}
	if len(byTask) != len(w.containers()) {
		fault("two containers of one task: %+v", w.containers())
	}
	for _, t := range w.tasks {
		c, there := byTask[t.ID]
		delete(byTask, t.ID)
		s := w.last(t.ID)
		runs := there && c.State == engine.Running
		switch {
		case there && c.State == engine.Running && c.Partial:
			fault("%s: runs without all of its networks: %+v", t.ID, c)
		case t.Desired == taskstate.Remove && there:
			fault("%s: container of a removed task: %+v", t.ID, c)
		case t.Desired >= taskstate.Shutdown && (runs || !s.State.Terminal()):
			fault("%s: wanted down: runs %v, status %+v", t.ID, runs, s)
		case s.State.Terminal() && runs:
			fault("%s: ended and runs: %+v", t.ID, s)
		case s.State.Terminal():
		case t.Desired == taskstate.Running && (s.State != taskstate.Running || !runs):
			fault("%s: wanted running: runs %v, status %+v", t.ID, runs, s)
		case t.Desired == taskstate.Ready && s.State != taskstate.Ready && s.State != taskstate.Running:
			fault("%s: wanted ready: status %+v", t.ID, s)
		}
	}
	for id, c := range byTask {
		fault("orphan of %s: %+v", id, c)
	}
	return faults
}
