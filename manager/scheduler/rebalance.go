package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// lookEvery is the least time between two looks for moves. A move takes longer,
// and what comes in meanwhile is one look.
const lookEvery = time.Second

// unrest is what the loop knows of services between two looks. All of it can be
// had from the state again.
type unrest struct {
	seen    uint64
	dirty   map[string]bool      // services to look at
	due     map[string]time.Time // services to look at later
	waiting map[string]bool      // services to look at when another's move has ended
}

// Rebalance looks for tasks that would be better placed elsewhere, and marks
// them for the orchestrator, until ctx ends. Only the leader runs it. It does
// nothing while no service is to be rebalanced.
func (s *Scheduler) Rebalance(ctx context.Context) error {
	nodes := newNodeSet()
	u := &unrest{dirty: map[string]bool{}, due: map[string]time.Time{}, waiting: map[string]bool{}}
	for {
		changed := s.store.Changed() // taken before the read, so no update is missed
		now, v := time.Now(), s.store.View()
		u.note(v, now)
		if len(u.dirty) > 0 {
			nodes.sync(v, now)
			if err := s.lookForMoves(ctx, nodes, u, now); err != nil {
				return fmt.Errorf("mark tasks to be moved: %w", err)
			}
		}
		if err := backoff.Pause(ctx, lookEvery); err != nil {
			return err
		}
		if err := u.wait(ctx, changed); err != nil {
			return err
		}
	}
}

func (s *Scheduler) lookForMoves(ctx context.Context, nodes *nodeSet, u *unrest, now time.Time) error {
	services := slices.Sorted(maps.Keys(u.dirty))
	m := planMoves(nodes, services, now)
	var skipped []string
	if len(m.hints)+len(m.done) > 0 {
		err := s.store.Update(ctx, func(v *state.View) (changes []state.Change, err error) {
			changes, skipped = commitMoves(v, m)
			return changes, nil
		})
		if err != nil {
			return err
		}
	}
	u.settle(services, m, skipped)
	for _, h := range m.hints {
		if h.to != "" && !slices.Contains(skipped, h.task.ServiceID) {
			s.log.Info("task is to be moved", "service", h.task.ServiceID, "task", h.task.ID, "from", h.task.NodeID, "to", h.to)
		}
	}
	return nil
}

// settle notes which services need another look.
func (u *unrest) settle(looked []string, m *moves, skipped []string) {
	for _, id := range looked {
		delete(u.due, id)
		delete(u.waiting, id)
	}
	clear(u.dirty)
	for _, id := range skipped {
		u.dirty[id] = true
	}
	for _, id := range m.waiting {
		u.waiting[id] = true
	}
	maps.Copy(u.due, m.due)
}

// note adds the services to look at to dirty: those that a change since the
// last note concerns, and those that are due.
func (u *unrest) note(v *state.View, now time.Time) {
	events, ok := v.Since(u.seen)
	if ok && u.seen > 0 {
		nodes := false
		for _, e := range events {
			_, node := e.Object().(*state.Node)
			nodes = nodes || node
			u.event(v, e)
		}
		if nodes {
			u.restless(v)
		}
	} else {
		u.everything(v)
	}
	u.seen = v.Index()
	for id, at := range u.due {
		if !now.Before(at) {
			u.dirty[id] = true
		}
	}
}

// event adds the services that a change concerns; one of a node concerns all.
func (u *unrest) event(v *state.View, e state.Event) {
	switch o := e.Object().(type) {
	case *state.Cluster:
		old, _ := e.Old.(*state.Cluster)
		if old == nil || old.Rebalance != o.Rebalance {
			u.everything(v)
		}
	case *state.Service:
		old, _ := e.Old.(*state.Service)
		if restless(v, o) || old != nil && restless(v, old) {
			u.dirty[o.ID] = true
		}
	case *state.Task:
		s := v.Service(o.ServiceID)
		if s != nil && (restless(v, s) || o.MoveTo != "") && stirs(e) {
			u.dirty[s.ID] = true
			maps.Copy(u.dirty, u.waiting)
		}
	}
}

// everything adds all services that are to be rebalanced, and those with tasks
// that were to be moved.
func (u *unrest) everything(v *state.View) {
	u.restless(v)
	for t := range v.Tasks() {
		if t.MoveTo != "" && t.Desired <= taskstate.Complete {
			u.dirty[t.ServiceID] = true
		}
	}
}

// restless adds all services that are to be rebalanced.
func (u *unrest) restless(v *state.View) {
	for s := range v.Services() {
		if restless(v, s) {
			u.dirty[s.ID] = true
		}
	}
}

// restless reports whether a service's tasks are to be moved when that is better.
func restless(v *state.View, s *state.Service) bool {
	return !s.RebalanceAsked.IsZero() || v.RebalanceOf(s) == state.RebalanceAuto
}

// stirs reports whether a change of a task may allow or end a move.
func stirs(e state.Event) bool {
	before, _ := e.Old.(*state.Task)
	after, _ := e.New.(*state.Task)
	return before == nil || after == nil || before.Status.State != after.Status.State && settled(after) ||
		before.Desired != after.Desired || before.MoveTo != after.MoveTo || before.Unmoved != after.Unmoved
}

// settled reports whether a task runs or has ended.
func settled(t *state.Task) bool { return t.Status.State >= taskstate.Running }

// wait returns when changed is closed, or when a service is due.
func (u *unrest) wait(ctx context.Context, changed <-chan struct{}) error {
	var next time.Time
	for _, at := range u.due {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if len(u.dirty) > 0 {
		return nil
	}
	return backoff.Until(ctx, changed, next)
}
