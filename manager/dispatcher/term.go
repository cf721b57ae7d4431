package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"shoal/raftstore/state"
)

const (
	// judgeEvery is how often silence is judged: it adds to DownAfter.
	judgeEvery = 250 * time.Millisecond
	// stallAfter is the gap between two rounds after which the leader must
	// assume that it was not running.
	stallAfter = time.Second
	// orphansEvery is how often nodes that are gone for good are looked for.
	orphansEvery = time.Minute
)

var errNotLeading = fmt.Errorf("this manager does not lead: %w", errdefs.ErrUnavailable)

// Run keeps the cluster's nodes until ctx ends. Only the leader runs it, in
// each of its terms.
func (d *Dispatcher) Run(ctx context.Context) error {
	t := &term{d: d, ledger: newLedger(time.Now())}
	d.setTerm(t)
	defer d.setTerm(nil)
	defer d.metrics.brake.Set(0)
	defer d.metrics.leaving.Set(0)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.judgeOn(ctx) })
	g.Go(func() error { return t.withdraw(ctx) })
	return g.Wait()
}

// judgeOn keeps the nodes' states until ctx ends.
func (t *term) judgeOn(ctx context.Context) error {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		if err := t.round(ctx, time.Now()); err != nil {
			return fmt.Errorf("keep nodes: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *Dispatcher) setTerm(t *term) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term = t
}

// Report writes down what a manager has heard. It returns when that is
// committed, and fails unless this manager leads.
func (d *Dispatcher) Report(ctx context.Context, b Batch) (Answer, error) {
	d.mu.Lock()
	t := d.term
	d.mu.Unlock()
	if t == nil {
		return Answer{}, errNotLeading
	}
	h := t.ledger.hear(d.cfg.Store.View(), b, time.Now())
	answer := Answer{Refused: h.refused}
	if len(h.opened)+len(b.Descriptions)+len(h.revived) > 0 {
		err := d.cfg.Store.Update(ctx, func(v *state.View) ([]state.Change, error) {
			return planNodes(v, h.opened, b.Descriptions, h.revived, time.Now()), nil
		})
		if err != nil {
			return Answer{}, fmt.Errorf("write down nodes: %w", err)
		}
	}
	for statuses := range slices.Chunk(b.Statuses, maxChanges) {
		err := d.cfg.Store.Update(ctx, func(v *state.View) ([]state.Change, error) {
			return planStatuses(v, statuses), nil
		})
		if err != nil {
			return Answer{}, fmt.Errorf("write down statuses: %w", err)
		}
	}
	return answer, nil
}

// Left writes down that a node has left the cluster and closed its session: it
// is down from now on, without a wait for signs of life. It fails unless this
// manager leads.
func (d *Dispatcher) Left(ctx context.Context, nodeID string) error {
	d.mu.Lock()
	leading := d.term != nil
	d.mu.Unlock()
	if !leading {
		return errNotLeading
	}
	err := d.cfg.Store.Update(ctx, func(v *state.View) ([]state.Change, error) {
		return planDown(v, []string{nodeID}, time.Now()), nil
	})
	if err != nil {
		return fmt.Errorf("node %s leaves: %w", nodeID, err)
	}
	d.cfg.Log.Info("node left", "node", nodeID)
	return nil
}

// term is what the leader remembers from round to round.
type term struct {
	d          *Dispatcher
	ledger     *ledger
	last       time.Time // of the last round
	braked     bool
	index      uint64 // removed nodes have been looked for up to here
	orphansDue time.Time
}

func (t *term) round(ctx context.Context, now time.Time) error {
	if !t.last.IsZero() && now.Sub(t.last) > stallAfter {
		t.d.cfg.Log.Warn("leader was held up, all nodes get a new grace period", "for", now.Sub(t.last))
		t.ledger.excuse(now)
	}
	t.last = now
	if err := t.judge(ctx, now); err != nil {
		return err
	}
	if err := t.giveUpRemoved(ctx, now); err != nil {
		return err
	}
	if err := t.giveUpDown(ctx, now); err != nil {
		return err
	}
	// A slow commit is no stall of this process: words are still heard meanwhile.
	t.last = time.Now()
	return nil
}

// judge declares silent nodes down.
func (t *term) judge(ctx context.Context, now time.Time) error {
	v := t.d.cfg.Store.View()
	j := t.ledger.judge(v, now, t.d.cfg.Presence)
	t.brake(j)
	for ids := range slices.Chunk(j.braked, maxChanges) {
		if err := t.update(ctx, func(v *state.View) []state.Change { return planBraked(v, ids) }); err != nil {
			return err
		}
	}
	for ids := range slices.Chunk(slices.Concat(j.down, j.absent), maxChanges) {
		if err := t.update(ctx, func(v *state.View) []state.Change { return planDown(v, ids, now) }); err != nil {
			return err
		}
		for _, id := range ids {
			t.d.cfg.Log.Warn("node down", "node", id)
			t.d.metrics.downs.Inc()
		}
	}
	if len(j.down) > 0 {
		t.ledger.declared(t.d.cfg.Store.View(), j.down, now)
	}
	return nil
}

// brake says when the storm brake is put on and released.
func (t *term) brake(j verdict) {
	braked := len(j.braked) > 0
	if braked == t.braked {
		return
	}
	t.braked = braked
	if !braked {
		t.d.metrics.brake.Set(0)
		t.d.cfg.Log.Info("nodes are declared down again")
		return
	}
	t.d.metrics.brake.Set(1)
	t.d.cfg.Log.Error("too many nodes vanished within a minute: none is declared down until they are back, removed or drained",
		"silent", len(j.braked), "vanished", j.lost, "nodes", j.nodes)
}

// giveUpRemoved orphans the tasks of nodes that have been removed.
func (t *term) giveUpRemoved(ctx context.Context, now time.Time) error {
	v := t.d.cfg.Store.View()
	events, ok := v.Since(t.index)
	if t.index == 0 || !ok {
		if err := t.untilDone(ctx, func(v *state.View) []state.Change { return planRemoved(v, v.Tasks(), now, maxChanges) }); err != nil {
			return err
		}
	}
	for _, e := range events {
		if e.New != nil || e.Old.Kind() != state.KindNode {
			continue
		}
		nodeID := e.Old.Key()
		err := t.untilDone(ctx, func(v *state.View) []state.Change { return planRemoved(v, v.TasksOfNode(nodeID), now, maxChanges) })
		if err != nil {
			return err
		}
	}
	t.index = v.Index()
	return nil
}

// giveUpDown orphans the tasks of nodes that have been down for long.
func (t *term) giveUpDown(ctx context.Context, now time.Time) error {
	if now.Before(t.orphansDue) {
		return nil
	}
	t.orphansDue = now.Add(orphansEvery)
	return t.untilDone(ctx, func(v *state.View) []state.Change { return planOrphans(v, now, maxChanges) })
}

// untilDone repeats a plan until it has nothing more to change.
func (t *term) untilDone(ctx context.Context, plan func(*state.View) []state.Change) error {
	for {
		planned := 0
		err := t.update(ctx, func(v *state.View) []state.Change {
			changes := plan(v)
			planned = len(changes)
			return changes
		})
		if err != nil || planned < maxChanges {
			return err
		}
	}
}

func (t *term) update(ctx context.Context, plan func(*state.View) []state.Change) error {
	return t.d.cfg.Store.Update(ctx, func(v *state.View) ([]state.Change, error) { return plan(v), nil })
}
