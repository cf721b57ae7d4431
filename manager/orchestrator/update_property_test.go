package orchestrator_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// rollout is one update of a service and what is to go wrong with it.
type rollout struct {
	config   swarm.UpdateConfig
	rollback swarm.UpdateConfig
	fails    string // "missing" or "crash": how tasks fail
	doomed   []int  // slots whose new tasks fail
	pauses   int    // steps of the world until the user pauses it; 0: never
}

const updatesOfAWorld = 10

func drawRollouts(rt *rapid.T, replicas int) []rollout {
	order := rapid.SampledFrom([]string{"stop-first", "start-first"}).Draw(rt, "order") // of all, so that the rule is one
	config := func(name string, actions ...string) swarm.UpdateConfig {
		return swarm.UpdateConfig{
			Parallelism:     rapid.Uint64Range(0, 3).Draw(rt, name+" parallelism"),
			Delay:           time.Duration(rapid.IntRange(0, 4).Draw(rt, name+" delay")) * 500 * time.Millisecond,
			Monitor:         time.Duration(rapid.IntRange(1, 3).Draw(rt, name+" monitor")) * time.Second,
			FailureAction:   rapid.SampledFrom(actions).Draw(rt, name+" action"),
			MaxFailureRatio: rapid.SampledFrom([]float32{0, 0.25, 0.5, 1}).Draw(rt, name+" ratio"),
			Order:           order,
		}
	}
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) rollout {
		return rollout{
			config:   config("update", "pause", "continue", "rollback"),
			rollback: config("rollback", "pause", "continue"),
			fails:    rapid.SampledFrom([]string{"missing", "crash"}).Draw(rt, "fails"),
			doomed:   rapid.SliceOfNDistinct(rapid.IntRange(1, replicas), 0, replicas, rapid.ID[int]).Draw(rt, "doomed"),
			pauses:   rapid.IntRange(-40, 40).Draw(rt, "pauses"),
		}
	}), updatesOfAWorld, updatesOfAWorld).Draw(rt, "rollouts")
}

// A thousand updates with tasks that fail at random, and with users who pause
// and resume them: parallelism, the floor of tasks that serve, the order and
// the failure action are never violated, and each ends as its policy says.
func TestUpdatesKeepTheirPolicy(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { // 100 times
		replicas := rapid.IntRange(1, 6).Draw(rt, "replicas")
		rollouts := drawRollouts(rt, replicas)
		var err error
		synctest.Test(t, func(*testing.T) { err = rollAll(replicas, rollouts) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func rollAll(replicas int, rollouts []rollout) error {
	s, r := statetest.Service("web", uint64(replicas), func(s *swarm.ServiceSpec) { s.TaskTemplate.ContainerSpec.Image = "good 0" }) //nolint:gosec // small
	w, stop := newWorld(statetest.Node("n1"), statetest.Node("n2"), statetest.Node("n3"), s, r)
	w.pass(2 * time.Second)
	for i, r := range rollouts {
		if err := w.roll(i+1, r); err != nil {
			_ = stop()
			return fmt.Errorf("update %d, %+v: %w", i+1, r, err)
		}
	}
	return stop()
}

// roll puts right what the last update left, starts one, watches every step of
// it and checks its end.
func (w *world) roll(n int, r rollout) error {
	w.respec("web", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Image = fmt.Sprintf("good %d", n)
		s.UpdateConfig = &swarm.UpdateConfig{FailureAction: "continue", Order: r.config.Order}
		s.RollbackConfig = &r.rollback // a rollback follows that of the spec that it goes back to
	})
	w.pass(5 * time.Second)
	if err := w.settled(); err != nil {
		return fmt.Errorf("before it: %w", err)
	}
	w.respec("web", func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Image = fmt.Sprintf("%s %d", r.fails, n)
		s.UpdateConfig, s.RollbackConfig = &r.config, &r.rollback
	})
	w.doomed = r.doomed
	o := &observer{w: w, rollout: r, replicas: len(w.running("web")), from: time.Now(), index: w.store.View().Index(), hurt: map[int]bool{}}
	for ticks := 1; ; ticks++ {
		w.pass(w.tick)
		if err := o.observe(); err != nil {
			return fmt.Errorf("%w: %s", err, w.dump("web"))
		}
		status := w.store.View().Service("web").UpdateStatus
		switch {
		case status == nil && ticks < 100:
		case o.over(status):
			w.pass(5 * time.Second) // whatever still moves
			if err := o.observe(); err != nil {
				return fmt.Errorf("after its end: %w: %s", err, w.dump("web"))
			}
			return o.ended(status)
		case ticks > 5000:
			return fmt.Errorf("it does not end: %s", w.dump("web"))
		case ticks == r.pauses && status.State == swarm.UpdateStateUpdating:
			if err := o.userPauses(); err != nil {
				return fmt.Errorf("paused by the user: %w: %s", err, w.dump("web"))
			}
		}
	}
}

// observer holds what is seen of an update against its policy.
type observer struct {
	w        *world
	rollout  rollout
	replicas int
	from     time.Time // when the update, or its rollback, began
	index    uint64    // up to which changes have been looked at
	rolling  bool      // back
	paused   int       // slots that had been replaced when it was paused, plus one; 0: it was not
	hurt     map[int]bool
}

func (o *observer) config() swarm.UpdateConfig {
	if o.rolling {
		return o.rollout.rollback
	}
	return o.rollout.config
}

func (o *observer) observe() error {
	v := o.w.store.View()
	s := v.Service("web")
	events, _ := v.Since(o.index)
	o.index = v.Index()
	for _, e := range events {
		if before, ok := e.Old.(*state.Task); ok && e.New != nil {
			if err := o.stopped(v, before, e.New.(*state.Task)); err != nil {
				return err
			}
		}
		if before, ok := e.Old.(*state.Service); ok && before.UpdateStatus != nil && s.UpdateStatus != nil &&
			before.UpdateStatus.State == swarm.UpdateStateUpdating && s.UpdateStatus.State == swarm.UpdateStateRollbackStarted {
			o.rolling, o.from = true, time.Now().Add(-o.w.tick)
		}
	}
	return o.limits(v, s)
}

// stopped checks the order: nothing that serves is told to stop before its
// successor is as far as the order wants it.
func (o *observer) stopped(v *state.View, before, after *state.Task) error {
	if after.Status.State == taskstate.Failed {
		o.hurt[after.Slot] = true
	}
	if before.Desired != taskstate.Running || after.Desired <= taskstate.Running || before.Status.State != taskstate.Running {
		return nil
	}
	if after.Status.State.Terminal() {
		return nil // it ended by itself
	}
	ready := taskstate.Ready
	if o.config().Order == swarm.UpdateOrderStartFirst {
		ready = taskstate.Running
	}
	for t := range v.TasksOfSlot("web", after.Slot) {
		if t.ID != after.ID && t.Revision > after.Revision && t.Status.State >= ready {
			return nil
		}
	}
	return fmt.Errorf("task %s of slot %d was told to stop before its successor was %v", after.ID, after.Slot, ready)
}

// limits checks how many slots are under way, and how many serve.
func (o *observer) limits(v *state.View, s *state.Service) error {
	replaced, moving, serving := 0, 0, 0
	for slot := 1; slot <= o.replicas; slot++ {
		var first *state.Task
		up := false
		for t := range v.TasksOfSlot("web", slot) {
			up = up || t.Desired == taskstate.Running && t.Status.State == taskstate.Running
			if t.Revision == s.Revision && (first == nil || t.CreatedAt.Before(first.CreatedAt)) {
				first = t
			}
		}
		if up {
			serving++
		} else if o.hurt[slot] {
			serving++ // its fault, not the update's
		}
		if first != nil {
			replaced++
			if first.Desired <= taskstate.Running && first.Status.State < taskstate.Running {
				moving++
			}
		}
	}
	c := o.config()
	most := o.most(c)
	if moving > most {
		return fmt.Errorf("%d slots are being replaced, %d may be", moving, most)
	}
	if o.rolling {
		most = max(most, o.most(o.rollout.config)) // so many the update had taken down
	}
	floor := o.replicas - most
	if c.Order == swarm.UpdateOrderStartFirst {
		floor = o.replicas
	}
	if serving < floor {
		return fmt.Errorf("%d slots serve, at least %d must", serving, floor)
	}
	return o.whilePaused(s, replaced)
}

// most is how many slots may be under way at once.
func (o *observer) most(c swarm.UpdateConfig) int {
	if c.Parallelism == 0 {
		return o.replicas
	}
	return min(o.replicas, int(c.Parallelism)) //nolint:gosec // small
}

// whilePaused: nothing new is begun.
func (o *observer) whilePaused(s *state.Service, replaced int) error {
	if s.UpdateStatus == nil || s.UpdateStatus.State != swarm.UpdateStatePaused && s.UpdateStatus.State != swarm.UpdateStateRollbackPaused {
		o.paused = 0
		return nil
	}
	if o.paused == 0 {
		o.paused = replaced + 1
	}
	if replaced+1 > o.paused {
		return fmt.Errorf("%d slots were replaced while it was paused", replaced+1-o.paused)
	}
	return nil
}

// userPauses has the user pause the update for a while.
func (o *observer) userPauses() error {
	o.w.steer(swarm.UpdateStatePaused)
	for range 50 {
		o.w.pass(o.w.tick)
		if err := o.observe(); err != nil {
			return err
		}
	}
	o.w.steer(swarm.UpdateStateUpdating)
	return nil
}

// steer does what the API does when a user pauses or resumes an update.
func (w *world) steer(to swarm.UpdateState) {
	w.update(func(v *state.View) []state.Change {
		s := *v.Service("web")
		if s.UpdateStatus == nil || s.UpdateStatus.CompletedAt != nil || s.UpdateStatus.State == swarm.UpdateStateRollbackStarted {
			return nil // it is over, or has failed by itself
		}
		status := *s.UpdateStatus
		status.State = to
		s.UpdateStatus = &status
		if to == swarm.UpdateStateUpdating {
			s.UpdateResumed = time.Now()
		}
		return []state.Change{state.Put(&s)}
	})
}

func (o *observer) over(status *swarm.UpdateStatus) bool {
	if status == nil {
		return false
	}
	return status.CompletedAt != nil || status.State == swarm.UpdateStatePaused || status.State == swarm.UpdateStateRollbackPaused
}

// ended checks that the update came to what its policy says.
func (o *observer) ended(status *swarm.UpdateStatus) error {
	r := o.rollout
	failed := float32(len(r.doomed))/float32(o.replicas) > r.config.MaxFailureRatio
	want := swarm.UpdateStateCompleted
	switch {
	case failed && r.config.FailureAction == swarm.UpdateFailureActionPause:
		want = swarm.UpdateStatePaused
	case failed && r.config.FailureAction == swarm.UpdateFailureActionRollback:
		want = swarm.UpdateStateRollbackCompleted
	}
	allowed := []swarm.UpdateState{want}
	if r.pauses > 0 {
		allowed = append(allowed, swarm.UpdateStateCompleted) // what failed before it was resumed is forgiven
	}
	if !slices.Contains(allowed, status.State) {
		return fmt.Errorf("it ended as %s, want %v: %s", status.State, allowed, o.w.dump("web"))
	}
	if status.StartedAt == nil || (status.CompletedAt != nil) != (want != swarm.UpdateStatePaused) && r.pauses <= 0 {
		return fmt.Errorf("its times are %v and %v", status.StartedAt, status.CompletedAt)
	}
	if len(r.doomed) == 0 || status.State == swarm.UpdateStateRollbackCompleted {
		return o.w.settled()
	}
	return nil
}
