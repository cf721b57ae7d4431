package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// neverServed is the index from which a task does not serve that never did:
// every node that has said anything has it in effect.
const neverServed = 1

// withdraw writes down, until ctx ends, which tasks may stop: those that every
// node which may send them something knows to be leaving.
func (t *term) withdraw(ctx context.Context) error {
	since := map[string]uint64{} // index from which a task does not serve, by task
	began := map[string]time.Time{}
	seen := uint64(0)
	for {
		changed := t.d.cfg.Store.Changed()
		v := t.d.cfg.Store.View()
		seen = noteLeaving(v, seen, since)
		if ready := t.withdrawn(v, since, began); len(ready) > 0 {
			err := t.update(ctx, func(v *state.View) []state.Change { return planWithdrawn(v, ready) })
			if err != nil {
				return fmt.Errorf("withdraw tasks: %w", err)
			}
		}
		var news <-chan struct{}
		var again <-chan time.Time
		if len(since) > 0 {
			news, again = t.ledger.applied, time.After(judgeEvery) // a node may fall silent
		}
		select {
		case <-changed:
		case <-news:
		case <-again:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// noteLeaving notes since when the tasks that are leaving do not serve, and
// returns how far it has looked. Of a task whose change it has not seen, the
// version is the best that can be known.
func noteLeaving(v *state.View, seen uint64, since map[string]uint64) uint64 {
	events, ok := v.Since(seen)
	if ok && seen > 0 {
		for _, e := range events {
			newer, isTask := e.New.(*state.Task)
			if !isTask || !newer.Leaving() {
				continue
			}
			older, _ := e.Old.(*state.Task)
			switch {
			case older != nil && older.Leaving() && since[newer.ID] != 0:
			case older != nil && !older.Leaving() && older.Desired >= taskstate.Shutdown:
				since[newer.ID] = neverServed // it was to stop before it ran
			default:
				since[newer.ID] = e.Index
			}
		}
	}
	for t := range v.TasksLeaving() {
		if since[t.ID] == 0 {
			since[t.ID] = t.Version.Index
		}
	}
	for id := range since {
		if t := v.Task(id); t == nil || !t.Leaving() {
			delete(since, id)
		}
	}
	return v.Index()
}

// withdrawn returns the tasks that all nodes concerned know to be leaving.
func (t *term) withdrawn(v *state.View, since map[string]uint64, began map[string]time.Time) (ready []string) {
	nodes := map[string][]*state.Node{} // ready nodes by network
	for id, index := range since {
		if began[id].IsZero() {
			began[id] = time.Now()
		}
		known, silent := t.known(v, v.Task(id), index, nodes)
		if !known {
			continue
		}
		ready = append(ready, id)
		if len(silent) > 0 {
			t.d.metrics.unheard.Inc()
			t.d.cfg.Log.Warn("a task is stopped although nodes have not said that they send it nothing more: they are silent", "task", id, "nodes", silent)
		}
	}
	for id, at := range began {
		if since[id] == 0 {
			t.d.metrics.withdraw.Observe(time.Since(at).Seconds())
			delete(began, id)
		}
	}
	t.d.metrics.leaving.Set(float64(len(since)))
	return ready
}

// known reports whether every ready node that may know a task, and is heard of,
// has index in effect; silent are the others that do not have it. nodes
// remembers which may.
func (t *term) known(v *state.View, task *state.Task, index uint64, nodes map[string][]*state.Node) (known bool, silent []string) {
	now := time.Now()
	for _, n := range task.Networks {
		on, ok := nodes[n.NetworkID]
		if !ok {
			on = readyOn(v, n.NetworkID)
			nodes[n.NetworkID] = on
		}
		waits, quiet := t.ledger.awaits(on, index, now)
		if waits {
			return false, nil
		}
		silent = append(silent, quiet...)
	}
	slices.Sort(silent)
	return true, slices.Compact(silent) // a node may be on several of the networks
}

// readyOn are the ready nodes that are on a network; all of them on ingress.
func readyOn(v *state.View, networkID string) (on []*state.Node) {
	seen := ids{}
	add := func(n *state.Node) {
		if n != nil && n.Status.State == swarm.NodeStateReady && !seen[n.ID] {
			seen[n.ID] = true
			on = append(on, n)
		}
	}
	if networkID == ingressOf(v) {
		for n := range v.Nodes() {
			add(n)
		}
		return on
	}
	for t := range v.TasksOfNetwork(networkID) {
		if present(t) {
			add(v.Node(t.NodeID))
		}
	}
	for a := range v.AttachmentsOfNetwork(networkID) {
		add(v.Node(a.NodeID))
	}
	return on
}

// planWithdrawn lets tasks stop.
func planWithdrawn(v *state.View, tasks []string) (changes []state.Change) {
	for _, id := range tasks {
		if t := v.Task(id); t != nil && t.Leaving() {
			c := *t
			c.Withdrawn = true
			changes = append(changes, state.Put(&c))
		}
	}
	return changes
}
