// Package scheduler gives every pending task a node.
//
// It owns Task.NodeID (of tasks that the orchestrator has not bound to a node
// already), Task.GenericResources and the step from Pending to Assigned. For a
// task that fits nowhere it writes why into Status.Err.
//
// A round works on what is pending: tasks of one service revision form a group,
// every node is filtered once for a group, and a heap hands out the nodes that
// passed. What the nodes carry is kept up to date from the events of the store.
//
// Rebalance is a loop of its own. It looks at services whose tasks may be moved
// and writes Task.MoveTo, by the same counts and filters; the orchestrator makes
// the move. Advise tells what it would do.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// Messages of the tasks that the scheduler has dealt with; clients match them.
const (
	messageAssigned    = "scheduler assigned task to node"
	messagePreassigned = "scheduler confirmed task can run on preassigned node"
)

// maxChanges bounds one update, so that no entry of the log grows too large.
const maxChanges = 2000

// maxQuiet bounds the rest between two rounds. A rest is as long as the round
// before it: a burst becomes few rounds, a lone task waits for nothing.
const maxQuiet = 100 * time.Millisecond

// Store is what the scheduler needs of the replicated state.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error
}

// Config is what a Scheduler needs. Zero values take the default named.
type Config struct {
	Store      Store                 // required
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Scheduler assigns tasks to nodes. One Run at a time.
type Scheduler struct {
	store   Store
	log     *slog.Logger
	metrics metrics
}

// New returns a scheduler.
func New(c Config) (*Scheduler, error) {
	if c.Store == nil {
		return nil, fmt.Errorf("scheduler: Store is required")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &Scheduler{store: c.Store, log: c.Log, metrics: m}, nil
}

// Run assigns tasks until ctx ends. Only the leader runs it.
func (s *Scheduler) Run(ctx context.Context) error {
	nodes := newNodeSet()
	for {
		changed := s.store.Changed() // taken before the read, so no update is missed
		started := time.Now()
		if nodes.sync(s.store.View(), started) {
			if err := s.round(ctx, nodes, started); err != nil {
				return fmt.Errorf("assign tasks: %w", err)
			}
		}
		if err := backoff.Pause(ctx, min(time.Since(started), maxQuiet)); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// round places what is pending in the view that nodes is at.
func (s *Scheduler) round(ctx context.Context, nodes *nodeSet, started time.Time) error {
	decisions := plan(nodes, started)
	for len(decisions) > 0 {
		n := min(len(decisions), maxChanges)
		batch := decisions[:n]
		decisions = decisions[n:]
		err := s.store.Update(ctx, func(v *state.View) ([]state.Change, error) {
			return commit(v, batch), nil
		})
		if err != nil {
			return err
		}
		s.metrics.count(batch)
	}
	s.metrics.round.Observe(time.Since(started).Seconds())
	return nil
}

// decision is what a round found for one task.
type decision struct {
	taskID      string
	version     uint64 // of the task that was looked at
	nodeID      string // empty: it fits nowhere, and explanation says why
	explanation string
	status      taskstate.Status
	claimed     claims
}

// commit turns decisions into changes. A task that has changed since it was
// looked at, or whose node has gone, waits for the next round.
func commit(v *state.View, decisions []decision) []state.Change {
	changes := make([]state.Change, 0, len(decisions))
	for _, d := range decisions {
		old := v.Task(d.taskID)
		if old == nil || old.Version.Index != d.version {
			continue
		}
		if d.nodeID != "" && v.Node(d.nodeID) == nil {
			continue
		}
		task := *old
		task.Status = d.status
		if d.nodeID != "" {
			task.NodeID = d.nodeID
			task.GenericResources = d.claimed
		}
		changes = append(changes, state.Put(&task))
	}
	return changes
}
