// Package allocator gives tasks and services their addresses, services their
// published ports, and nodes their place in the mesh.
//
// It owns Task.Networks and the step from New to Pending, Service.Endpoint,
// Node.MeshIndex and Node.Mesh. What is taken is read from the indexes of the
// state, so there is no second list that could differ from it: nothing leaks,
// and any leader goes on where the last one was.
//
// Endpoint is pure, and the API calls it in the update that creates or changes
// a service, so that a taken port is refused at once. The loop gives tasks and
// nodes what they need, and services whose spec was changed by somebody else.
// A task that cannot get its addresses stays New and says why.
package allocator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/backoff"
	"shoal/raftstore/state"
)

// Messages of the tasks that the allocator has dealt with; clients match the
// first, which is Swarm's.
const (
	messagePending = "pending task scheduling"
	// MessageWaiting is that of a new task that lacks something; Status.Err
	// says what.
	MessageWaiting = "waiting for a network address"
)

const (
	// chunk is the most changes of one update: some 0.5 MiB of log.
	chunk = 2000
	// maxQuiet bounds the rest between two rounds. A rest is as long as the round
	// before it: a burst becomes few rounds, a lone task waits for nothing.
	maxQuiet = 100 * time.Millisecond
	// usageEvery is how often the use of the networks is counted, at most.
	usageEvery = 10 * time.Second
)

// Store is the replicated state as the leader sees it.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error
}

// Config is what an Allocator needs. Zero values take the default named.
type Config struct {
	Store      Store                 // required
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

// Allocator is the loop. Only the leader runs it, one Run at a time.
type Allocator struct {
	store   Store
	log     *slog.Logger
	metrics metrics
}

// New checks c and returns an Allocator.
func New(c Config) (*Allocator, error) {
	if c.Store == nil {
		return nil, fmt.Errorf("allocator: no store given: %w", errdefs.ErrInvalidArgument)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &Allocator{store: c.Store, log: c.Log, metrics: m}, nil
}

// Run allocates until ctx ends.
func (a *Allocator) Run(ctx context.Context) error {
	defer a.metrics.clear() // they are the leader's to tell
	t := newTerm()
	var counted time.Time
	for {
		changed := a.store.Changed() // taken before the read, so no update is missed
		started := time.Now()
		t.note(a.store.View())
		if err := a.work(ctx, t); err != nil {
			return fmt.Errorf("allocate: %w", err)
		}
		a.metrics.show(t)
		if time.Since(counted) > usageEvery {
			a.metrics.usage(a.store.View())
			counted = time.Now()
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

// work deals with all that was noted, in updates of at most some chunk changes.
func (a *Allocator) work(ctx context.Context, t *term) error {
	for {
		w := t.take()
		if len(w.items) == 0 {
			return nil
		}
		var out outcome
		err := a.store.Update(ctx, func(v *state.View) ([]state.Change, error) {
			out = plan(v, w, time.Now().Round(0).UTC(), chunk)
			return out.changes, nil
		})
		if err != nil {
			return err
		}
		a.metrics.count(out)
		for _, text := range t.settle(w, out) {
			a.log.Warn("nothing to allocate", "reason", text)
		}
	}
}
