package dispatcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// applied is what the leader knows of how far the nodes' networks are: the
// index of the state that each has in effect. A new leader starts with nothing
// and hears all within a heartbeat.
type applied struct {
	wake chan struct{} // 1: an index has grown

	mu sync.Mutex
	at map[string]uint64 // by node
}

func newApplied() *applied { return &applied{wake: make(chan struct{}, 1), at: map[string]uint64{}} }

func (a *applied) hear(list []Applied) {
	if len(list) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range list {
		a.at[x.NodeID] = max(a.at[x.NodeID], x.Index)
	}
	wake(a.wake)
}

func (a *applied) index(nodeID string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[nodeID]
}

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
		ready := t.withdrawn(v, since, began)
		if len(ready) > 0 {
			err := t.update(ctx, func(v *state.View) []state.Change { return planWithdrawn(v, ready) })
			if err != nil {
				return fmt.Errorf("withdraw tasks: %w", err)
			}
			continue
		}
		news := t.applied.wake
		if len(since) == 0 {
			news = nil // nobody waits
		}
		select {
		case <-changed:
		case <-news:
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
			if older == nil || older.Desired < taskstate.Shutdown || since[newer.ID] == 0 {
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
	nodes := map[string]ids{} // ready nodes by network
	for id, index := range since {
		if began[id].IsZero() {
			began[id] = time.Now()
		}
		if t.known(v, v.Task(id), index, nodes) {
			ready = append(ready, id)
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

// known reports whether every ready node that may know a task has index in
// effect. nodes remembers which those are.
func (t *term) known(v *state.View, task *state.Task, index uint64, nodes map[string]ids) bool {
	for _, n := range task.Networks {
		on, ok := nodes[n.NetworkID]
		if !ok {
			on = readyOn(v, n.NetworkID)
			nodes[n.NetworkID] = on
		}
		for id := range on {
			if t.applied.index(id) < index {
				return false
			}
		}
	}
	return true
}

// readyOn are the ready nodes that are on a network; all of them on ingress.
func readyOn(v *state.View, networkID string) ids {
	on := ids{}
	add := func(n *state.Node) {
		if n != nil && n.Status.State == swarm.NodeStateReady {
			on[n.ID] = true
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
