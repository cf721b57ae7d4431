package scheduler

import (
	"maps"
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// hint says where a task is to be moved; "": nowhere, it stays.
type hint struct {
	task *state.Task
	to   string
}

// moves is what a look at some services found.
type moves struct {
	hints   []hint
	done    []*state.Service     // whose users asked for moves, and there are none left
	due     map[string]time.Time // services that need another look
	waiting []string             // services whose moves wait for those of others
}

// planMoves looks for a move in each of the services, in the view that nodes
// is at. What is under way counts where it goes, and so does what is found.
func planMoves(nodes *nodeSet, services []string, now time.Time) *moves {
	m := &moves{due: map[string]time.Time{}}
	ahead := nodes.ahead()
	defer ahead.restore()
	for _, id := range services {
		s := nodes.view.Service(id)
		if s == nil {
			continue
		}
		c := calmOf(nodes.view, s, now)
		if c.under {
			continue // its end calls for another look
		}
		ahead.forget(id)
		found := m.look(nodes, s, c, ahead.inward, now)
		m.settle(nodes, s, found, c.soon)
		if found != nil {
			ahead.add(found.task, found.to, true)
		}
	}
	return m
}

// look finds the move of one service that is to be made next.
func (m *moves) look(nodes *nodeSet, s *state.Service, c calm, inward map[string]int, now time.Time) *move {
	auto := nodes.view.RebalanceOf(s) == state.RebalanceAuto
	if !auto && s.RebalanceAsked.IsZero() {
		return nil
	}
	d := nodes.demand(revisionKey{s.ID, s.Revision})
	if c.held != "" || d == nil {
		if !c.until.IsZero() && (auto || c.soon) {
			m.due[s.ID] = c.until
		}
		return nil
	}
	b := balance{nodes: nodes, now: now, inward: inward, byHand: !s.RebalanceAsked.IsZero()}
	found := b.best(s, d, c.tasks)
	if auto && found == nil && !b.settles.IsZero() {
		m.due[s.ID] = b.settles
	}
	if found == nil && b.busy {
		m.waiting = append(m.waiting, s.ID)
	}
	return found
}

// settle notes what has to be written down for a service of which no task is on
// the move.
func (m *moves) settle(nodes *nodeSet, s *state.Service, found *move, soon bool) {
	for _, id := range slices.Sorted(maps.Keys(nodes.moving)) {
		if t := nodes.moving[id]; t.ServiceID == s.ID && (found == nil || found.task.ID != id) {
			m.hints = append(m.hints, hint{t, ""})
		}
	}
	if found != nil && found.task.MoveTo != found.to {
		m.hints = append(m.hints, hint{found.task, found.to})
	}
	if found == nil && !soon && !s.RebalanceAsked.IsZero() && !slices.Contains(m.waiting, s.ID) {
		m.done = append(m.done, s)
	}
}

// ahead is the tasks on the move, counted where they go.
type ahead struct {
	nodes  *nodeSet
	inward map[string]int      // by node: tasks that move there
	back   map[string][]func() // by service: take that back
}

func (s *nodeSet) ahead() *ahead {
	a := &ahead{nodes: s, inward: map[string]int{}, back: map[string][]func(){}}
	for _, t := range s.moving {
		a.add(t, t.MoveTo, !s.counted(t))
	}
	return a
}

// add counts t as on the move; arriving, what takes its place is not counted yet.
func (a *ahead) add(t *state.Task, to string, arriving bool) {
	a.inward[to]++
	back := a.nodes.shift(t, to, arriving)
	a.back[t.ServiceID] = append(a.back[t.ServiceID], func() { back(); a.inward[to]-- })
}

// forget counts a service's tasks where they are.
func (a *ahead) forget(serviceID string) {
	for _, back := range a.back[serviceID] {
		back()
	}
	delete(a.back, serviceID)
}

func (a *ahead) restore() {
	for id := range a.back {
		a.forget(id)
	}
}

// counted reports whether the task that is to take t's place has a node.
func (s *nodeSet) counted(t *state.Task) bool {
	for o := range s.view.TasksOfSlot(t.ServiceID, t.Slot) {
		if o.Moves == t.ID && o.Desired <= taskstate.Complete && takes(o) {
			return true
		}
	}
	return false
}

// shift counts t no more among the tasks of its node; arriving, one in its place
// counts on another. What t holds it holds until it has stopped.
func (s *nodeSet) shift(t *state.Task, to string, arriving bool) (back func()) {
	from, there, d := s.nodes[t.NodeID], s.nodes[to], s.demand(revisionKey{t.ServiceID, t.Revision})
	count := func(sign int) {
		if from != nil {
			from.countTask(t.ServiceID, t.Desired, -sign)
		}
		if arriving && there != nil && d != nil {
			there.countTask(t.ServiceID, taskstate.Running, sign)
			there.take(d, sign)
		}
	}
	count(+1)
	return func() { count(-1) }
}

// commitMoves turns what was found into changes. skipped are the services of
// which something has changed since.
func commitMoves(v *state.View, m *moves) (changes []state.Change, skipped []string) {
	for _, h := range m.hints {
		old := v.Task(h.task.ID)
		if old == nil {
			continue
		}
		if old.Version.Index != h.task.Version.Index {
			skipped = append(skipped, old.ServiceID)
			continue
		}
		t := *old
		t.MoveTo = h.to
		changes = append(changes, state.Put(&t))
	}
	for _, d := range m.done {
		if old := v.Service(d.ID); old != nil && old.RebalanceAsked.Equal(d.RebalanceAsked) {
			s := *old
			s.RebalanceAsked = time.Time{}
			changes = append(changes, state.Put(&s))
		}
	}
	return changes, skipped
}
