package executor

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/worker/assignment"
	"shoal/worker/engine"
)

const testCluster, testNode = "cluster1", "node1"

// harness runs an executor on a fake engine inside a synctest bubble.
type harness struct {
	t      *testing.T
	fake   *engine.Fake
	x      *Executor
	net    Network // nil: none
	values Values  // nil: none
	files  Files   // nil: none
	cancel context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	seen map[string][]taskstate.Status
}

func newHarness(t *testing.T, fake *engine.Fake) *harness {
	t.Helper()
	return newHarnessOn(t, fake, nil)
}

// newHarnessOn is newHarness with networks.
func newHarnessOn(t *testing.T, fake *engine.Fake, n Network) *harness {
	t.Helper()
	h := &harness{t: t, fake: fake, net: n, seen: map[string][]taskstate.Status{}}
	h.boot()
	t.Cleanup(h.halt)
	return h
}

// boot starts an executor that remembers nothing, as a restarted daemon does.
func (h *harness) boot() {
	x, err := New(Config{
		Engine: h.fake, NodeID: testNode, ClusterID: testCluster, Network: h.net, Values: h.values, Files: h.files, Report: h.report,
		Backlog: func(int) (int, error) { return 0, nil },
		Log:     discard(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.x, h.cancel, h.ended = x, cancel, make(chan struct{})
	go func() {
		defer close(h.ended)
		_ = x.Run(ctx)
	}()
}

func (h *harness) halt() {
	h.cancel()
	<-h.ended
}

func (h *harness) report(id string, s taskstate.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if past := h.seen[id]; len(past) > 0 && s.State < past[len(past)-1].State {
		h.t.Errorf("task %s went back from %s to %s", id, past[len(past)-1].State, s.State)
	}
	h.seen[id] = append(h.seen[id], s)
}

func (h *harness) last(id string) taskstate.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	if past := h.seen[id]; len(past) > 0 {
		return past[len(past)-1]
	}
	return taskstate.Status{}
}

func (h *harness) states(id string) []taskstate.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	var states []taskstate.State
	for _, s := range h.seen[id] {
		if len(states) == 0 || states[len(states)-1] != s.State {
			states = append(states, s.State)
		}
	}
	return states
}

// after lets d pass and everything that happens in it.
func (h *harness) after(d time.Duration) {
	time.Sleep(d) // the bubble's time
	synctest.Wait()
}

func (h *harness) want(id string, state taskstate.State, err string) {
	h.t.Helper()
	if got := h.last(id); got.State != state || got.Err != err {
		h.t.Errorf("task %s: %s %q, want %s %q", id, got.State, got.Err, state, err)
	}
}

func (h *harness) containers() []engine.Container { return h.fake.Containers() }

// aTask is a task that runs the fake program that args name.
func aTask(id string, desired taskstate.State, args ...string) assignment.Task {
	return assignment.Task{
		ID: id, ServiceID: "svc", ServiceName: "web", Slot: 1, Desired: desired,
		Status: taskstate.Status{State: taskstate.Assigned},
		Spec: &assignment.Spec{ServiceID: "svc", Task: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: "probe", Args: args},
		}},
	}
}

func with(t assignment.Task, change func(*swarm.ContainerSpec)) assignment.Task {
	spec := *t.Spec
	c := *spec.Task.ContainerSpec
	change(&c)
	spec.Task.ContainerSpec = &c
	t.Spec = &spec
	return t
}

func desired(t assignment.Task, s taskstate.State) assignment.Task {
	t.Desired = s
	return t
}

func set(tasks ...assignment.Task) []assignment.Task { return tasks }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
