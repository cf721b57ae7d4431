package update

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

func now() time.Time { return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC) }

// made is a task of the update that entered its state ago, having been seen to
// run for the given time before if it has ended.
func made(id string, s taskstate.State, ago, ran time.Duration) *state.Task {
	t := &state.Task{ID: id, Status: taskstate.Status{State: s, At: now().Add(-ago)}}
	t.CreatedAt, t.UpdatedAt = now().Add(-time.Hour), now()
	if s >= taskstate.Running && s != taskstate.Rejected && ran >= 0 {
		t.StartAfter = t.Status.At.Add(-ran)
	}
	return t
}

func slots(parts ...any) (all []Slot) {
	for _, p := range parts {
		switch p := p.(type) {
		case *state.Task:
			all = append(all, Slot{Made: []*state.Task{p}})
		case string:
			all = append(all, Slot{Dirty: p != "clean", Idle: p == "idle"})
		}
	}
	return all
}

func service(s swarm.UpdateState, c *swarm.UpdateConfig) *state.Service {
	started := now().Add(-time.Hour)
	previous := swarm.ServiceSpec{}
	service := &state.Service{Service: swarm.Service{Spec: swarm.ServiceSpec{UpdateConfig: c, RollbackConfig: c}, PreviousSpec: &previous}}
	if s != "" {
		service.UpdateStatus = &swarm.UpdateStatus{State: s, StartedAt: &started}
	}
	return service
}

func TestNextReplaces(t *testing.T) {
	running := func(ago time.Duration) *state.Task { return made("r", taskstate.Running, ago, 0) }
	preparing := made("p", taskstate.Preparing, time.Second, 0)
	for name, c := range map[string]struct {
		config *swarm.UpdateConfig
		slots  []Slot
		want   []int
		due    time.Duration
	}{
		"one at a time by default":              {nil, slots("dirty", "dirty"), []int{0}, 0},
		"not while one is in flight":            {nil, slots(preparing, "dirty"), nil, 0},
		"the next once it runs":                 {nil, slots(running(0), "dirty"), []int{1}, 0},
		"what does not run goes first":          {nil, slots("dirty", "idle"), []int{1}, 0},
		"clean slots stay":                      {nil, slots("clean", "dirty"), []int{1}, 0},
		"two at a time":                         {&swarm.UpdateConfig{Parallelism: 2}, slots(preparing, "dirty", "dirty"), []int{1}, 0},
		"zero is all at once":                   {&swarm.UpdateConfig{}, slots(preparing, "dirty", "dirty"), []int{1, 2}, 0},
		"more workers than slots":               {&swarm.UpdateConfig{Parallelism: 9}, slots("dirty", "dirty"), []int{0, 1}, 0},
		"a worker sleeps after its slot":        {&swarm.UpdateConfig{Parallelism: 1, Delay: 10 * time.Second}, slots(running(4*time.Second), "dirty"), nil, 6 * time.Second},
		"and wakes":                             {&swarm.UpdateConfig{Parallelism: 1, Delay: 10 * time.Second}, slots(running(10*time.Second), "dirty"), []int{1}, 0},
		"others do not wait for it":             {&swarm.UpdateConfig{Parallelism: 2, Delay: 10 * time.Second}, slots(running(4*time.Second), "dirty", "dirty"), []int{1}, 6 * time.Second},
		"a failure frees the worker (continue)": {&swarm.UpdateConfig{Parallelism: 1, FailureAction: "continue"}, slots(made("f", taskstate.Rejected, 0, 0), "dirty"), []int{1}, 0},
	} {
		got := Next(service(swarm.UpdateStateUpdating, c.config), c.slots, now())
		if !slices.Equal(got.Replace, c.want) || got.Status != nil || got.Rollback {
			t.Errorf("%s: %+v, want to replace %v", name, got, c.want)
		}
		if due := got.Due; c.due != 0 && due.Sub(now()) != c.due || c.due == 0 && !due.IsZero() {
			t.Errorf("%s: due %v, want in %v", name, due, c.due)
		}
	}
}

func TestNextBeginsOnlyWithDirtySlots(t *testing.T) {
	for _, before := range []swarm.UpdateState{"", swarm.UpdateStateCompleted, swarm.UpdateStateRollbackCompleted} {
		if got := Next(service(before, nil), slots("clean", "clean"), now()); !cmp.Equal(got, Step{}) {
			t.Errorf("%q, nothing dirty: %+v, want nothing", before, got)
		}
		got := Next(service(before, nil), slots("dirty"), now())
		start := now()
		want := &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &start, Message: "update in progress"}
		if diff := cmp.Diff(want, got.Status); diff != "" || !slices.Equal(got.Replace, []int{0}) {
			t.Errorf("%q, one dirty: replace %v, status (-want +got):\n%s", before, got.Replace, diff)
		}
	}
}

func TestPausedUpdateDoesNothing(t *testing.T) {
	for _, s := range []swarm.UpdateState{swarm.UpdateStatePaused, swarm.UpdateStateRollbackPaused} {
		if got := Next(service(s, nil), slots("dirty", made("f", taskstate.Failed, 0, 0)), now()); !cmp.Equal(got, Step{}) {
			t.Errorf("%s: %+v, want nothing", s, got)
		}
	}
}

func TestNextFails(t *testing.T) {
	quick, late := made("bad", taskstate.Failed, 0, time.Second), made("late", taskstate.Failed, 0, 5*time.Second)
	unseen := made("unseen", taskstate.Failed, 0, -1)
	ok := made("ok", taskstate.Running, time.Second, 0)
	config := func(action string, ratio float32) *swarm.UpdateConfig {
		return &swarm.UpdateConfig{Parallelism: 1, FailureAction: action, MaxFailureRatio: ratio}
	}
	const cause = " due to failure or early termination of task "
	for name, c := range map[string]struct {
		before   swarm.UpdateState
		config   *swarm.UpdateConfig
		slots    []Slot
		want     swarm.UpdateState
		message  string
		rollback bool
	}{
		"pause is the default":           {"updating", nil, slots(quick, "dirty"), "paused", "update paused" + cause + "bad", false},
		"a task that never ran":          {"updating", nil, slots(made("no", taskstate.Rejected, 0, 0)), "paused", "update paused" + cause + "no", false},
		"not seen to run":                {"updating", nil, slots(unseen), "paused", "update paused" + cause + "unseen", false},
		"success ends it early too":      {"updating", nil, slots(made("done", taskstate.Complete, 0, 0)), "paused", "update paused" + cause + "done", false},
		"after the monitor":              {"updating", nil, slots(late, "dirty"), "", "", false},
		"a stop is no failure":           {"updating", nil, slots(made("s", taskstate.Shutdown, 0, 0), "dirty"), "", "", false},
		"within the ratio":               {"updating", config("pause", 0.25), slots(quick, "dirty", "dirty", "dirty"), "", "", false},
		"beyond the ratio":               {"updating", config("pause", 0.25), slots(quick, made("bad2", taskstate.Rejected, 0, 0), ok, "dirty", "dirty"), "paused", "update paused" + cause + "bad2", false},
		"clean slots do not count":       {"updating", config("pause", 0.5), slots(quick, "clean", "clean"), "paused", "update paused" + cause + "bad", false},
		"continue":                       {"updating", config("continue", 0), slots(quick, "dirty"), "", "", false},
		"rollback":                       {"updating", config("rollback", 0), slots(quick, "dirty"), "rollback_started", "update rolled back" + cause + "bad", true},
		"rollback that fails: pause":     {"rollback_started", config("pause", 0), slots(quick, "dirty"), "rollback_paused", "update paused" + cause + "bad", false},
		"rollback that fails: no second": {"rollback_started", config("rollback", 0), slots(quick, "dirty"), "rollback_paused", "rollback paused" + cause + "bad", false},
	} {
		got := Next(service(c.before, c.config), c.slots, now())
		if c.want == "" {
			if got.Status != nil {
				t.Errorf("%s: status %+v, want none", name, got.Status)
			}
			continue
		}
		if got.Status == nil || got.Status.State != c.want || got.Status.Message != c.message || got.Rollback != c.rollback || got.Replace != nil {
			t.Errorf("%s: %+v %+v, want %s %q", name, got, got.Status, c.want, c.message)
		}
	}
}

func TestRollbackWithoutPreviousSpecPauses(t *testing.T) {
	s := service("updating", &swarm.UpdateConfig{FailureAction: "rollback"})
	s.PreviousSpec = nil
	got := Next(s, slots(made("bad", taskstate.Rejected, 0, 0)), now())
	if got.Rollback || got.Status == nil || got.Status.State != swarm.UpdateStatePaused {
		t.Errorf("%+v, want paused", got)
	}
}

// Docker Swarm's own test: 5 replicas, ratio 0.25: two are replaced, three
// still run.
func TestBadImageStopsAtSecondOfFive(t *testing.T) {
	s := service("updating", &swarm.UpdateConfig{Parallelism: 1, MaxFailureRatio: 0.25})
	all := slots("dirty", "dirty", "dirty", "dirty", "dirty")
	for n := 0; ; n++ {
		step := Next(s, all, now())
		if step.Status != nil {
			if n != 2 || step.Status.State != swarm.UpdateStatePaused {
				t.Errorf("%s after %d tasks, want paused after 2", step.Status.State, n)
			}
			return
		}
		if len(step.Replace) != 1 {
			t.Fatalf("replace %v, want one", step.Replace)
		}
		all[step.Replace[0]] = Slot{Made: []*state.Task{made(fmt.Sprint(n), taskstate.Rejected, 0, 0)}}
	}
}

func TestNextFinishes(t *testing.T) {
	for name, c := range map[string]struct {
		before swarm.UpdateState
		config *swarm.UpdateConfig
		slots  []Slot
		want   swarm.UpdateState
		due    time.Duration
	}{
		"watched long enough":        {"updating", nil, slots(made("r", taskstate.Running, 5*time.Second, 0)), "completed", 0},
		"still watching":             {"updating", nil, slots(made("r", taskstate.Running, 2*time.Second, 0)), "", 3 * time.Second},
		"the last one counts":        {"updating", nil, slots(made("r", taskstate.Running, time.Hour, 0), made("s", taskstate.Running, time.Second, 0)), "", 4 * time.Second},
		"delay beyond monitor":       {"updating", &swarm.UpdateConfig{Delay: 10 * time.Second}, slots(made("r", taskstate.Running, time.Second, 0)), "", 10 * time.Second},
		"continue does not watch":    {"updating", &swarm.UpdateConfig{FailureAction: "continue"}, slots(made("r", taskstate.Running, 0, 0)), "completed", 0},
		"nothing was to be replaced": {"rollback_started", nil, slots("clean"), "rollback_completed", 0},
		"rollback":                   {"rollback_started", nil, slots(made("r", taskstate.Running, time.Minute, 0)), "rollback_completed", 0},
	} {
		got := Next(service(c.before, c.config), c.slots, now())
		if c.due != 0 && (got.Status != nil || got.Due.Sub(now()) != c.due) {
			t.Errorf("%s: %+v, want another look in %v", name, got, c.due)
		}
		if c.want != "" && (got.Status == nil || got.Status.State != c.want || got.Status.CompletedAt == nil || got.Status.StartedAt == nil) {
			t.Errorf("%s: %+v, want %s", name, got.Status, c.want)
		}
	}
}

func TestConfigFillsInDefaults(t *testing.T) {
	want := swarm.UpdateConfig{Parallelism: 1, FailureAction: "pause", Order: "stop-first", Monitor: 5 * time.Second}
	if diff := cmp.Diff(want, Config(service("", nil))); diff != "" {
		t.Errorf("no config (-want +got):\n%s", diff)
	}
	s := service("", &swarm.UpdateConfig{Order: "start-first"})
	s.Spec.RollbackConfig = &swarm.UpdateConfig{Parallelism: 7}
	if c := Config(s); c.Parallelism != 0 || c.Monitor != DefaultMonitor || c.Order != "start-first" {
		t.Errorf("given config: %+v", c)
	}
	for _, state := range []swarm.UpdateState{swarm.UpdateStateRollbackStarted, swarm.UpdateStateRollbackPaused} {
		s.UpdateStatus = &swarm.UpdateStatus{State: state}
		if c := Config(s); c.Parallelism != 7 || c.Order != "stop-first" {
			t.Errorf("%s: %+v, want that of the rollback", state, c)
		}
	}
}

func TestWorkersClockIsKeptWithinManagers(t *testing.T) {
	task := made("t", taskstate.Running, 0, 0)
	task.Status.At = task.UpdatedAt.Add(time.Hour)
	if got := since(task); got != task.UpdatedAt {
		t.Errorf("fast clock: %v, want %v", got, task.UpdatedAt)
	}
	task.Status.At = task.CreatedAt.Add(-time.Hour)
	if got := since(task); got != task.CreatedAt {
		t.Errorf("slow clock: %v, want %v", got, task.CreatedAt)
	}
}
