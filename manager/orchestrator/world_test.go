package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/manager/orchestrator"
	"shoal/manager/reaper"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// world is a simulated cluster: the real orchestrator and reaper on an
// in-memory store, with a simple scheduler and simple workers. It runs inside
// a synctest bubble.
type world struct {
	store  *statetest.Store
	seen   uint64
	tick   time.Duration   // how often schedulers and workers take a step
	faint  map[string]bool // nodes whose workers do nothing
	unsure map[string]bool // nodes whose tasks may not have stopped when asked
	doomed []int           // slots whose tasks fail as their image says; nil: all
	surged bool            // a start-first update was allowed
	moved  bool            // tasks were moved to other nodes
	stops  map[string]int  // by task: steps since it was asked to stop
	err    error           // the first rule that was broken
}

// newWorld starts a cluster and its first term.
func newWorld(objs ...state.Object) (w *world, stop func() error) {
	w = &world{store: statetest.New(objs...), faint: map[string]bool{}, unsure: map[string]bool{}, stops: map[string]int{}, tick: 100 * time.Millisecond}
	return w, w.lead()
}

// lead runs the loops of a term; stop ends it and returns what they, or a rule
// of the world, failed with.
func (w *world) lead() (stop func() error) {
	o, err := orchestrator.New(orchestrator.Config{Store: w.store, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	r, err := reaper.New(reaper.Config{Store: w.store})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	results := make([]error, 2)
	running.Go(func() { results[0] = o.Run(ctx) })
	running.Go(func() { results[1] = r.Run(ctx) })
	return func() error {
		cancel()
		running.Wait()
		for i, err := range results {
			if errors.Is(err, context.Canceled) {
				results[i] = nil
			}
		}
		return errors.Join(append(results, w.err)...)
	}
}

// pass lets the cluster live for d.
func (w *world) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(w.tick) // virtual time
		w.check()
		w.step()
	}
}

// broken notes the first broken rule.
func (w *world) broken(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// step is one move of the scheduler and of each worker.
func (w *world) step() {
	w.update(func(v *state.View) []state.Change { return w.moves(v) })
}

func (w *world) update(plan func(*state.View) []state.Change) {
	err := w.store.Update(context.Background(), func(v *state.View) ([]state.Change, error) { return plan(v), nil })
	if err != nil {
		w.broken("update: %v", err)
	}
}

func (w *world) moves(v *state.View) (changes []state.Change) {
	load := map[string]int{}
	for t := range v.Tasks() {
		if t.Desired <= taskstate.Complete && !t.Status.State.Terminal() {
			load[t.NodeID]++
		}
	}
	for t := range v.Tasks() {
		c := *t
		if t.Status.State == taskstate.Pending {
			if t.Desired > taskstate.Complete || !w.schedule(v, &c, load) {
				continue
			}
		} else if n := v.Node(t.NodeID); n == nil || w.faint[n.ID] || w.slow(t) || !w.work(v, &c) {
			continue
		}
		c.Status.At = time.Now()
		changes = append(changes, state.Put(&c))
	}
	return changes
}

func (w *world) schedule(v *state.View, t *state.Task, load map[string]int) bool {
	best := ""
	for n := range v.Nodes() {
		fits := n.Spec.Availability == swarm.NodeAvailabilityActive && n.Status.State == swarm.NodeStateReady
		if fits && (t.NodeID == "" || t.NodeID == n.ID) && (best == "" || load[n.ID] < load[best]) {
			best = n.ID
		}
	}
	if best == "" {
		return false
	}
	load[best]++
	t.NodeID, t.Status.State = best, taskstate.Assigned
	return true
}

// slow lets a running task take some steps to stop.
func (w *world) slow(t *state.Task) bool {
	if t.Status.State != taskstate.Running || t.Desired <= taskstate.Complete {
		return false
	}
	w.stops[t.ID]++
	return w.stops[t.ID] < 8
}

// work is one step of a worker with a task; the image says how the task fares.
func (w *world) work(v *state.View, t *state.Task) bool {
	image, _, numbered := strings.Cut(v.Revision(t.ServiceID, t.Revision).Spec.TaskTemplate.ContainerSpec.Image, " ")
	if numbered && !slices.Contains(w.doomed, t.Slot) {
		image = "good"
	}
	switch s := t.Status.State; {
	case s.Terminal():
		return false
	case t.Desired > taskstate.Complete:
		t.Status.State = taskstate.Shutdown
	case s == taskstate.Assigned:
		t.Status.State = taskstate.Preparing
	case s == taskstate.Preparing && image == "missing":
		t.Status.State, t.Status.Err = taskstate.Rejected, "no such image"
	case s == taskstate.Preparing:
		t.Status.State = taskstate.Ready
	case s == taskstate.Ready && t.Desired > taskstate.Ready:
		t.Status.State = taskstate.Running
	case s == taskstate.Running && image == "crash":
		t.Status.State, t.Status.Err = taskstate.Failed, "task: non-zero exit (1)"
	case s == taskstate.Running && t.Desired == taskstate.Complete:
		t.Status.State = taskstate.Complete
	default:
		return false
	}
	return true
}

// check holds what must be true at any time against the state.
func (w *world) check() {
	v := w.store.View()
	events, _ := v.Since(w.seen)
	w.seen = v.Index()
	for _, e := range events {
		old, _ := e.Old.(*state.Task)
		now, _ := e.New.(*state.Task)
		if old != nil && now != nil && (now.Status.State < old.Status.State || now.Desired < old.Desired || now.Revision != old.Revision) {
			w.broken("task %s went back from %v/%v to %v/%v", now.ID, old.Desired, old.Status.State, now.Desired, now.Status.State)
		}
		if old != nil && now == nil && old.Desired <= taskstate.Running {
			w.broken("task %s was deleted while wanted", old.ID)
		}
	}
	for s := range v.Services() {
		if s.JobStatus == nil {
			w.checkService(v, s)
		}
	}
}

func (w *world) checkService(v *state.View, s *state.Service) {
	type key struct {
		slot int
		node string
	}
	slots, meant, alive, running := map[key]int{}, map[key]int{}, map[key]int{}, 0
	for n := range w.faint {
		w.unsure[n] = true
	}
	for t := range v.TasksOfService(s.ID) {
		k := key{slot: t.Slot}
		if t.Slot == 0 {
			k.node = t.NodeID
		}
		if t.Status.State == taskstate.Running && t.Desired < taskstate.Remove && !w.unsure[t.NodeID] && v.Node(t.NodeID) != nil {
			alive[k]++
		}
		if t.Desired > taskstate.Running {
			continue
		}
		slots[k]++
		if t.Desired > taskstate.Ready {
			meant[k]++
		}
		if t.Status.State == taskstate.Running {
			running++
		}
	}
	want, most := desired(v, s), 1
	if w.moved {
		most, w.surged = 2, true
	}
	for _, config := range []*swarm.UpdateConfig{s.Spec.UpdateConfig, s.Spec.RollbackConfig} {
		if config != nil && config.Order == swarm.UpdateOrderStartFirst {
			most, w.surged = 2, true
		}
	}
	for k, n := range alive {
		if n > 1 && !w.surged {
			w.broken("service %s slot %v: %d containers at once: %s", s.ID, k, n, w.dump(s.ID))
		}
	}
	for k, n := range slots { // one is prepared while the other serves
		if n > 2 || meant[k] > most {
			w.broken("service %s slot %v: %d wanted tasks, %d of them to run: %s", s.ID, k, n, meant[k], w.dump(s.ID))
		}
	}
	if len(slots) != want {
		w.broken("service %s has %d slots, want %d", s.ID, len(slots), want)
	}
	if running > want*most {
		w.broken("service %s runs %d tasks, want at most %d", s.ID, running, want*most)
	}
}

func desired(v *state.View, s *state.Service) int {
	if s.Spec.Mode.Replicated != nil {
		return int(*s.Spec.Mode.Replicated.Replicas)
	}
	n := 0
	for node := range v.Nodes() {
		usable := node.Spec.Availability != swarm.NodeAvailabilityDrain && node.Status.State != swarm.NodeStateDown
		if usable && (node.Spec.Availability == swarm.NodeAvailabilityActive || held(v, s, node)) {
			n++
		}
	}
	return n
}

// held reports whether a global service still has a task on a node.
func held(v *state.View, s *state.Service, n *state.Node) bool {
	for t := range v.TasksOfNode(n.ID) {
		if t.ServiceID == s.ID && t.Desired <= taskstate.Running {
			return true
		}
	}
	return false
}

// respec changes a service's spec as the API does.
func (w *world) respec(id string, change func(*swarm.ServiceSpec)) {
	w.update(func(v *state.View) []state.Change { return respec(v, id, change) })
}

func respec(v *state.View, id string, change func(*swarm.ServiceSpec)) []state.Change {
	s := *v.Service(id)
	previous := s.Spec
	s.PreviousSpec, s.PreviousRevision = &previous, s.Revision
	template := *s.Spec.TaskTemplate.ContainerSpec
	s.Spec.TaskTemplate.ContainerSpec = &template
	change(&s.Spec)
	s.UpdateStatus = nil
	for r := range v.Revisions(id) {
		s.Revision = max(s.Revision, r.Number)
	}
	s.Revision++
	return []state.Change{state.Put(&s), state.Put(&state.Revision{ServiceID: id, Number: s.Revision, Spec: s.Spec})}
}

func (w *world) node(id string, change func(*state.Node)) {
	w.update(func(v *state.View) []state.Change {
		if v.Node(id) == nil {
			return nil
		}
		n := *v.Node(id)
		change(&n)
		return []state.Change{state.Put(&n)}
	})
}

// running are the wanted, running tasks of a service.
func (w *world) running(id string) (tasks []*state.Task) {
	for t := range w.store.View().TasksOfService(id) {
		if t.Desired == taskstate.Running && t.Status.State == taskstate.Running {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// end lets a running task end by itself.
func (w *world) end(t *state.Task, s taskstate.State) {
	w.update(func(v *state.View) []state.Change {
		c := *v.Task(t.ID)
		c.Status = taskstate.Status{State: s, At: time.Now(), Err: "task: non-zero exit (1)", ExitCode: 1}
		return []state.Change{state.Put(&c)}
	})
}

// settled returns an error unless the services run what their specs say.
func (w *world) settled() error {
	v := w.store.View()
	for s := range v.Services() {
		tasks := w.running(s.ID)
		if want := desired(v, s); len(tasks) != want {
			return fmt.Errorf("service %s runs %d tasks, want %d: %s", s.ID, len(tasks), want, w.dump(s.ID))
		}
		bad := slices.ContainsFunc(tasks, func(t *state.Task) bool {
			return v.Revision(s.ID, t.Revision).Spec.TaskTemplate.ContainerSpec.Image != s.Spec.TaskTemplate.ContainerSpec.Image
		})
		if bad {
			return fmt.Errorf("service %s runs outdated tasks: %s", s.ID, w.dump(s.ID))
		}
	}
	return nil
}

func (w *world) dump(id string) string {
	v := w.store.View()
	text := fmt.Sprintf("status %+v\n", v.Service(id).UpdateStatus)
	for t := range v.TasksOfService(id) {
		text += fmt.Sprintf("  slot %d rev %d node %q desired %v status %v after %v restarts %+v %s\n",
			t.Slot, t.Revision, t.NodeID, t.Desired, t.Status.State, t.StartAfter, t.Restarts, t.Status.Err)
	}
	return text
}
