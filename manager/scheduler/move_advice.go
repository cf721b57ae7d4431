package scheduler

import (
	"fmt"
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// MoveAdvice is what rebalancing would do with a service.
type MoveAdvice struct {
	Held  string // why nothing moves; "": nothing stands against it
	Soon  bool   // Held ends by itself, in seconds
	Moves []Move // in order, one after the other; none: all is well
}

// Move is one task that would be better placed elsewhere.
type Move struct {
	Slot     int
	TaskID   string
	From, To string // nodes
	Why      string
}

// AdviseMoves returns what rebalancing would do with each of the services, each for
// itself, whatever their settings are; byHand, if a user asked for it.
func AdviseMoves(v *state.View, services []*state.Service, byHand bool, now time.Time) []MoveAdvice {
	nodes := newNodeSet()
	nodes.sync(v, now)
	ahead := nodes.ahead()
	advice := make([]MoveAdvice, 0, len(services))
	for _, s := range services {
		advice = append(advice, nodes.advise(s, ahead, byHand, now))
	}
	return advice
}

func (s *nodeSet) advise(svc *state.Service, ahead *ahead, byHand bool, now time.Time) (a MoveAdvice) {
	c, d := calmOf(s.view, svc, now), s.demand(revisionKey{svc.ID, svc.Revision})
	if c.held != "" || d == nil {
		return MoveAdvice{Held: c.held, Soon: c.soon}
	}
	ahead.forget(svc.ID)
	b := balance{nodes: s, now: now, byHand: byHand}
	var undo []func()
	for range c.tasks { // a bound, should moves not end
		m := b.best(svc, d, c.tasks)
		if m == nil {
			break
		}
		a.Moves = append(a.Moves, Move{Slot: m.task.Slot, TaskID: m.task.ID, From: m.task.NodeID, To: m.to, Why: s.reason(m, d)})
		for i, t := range c.tasks {
			if t == m.task {
				moved, back := s.relocate(t, m.to, d)
				c.tasks[i], undo = moved, append(undo, back)
			}
		}
	}
	for _, back := range slices.Backward(undo) {
		back()
	}
	if len(a.Moves) == 0 && !b.settles.IsZero() {
		a.Held = fmt.Sprintf("a node came back, or tasks failed on it, less than %s ago", settleTime)
	}
	return a
}

// relocate counts t as if it had been moved.
func (s *nodeSet) relocate(t *state.Task, to string, d *demand) (moved *state.Task, back func()) {
	from, there, old := s.nodes[t.NodeID], s.nodes[to], s.demand(revisionKey{t.ServiceID, t.Revision})
	next := *t
	next.NodeID, next.Revision = to, s.view.Service(t.ServiceID).Revision
	next.GenericResources = there.choose(d.generic)
	count := func(sign int) {
		from.countTask(t.ServiceID, taskstate.Running, -sign)
		from.claim(t.GenericResources, -sign)
		if old != nil {
			from.take(old, -sign)
		}
		there.countTask(t.ServiceID, taskstate.Running, sign)
		there.claim(next.GenericResources, sign)
		there.take(d, sign)
	}
	count(+1)
	return &next, func() { count(-1) }
}

// reason says which counts a move brings nearer to each other.
func (s *nodeSet) reason(m *move, d *demand) string {
	from, to := s.nodes[m.task.NodeID].node, s.nodes[m.to].node
	switch m.level - len(d.spread) {
	case 0:
		return fmt.Sprintf("%s has %d tasks of the service, %s has %d", hostname(from), m.there, hostname(to), m.fewer)
	case 1:
		return fmt.Sprintf("%s has %d tasks, %s has %d", hostname(from), m.there, hostname(to), m.fewer)
	}
	l := d.spread[m.level]
	return fmt.Sprintf("%d tasks of the service are where %q is, %d where %q is", m.there, l(from), m.fewer, l(to))
}

func hostname(n *state.Node) string {
	if n.Description.Hostname == "" {
		return n.ID
	}
	return n.Description.Hostname
}
