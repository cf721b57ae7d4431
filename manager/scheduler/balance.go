package scheduler

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"shoal/raftstore/state"
)

// settleTime is how long a node that came back from being down attracts no
// tasks: the time for which failures on a node are remembered (failureWindow),
// so one that comes and goes in minutes is left alone.
const settleTime = failureWindow

// maxInward is how many tasks are on the move to one node at a time. Each may
// pull an image, beside what the node runs already.
const maxInward = 4

// worthIt is the least difference of two counts for which a task moves from the
// larger to the smaller: with 1, it would move back and forth.
const worthIt = 2

// spot is a node as one service sees it.
type spot struct {
	*nodeInfo
	path  []string      // by label that the service spreads over: its values down to there
	tasks []*state.Task // the service's, that may be moved away
}

// balance looks for moves of one service. Its measure is the one by which tasks
// are placed: of two nodes, the better one has fewer of the service's tasks
// under the first label that tells them apart, then on the node itself, then
// fewer tasks at all.
//
// A move goes from a count to one that is smaller by worthIt, or by 1, which
// swaps the two, if a later count decides. So each move lowers the sum of the
// squares of that count and leaves those before it as they are: moves end.
type balance struct {
	nodes *nodeSet
	now   time.Time
	// inward counts the tasks on the move to each node; nil: that is no limit.
	inward map[string]int
	byHand bool // who asks for moves has seen that a node is back

	busy    bool      // a node was passed over because of inward
	settles time.Time // when the first node that was passed over has settled; zero: none
}

// move takes a task to another node, because of the counts of both: those at
// a level, from the outermost label (0) to all tasks of the node.
type move struct {
	task         *state.Task
	to           string
	level        int
	there, fewer int
}

// before orders moves: those that mend an outer level first, then those
// between counts that differ more.
func (m *move) before(o *move) bool {
	return o == nil || cmp.Or(cmp.Compare(m.level, o.level), cmp.Compare(o.there-o.fewer, m.there-m.fewer)) < 0
}

// best returns the most useful move among tasks of one service; nil: they are
// where they should be. demand is what their successors ask of a node.
func (b *balance) best(s *state.Service, d *demand, tasks []*state.Task) *move {
	from, to, counts := b.spots(s, d, tasks)
	var best *move
	for _, f := range from {
		for _, t := range to {
			if m := between(f, t, counts, s.ID); m != nil && m.before(best) {
				best = m
			}
		}
	}
	return best
}

// spots returns the fullest node with tasks and the emptiest node that could
// take one, for each path of labels, and the service's tasks below each path.
// No other two nodes of the same paths make a better move.
func (b *balance) spots(s *state.Service, d *demand, tasks []*state.Task) (from, to []*spot, counts map[string]int) {
	key, counts := revisionKey{s.ID, s.Revision}, map[string]int{}
	held := map[string][]*state.Task{}
	for _, t := range tasks {
		held[t.NodeID] = append(held[t.NodeID], t)
	}
	var full, empty []*spot
	for id, info := range b.nodes.nodes {
		if info.node == nil {
			continue
		}
		n := info.byService[s.ID]
		takes := b.takes(info, d, key)
		if n == 0 && len(held[id]) == 0 && !takes {
			continue
		}
		p := &spot{info, pathOf(info.node, d.spread), held[id]}
		for _, prefix := range p.path {
			counts[prefix] += n
		}
		if len(p.tasks) > 0 {
			full = append(full, p)
		}
		if takes {
			empty = append(empty, p)
		}
	}
	less := func(x, y *spot) int {
		return cmp.Or(cmp.Compare(x.byService[s.ID], y.byService[s.ID]), cmp.Compare(x.nodeInfo.tasks, y.nodeInfo.tasks), cmp.Compare(x.node.ID, y.node.ID))
	}
	return firsts(full, func(x, y *spot) int { return less(y, x) }), firsts(empty, less), counts
}

// takes reports whether tasks may be moved to the node.
func (b *balance) takes(info *nodeInfo, d *demand, key revisionKey) bool {
	if info.reject(d, key.serviceID) != "" {
		return false
	}
	var at time.Time
	if !info.node.ReturnedAt.IsZero() && !b.byHand {
		at = info.node.ReturnedAt.Add(settleTime)
	}
	if info.failing(key, b.now) {
		at = later(at, info.failedUntil(key, b.now))
	}
	if b.now.Before(at) {
		if b.settles.IsZero() || at.Before(b.settles) {
			b.settles = at
		}
		return false
	}
	if b.inward != nil && b.inward[info.node.ID] >= maxInward {
		b.busy = true
		return false
	}
	return true
}

// pathOf is where a node is among the labels that a service spreads over.
func pathOf(n *state.Node, labels []label) (path []string) {
	var prefix strings.Builder
	for _, l := range labels {
		prefix.WriteString("\x00" + l(n))
		path = append(path, prefix.String())
	}
	return path
}

// firsts returns the first spot of each path, in the given order.
func firsts(spots []*spot, order func(x, y *spot) int) (found []*spot) {
	slices.SortFunc(spots, order)
	seen := map[string]bool{}
	for _, p := range spots {
		path := ""
		if n := len(p.path); n > 0 {
			path = p.path[n-1]
		}
		if !seen[path] {
			seen[path] = true
			found = append(found, p)
		}
	}
	return found
}

// between returns a move between two nodes; nil: it would improve no count.
func between(from, to *spot, counts map[string]int, serviceID string) *move {
	for level := range len(from.path) + 2 {
		var there, fewer int
		switch level - len(from.path) {
		case 0:
			there, fewer = from.byService[serviceID], to.byService[serviceID]
		case 1:
			there, fewer = from.nodeInfo.tasks, to.nodeInfo.tasks
		default:
			if from.path[level] == to.path[level] {
				continue // one count, which stays as it is
			}
			there, fewer = counts[from.path[level]], counts[to.path[level]]
		}
		switch d := there - fewer; {
		case d >= worthIt:
			return &move{youngest(from.tasks), to.node.ID, level, there, fewer}
		case d < worthIt-1:
			return nil
		}
	}
	return nil
}

// youngest is the task that has served for the shortest time.
func youngest(tasks []*state.Task) *state.Task {
	return slices.MaxFunc(tasks, func(x, y *state.Task) int {
		return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.Slot, y.Slot))
	})
}
