package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"shoal/internal/backoff"
	"shoal/internal/taskstate"
	"shoal/worker/engine"
)

// takeError decides what an error means for a task. What the engine may do
// later is tried again; starting it is never tried twice for any other error;
// stopping and removing are tried until they succeed.
func (e *Executor) takeError(t *task, r result) {
	t.stale = true
	fatal := !temporary(r.err) && (r.op == prepare || r.op == start)
	if fatal && t.task.Desired < taskstate.Shutdown {
		e.log.Info("task ends", "task", t.task.ID, "op", r.op, "error", r.err)
		e.report(t, broken(t.status, r.err, time.Now()))
		return
	}
	if errors.Is(r.err, context.Canceled) {
		return // something else is wanted now
	}
	if !e.synced {
		return // the engine is gone; when it is back everything is looked at
	}
	t.failed = true
	if r.op == look { // as often as not the engine has just gone
		e.log.Debug("container cannot be seen, trying again", "task", t.task.ID, "error", r.err)
		return
	}
	e.log.Warn("step of a task failed, trying again", "task", t.task.ID, "op", r.op, "error", r.err)
	if !t.status.State.Terminal() {
		s := t.status
		s.Err = r.err.Error()
		e.report(t, s)
	}
}

// list looks for the cluster's containers, unless that is being done. With
// greet, for an engine that has just come, it asks for the host too and does
// not give up.
func (e *Executor) list(ctx context.Context, greet bool) {
	if e.listing {
		e.relist = e.relist || greet
		return
	}
	e.listing = true
	e.steps.Go(func() error {
		wait := backoff.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
		for {
			l := e.survey(ctx, greet)
			if l.err == nil || !greet || wait.Wait(ctx) != nil {
				e.inbox.listed(l)
				return nil
			}
		}
	})
}

func (e *Executor) survey(ctx context.Context, greet bool) *listing {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var l listing
	if greet {
		d, err := e.cfg.Engine.Describe(ctx)
		if err != nil {
			return &listing{err: err}
		}
		version, err := e.cfg.Engine.APIVersion(ctx)
		if err != nil {
			return &listing{err: err}
		}
		l.host = &host{node: Node{ID: e.cfg.NodeID, Hostname: d.Hostname, Platform: d.Platform}, apiVersion: version}
	}
	if e.cfg.Files != nil { // before the containers, so that what is new by then is not taken for old
		if l.files, l.err = e.cfg.Files.Tasks(); l.err != nil {
			return &l
		}
	}
	l.containers, l.err = e.cfg.Engine.List(ctx, ClusterLabel, e.cfg.ClusterID)
	return &l
}

// Purge stops and removes every container of a cluster.
func Purge(ctx context.Context, eng Engine, clusterID string) error {
	if clusterID == "" {
		return fmt.Errorf("purge needs a cluster id: %w", errdefs.ErrInvalidArgument)
	}
	all, err := eng.List(ctx, ClusterLabel, clusterID)
	if err != nil {
		return fmt.Errorf("list containers of cluster %s: %w", clusterID, err)
	}
	var group errgroup.Group
	group.SetLimit(parallelStops)
	for _, c := range all {
		group.Go(func() error { return purge(ctx, eng, c) })
	}
	return group.Wait()
}

func purge(ctx context.Context, eng Engine, c engine.Summary) error {
	if c.State == engine.Running {
		if err := eng.Stop(ctx, c.ID, engine.StopOptions{}); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("stop container %s: %w", c.Name, err)
		}
	}
	if err := eng.Remove(ctx, c.ID); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	return nil
}
