package reaper

import (
	"slices"
	"time"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// What is kept.
const (
	DefaultHistory = 5  // tasks of a slot, the live one included; Docker Swarm's
	keepRevisions  = 10 // of a service, besides those that its tasks refer to
	// keepVersions of a secret or config, besides those that revisions refer to.
	// 2: who has just looked the name up may still come with the last but one.
	keepVersions = 2
	keepRequests = 20_000
	requestAge   = 10 * time.Minute // a client that still repeats a write has given up long before
)

// place is where tasks succeed each other: a slot of a replicated service, or
// all nodes of a global one, which share slot 0.
type place struct {
	service string
	slot    int
}

// planTasks forgets the tasks of a place that are done with.
func planTasks(v *state.View, at place) (changes []state.Change) {
	slots := map[string][]*state.Task{}
	var nodes []string
	for t := range v.TasksOfSlot(at.service, at.slot) {
		node := ""
		if at.slot == 0 {
			node = t.NodeID
		}
		if slots[node] == nil {
			nodes = append(nodes, node)
		}
		slots[node] = append(slots[node], t)
	}
	for _, node := range nodes {
		for _, t := range forget(v, slots[node]) {
			changes = append(changes, state.Delete(state.KindTask, t.ID))
		}
	}
	return changes
}

// forget returns those of a slot's tasks that are done with.
func forget(v *state.View, tasks []*state.Task) (gone []*state.Task) {
	slices.SortStableFunc(tasks, func(a, b *state.Task) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var kept []*state.Task
	for _, t := range tasks {
		if finished(v, t) {
			gone = append(gone, t)
		} else {
			kept = append(kept, t)
		}
	}
	service := v.Service(tasks[0].ServiceID)
	limit := history(v, service)
	if limit < 0 {
		return gone
	}
	excess := len(kept) - limit
	// The newest task stays whatever the limit: it may be what tells the
	// orchestrator that the slot has finished.
	for i := 0; i < len(kept)-1 && excess > 0; i++ {
		if t := kept[i]; over(t) && !evidence(service, kept, i) {
			gone = append(gone, t)
			excess--
		}
	}
	return gone
}

// finished reports whether nothing will ever be asked of t again.
func finished(v *state.View, t *state.Task) bool {
	if t.Desired <= taskstate.Complete {
		return false // the orchestrator has not dealt with it
	}
	ended := t.Status.State.Terminal()
	switch {
	case t.Status.State == taskstate.Orphaned:
		return true
	case t.NodeID != "" && v.Node(t.NodeID) == nil && !ended:
		return true // nobody will report its end
	case t.Desired == taskstate.Remove:
		return ended || t.Status.State < taskstate.Assigned
	}
	return false
}

// over reports whether t is history: it has ended, or was called off before
// it had a node.
func over(t *state.Task) bool {
	return t.Desired > taskstate.Complete && (t.Status.State.Terminal() || t.Status.State < taskstate.Assigned)
}

// history is how many tasks a slot of the service keeps; negative: all.
func history(v *state.View, s *state.Service) int {
	if s != nil {
		if p := s.Spec.TaskTemplate.RestartPolicy; p != nil && p.MaxAttempts != nil && *p.MaxAttempts > 0 {
			return int(min(*p.MaxAttempts, 1<<30)) + 1 //nolint:gosec // bounded
		}
	}
	c := v.Cluster()
	if c == nil || c.Spec.Orchestration.TaskHistoryRetentionLimit == nil {
		return DefaultHistory
	}
	return int(max(*c.Spec.Orchestration.TaskHistoryRetentionLimit, -1))
}

// evidence reports whether an update under way still needs task i: it is the
// last one before the update, or the first of the update to have failed.
func evidence(s *state.Service, tasks []*state.Task, i int) bool {
	if s == nil || s.UpdateStatus == nil || s.UpdateStatus.CompletedAt != nil {
		return false
	}
	old := func(t *state.Task) bool { return t.Revision != s.Revision }
	if old(tasks[i]) {
		return !slices.ContainsFunc(tasks[i+1:], old)
	}
	return !slices.ContainsFunc(tasks[:i], func(t *state.Task) bool { return !old(t) })
}

// planRevisions forgets a service's old revisions, all of them once neither
// the service nor a task of it is left.
func planRevisions(v *state.View, serviceID string) (changes []state.Change) {
	s := v.Service(serviceID)
	var numbers []uint64
	for r := range v.Revisions(serviceID) {
		numbers = append(numbers, r.Number)
	}
	keep := 0
	if s != nil {
		keep = keepRevisions
	}
	if len(numbers) <= keep {
		return nil
	}
	used := map[uint64]bool{}
	if s != nil {
		used[s.Revision], used[s.PreviousRevision] = true, true
	}
	for t := range v.TasksOfService(serviceID) {
		used[t.Revision] = true
	}
	for _, n := range numbers[:len(numbers)-keep] {
		if !used[n] {
			changes = append(changes, state.Delete(state.KindRevision, state.RevisionKey(serviceID, n)))
		}
	}
	return changes
}

// valueName is the name of a secret or config.
type valueName struct {
	kind state.Kind
	name string
}

// planVersions forgets the versions of a secret or config that no revision can
// bring back.
func planVersions(v *state.View, n valueName) (changes []state.Change) {
	var ids []string // newest first
	if n.kind == state.KindSecret {
		for s := range v.SecretVersions(n.name) {
			ids = append(ids, s.ID)
		}
	} else {
		for c := range v.ConfigVersions(n.name) {
			ids = append(ids, c.ID)
		}
	}
	for i, id := range ids {
		used := false
		for range v.RevisionsUsing(id) {
			used = true
			break
		}
		if i >= keepVersions && !used {
			changes = append(changes, state.Delete(n.kind, id))
		}
	}
	return changes
}

// planRequests forgets the oldest outcomes of writes: those past their age,
// and a whole chunk when there are more than are kept.
// count is how many there are. It also returns when the next one is due.
func planRequests(v *state.View, count int, now time.Time) (changes []state.Change, due time.Time) {
	excess := 0
	if count > keepRequests {
		excess = chunk
	}
	for r := range v.RequestsByAge() {
		if len(changes) == chunk {
			return changes, now
		}
		if old := r.CreatedAt.Add(requestAge); old.After(now) && len(changes) >= excess {
			return changes, old
		}
		changes = append(changes, state.Delete(state.KindRequest, r.ID))
	}
	return changes, time.Time{}
}
