package scheduler

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// steadyAfter is how long every task of a service has to have run before one of
// them moves: within that time a failure counts as quick (package restart). A
// task that was moved has to bear up before the next one follows.
const steadyAfter = 10 * time.Second

// calm is what there is to say of a service before any of its tasks may move.
type calm struct {
	tasks []*state.Task // that may be moved
	held  string        // why none may be; "": they may
	under bool          // a move is under way
	until time.Time     // when held ends by itself; zero: it takes a change
	soon  bool          // that is in seconds
}

// calmOf looks at a service. One that is being updated, or lacks a healthy task,
// has none to spare: what serves in it stays where it is.
func calmOf(v *state.View, s *state.Service, now time.Time) calm {
	switch {
	case s.Spec.Mode.Replicated == nil:
		return calm{held: "only replicated services are rebalanced"}
	case s.UpdateStatus != nil && s.UpdateStatus.CompletedAt == nil:
		return calm{held: fmt.Sprintf("its update is %s", s.UpdateStatus.State)}
	}
	if why := rooted(&s.Spec); why != "" {
		return calm{held: why}
	}
	return calmTasks(v, s, now)
}

func calmTasks(v *state.View, s *state.Service, now time.Time) (c calm) {
	slots, running, steady := map[int]bool{}, 0, time.Time{}
	for t := range v.TasksOfService(s.ID) {
		switch {
		case t.Desired > taskstate.Complete:
			continue
		case t.Moves != "" && serves(v.Task(t.Moves)):
			return calm{under: true, held: fmt.Sprintf("task %s.%d is being moved", s.Spec.Name, t.Slot)}
		}
		if n := v.Node(t.NodeID); t.Status.State == taskstate.Running && n != nil && n.Status.State == swarm.NodeStateReady {
			running++
		}
		slots[t.Slot] = true
		c.tasks = append(c.tasks, t)
		c.until, steady = later(c.until, t.Unmoved.Until), later(steady, steadyAt(t))
	}
	want := 1
	if n := s.Spec.Mode.Replicated.Replicas; n != nil {
		want = int(*n) //nolint:gosec // the API bounds it
	}
	switch {
	case running != want || len(slots) != want || len(c.tasks) != want:
		return calm{held: fmt.Sprintf("%d of its %d tasks run", running, want)}
	case now.Before(c.until):
		return calm{held: "a move was given up lately: " + lastFailure(c.tasks), until: c.until}
	case now.Before(steady):
		return calm{held: fmt.Sprintf("not all of its tasks have run for %s yet", steadyAfter), until: steady, soon: true}
	}
	return calm{tasks: c.tasks}
}

// steadyAt is when a task will have run for long enough, by the clock of its node
// or of the managers, whichever says so first. One that is marked already has.
func steadyAt(t *state.Task) time.Time {
	if t.MoveTo != "" {
		return time.Time{}
	}
	since := t.UpdatedAt
	if at := t.Status.At; at.Before(since) {
		since = at
	}
	return since.Add(steadyAfter)
}

// serves reports whether a task is one that another may take the place of.
func serves(t *state.Task) bool {
	return t != nil && t.Desired <= taskstate.Complete && !t.Status.State.Terminal()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func lastFailure(tasks []*state.Task) (text string) {
	var last time.Time
	for _, t := range tasks {
		if t.Unmoved.Until.After(last) {
			last, text = t.Unmoved.Until, t.Unmoved.Err
		}
	}
	return text
}

// rooted says what ties tasks to the node that they are on: data that they may
// have written there. What they can only read, they can read on any node that
// the service may be placed on.
func rooted(spec *swarm.ServiceSpec) string {
	if spec.TaskTemplate.ContainerSpec == nil {
		return ""
	}
	for _, m := range spec.TaskTemplate.ContainerSpec.Mounts {
		switch {
		case m.ReadOnly:
		case m.Type == mount.TypeBind:
			return fmt.Sprintf("its tasks write to %s on their node", m.Source)
		case m.Type == mount.TypeVolume && local(m):
			return fmt.Sprintf("its tasks have a volume on their node, at %s", m.Target)
		}
	}
	return ""
}

// local reports whether a volume is on the disk of its node. The local driver
// mounts file servers too.
func local(m mount.Mount) bool {
	if m.VolumeOptions == nil || m.VolumeOptions.DriverConfig == nil {
		return true
	}
	d := m.VolumeOptions.DriverConfig
	if d.Name != "" && d.Name != "local" {
		return false
	}
	kind := d.Options["type"]
	return !strings.HasPrefix(kind, "nfs") && kind != "cifs"
}
