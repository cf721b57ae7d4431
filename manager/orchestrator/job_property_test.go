package orchestrator_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
	"shoal/raftstore/state/statetest"
)

// trial is a job and what happens to its cluster while it runs.
type trial struct {
	concurrent, total uint64
	global            bool
	doomed            []int // slots whose tasks fail at first
	events            []string
}

// Whatever happens to a cluster, a job runs no more tasks at once than it may,
// none in a slot that is complete, and once nothing happens any more it is
// complete, with one completion for each slot.
func TestJobsComeToTheirEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := trial{
			concurrent: rapid.Uint64Range(1, 4).Draw(rt, "concurrent"), total: rapid.Uint64Range(0, 8).Draw(rt, "total"),
			global: rapid.Bool().Draw(rt, "global"),
			doomed: rapid.SliceOfDistinct(rapid.IntRange(0, 7), rapid.ID[int]).Draw(rt, "doomed"),
			events: rapid.SliceOfN(rapid.SampledFrom([]string{"down", "up", "drain", "activate", "again", "wait", "lead"}), 0, 8).Draw(rt, "events"),
		}
		var err error
		synctest.Test(t, func(*testing.T) { err = c.live() })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func (c trial) live() error {
	s, r := statetest.Service("job", 1, func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Image = "crash 0"
		s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &c.concurrent, TotalCompletions: &c.total}}
		if c.global {
			s.Mode = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}
		}
	})
	s.JobStatus = &swarm.JobStatus{}
	w, stop := newWorld(statetest.Node("n1"), statetest.Node("n2"), s, r)
	w.doomed = c.doomed
	for _, e := range c.events {
		switch e {
		case "down":
			w.do("job", action{name: e})
		case "up", "drain", "activate":
			w.do("job", action{name: e})
		case "again": // as an update does
			w.update(func(v *state.View) []state.Change {
				s := *v.Service("job")
				s.JobStatus = &swarm.JobStatus{JobIteration: swarm.Version{Index: s.JobStatus.JobIteration.Index + 1}}
				return []state.Change{state.Put(&s)}
			})
		case "lead":
			if err := stop(); err != nil {
				return err
			}
			stop = w.lead()
		}
		for range 7 {
			w.pass(w.tick)
			if err := c.check(w); err != nil {
				return errors.Join(err, stop())
			}
		}
	}
	w.doomed = []int{-1}
	w.do("job", action{name: "up"})
	w.do("job", action{name: "activate"})
	w.tick = time.Second
	w.pass(12 * time.Minute)
	return errors.Join(c.complete(w), stop())
}

func (c trial) check(w *world) error {
	v := w.store.View()
	now := v.Service("job").JobStatus.JobIteration.Index
	active := 0
	for t := range v.TasksOfService("job") {
		if t.JobIteration.Index != now {
			continue
		}
		if t.Desired <= taskstate.Complete && !t.Status.State.Terminal() {
			active++
		}
	}
	if !c.global && uint64(active) > c.concurrent { //nolint:gosec // small
		return fmt.Errorf("%d tasks at once, %d may run: %s", active, c.concurrent, w.dump("job"))
	}
	return nil
}

func (c trial) complete(w *world) error {
	v := w.store.View()
	now := v.Service("job").JobStatus.JobIteration.Index
	done := map[string]int{}
	for t := range v.TasksOfService("job") {
		if t.JobIteration.Index != now || t.Desired <= taskstate.Complete && !t.Status.State.Terminal() {
			return fmt.Errorf("task %s is left: %s", t.ID, w.dump("job"))
		}
		if t.Status.State == taskstate.Complete {
			place := fmt.Sprint(t.Slot)
			if c.global {
				place = t.NodeID
			}
			done[place]++
		}
	}
	want := int(c.total) //nolint:gosec // small
	if c.global {
		want = 2
	}
	if len(done) != want {
		return fmt.Errorf("%d slots are complete, want %d: %s", len(done), want, w.dump("job"))
	}
	return nil
}
