package manager

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"shoal/manager/allocator"
	"shoal/manager/orchestrator"
	"shoal/manager/reaper"
	"shoal/manager/scheduler"
	"shoal/raftstore/state"
)

// lead runs the loops of one term. Each starts from the state alone; one that
// fails ends the term, and leadership goes to another manager.
func (m *Manager) lead(ctx context.Context) error {
	if err := m.found(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for name, run := range map[string]func(context.Context) error{
		"orchestrator": m.orchestrator.Run,
		"allocator":    m.allocator.Run,
		"scheduler":    m.scheduler.Run,
		"rebalancing":  m.scheduler.Rebalance,
		"reaper":       m.reaper.Run,
		"dispatcher":   m.dispatcher.Run,
		"membership":   m.membership,
		"tunnel keys":  m.ca.RotateOverlayKeys,
	} {
		g.Go(func() error {
			if err := run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// newLoops makes the loops that lead runs.
func (m *Manager) newLoops() (err error) {
	m.orchestrator, err = orchestrator.New(orchestrator.Config{Store: m.store, Log: m.log, Registerer: m.cfg.Registerer})
	if err != nil {
		return err
	}
	m.allocator, err = allocator.New(allocator.Config{Store: m.store, Log: m.log, Registerer: m.cfg.Registerer})
	if err != nil {
		return err
	}
	m.scheduler, err = scheduler.New(scheduler.Config{Store: m.store, Log: m.log, Registerer: m.cfg.Registerer})
	if err != nil {
		return err
	}
	m.reaper, err = reaper.New(reaper.Config{Store: m.store, Registerer: m.cfg.Registerer})
	return err
}

// Founding are the first objects of a new cluster.
type Founding struct {
	Cluster *state.Cluster
	Node    *state.Node
}

// found writes the first objects of a new cluster, unless they are there.
func (m *Manager) found(ctx context.Context) error {
	f := m.cfg.Founding
	if f == nil {
		return nil
	}
	return m.store.Update(ctx, func(v *state.View) ([]state.Change, error) {
		if v.Cluster() != nil {
			return nil, nil
		}
		ingress, err := allocator.FirstIngress(f.Cluster)
		if err != nil {
			return nil, err
		}
		return []state.Change{state.Put(f.Cluster), state.Put(f.Node), state.Put(ingress)}, nil
	})
}
