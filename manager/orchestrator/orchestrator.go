// Package orchestrator turns services into tasks: it makes them, replaces
// those that end or lose their node, scales, and rolls updates out and back.
//
// It owns Task.Desired, Task.Restarts, Task.StartAfter, Task.Moves and
// Task.Unmoved, the status of tasks that it makes, the node of tasks of global
// services and of those that take another's place, and
// Service.UpdateStatus. On a rollback it puts the service's previous spec in
// place, as a new revision.
//
// plan looks at one service and is pure; everything it needs to know of the
// past is in the state, so that any leader goes on where the last one was.
package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/backoff"
	"shoal/internal/id"
	"shoal/raftstore/state"
)

// Store is the replicated state as the leader sees it.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error
}

// Config is what an Orchestrator needs. Zero values take the default named.
type Config struct {
	Store      Store                 // required
	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // none
}

const (
	// chunk is the most changes of one update: some 0.5 MiB of log.
	chunk = 2000
	// spacing is the least time between two rounds. A single change is acted on
	// at once; of a burst, each round takes what has come meanwhile.
	spacing = 10 * time.Millisecond
)

// Orchestrator is the loop. Only the leader runs it.
type Orchestrator struct {
	store   Store
	log     *slog.Logger
	made    *prometheus.CounterVec
	planned prometheus.Counter
}

// New checks c and returns an Orchestrator.
func New(c Config) (*Orchestrator, error) {
	if c.Store == nil {
		return nil, fmt.Errorf("orchestrator: no store given: %w", errdefs.ErrInvalidArgument)
	}
	o := &Orchestrator{
		store: c.Store, log: c.Log,
		made: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shoal_orchestrator_tasks_made_total", Help: "Tasks made, by cause: new, restart, update or move.",
		}, []string{"cause"}),
		planned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shoal_orchestrator_services_planned_total", Help: "Looks taken at a service.",
		}),
	}
	if o.log == nil {
		o.log = slog.Default()
	}
	if c.Registerer == nil {
		return o, nil
	}
	for _, m := range []prometheus.Collector{o.made, o.planned} {
		if err := c.Registerer.Register(m); err != nil {
			return nil, fmt.Errorf("orchestrator: register metrics: %w", err)
		}
	}
	return o, nil
}

// term is what the loop knows within one term of the leader. All of it can be
// had from the state again.
type term struct {
	seen  uint64               // index up to which changes were noted
	dirty map[string]bool      // services to look at
	due   map[string]time.Time // services to look at later
}

// Run keeps services and tasks in agreement until ctx ends.
func (o *Orchestrator) Run(ctx context.Context) error {
	t := &term{dirty: map[string]bool{}, due: map[string]time.Time{}}
	everything(o.note(t), t.dirty)
	for {
		changed := o.store.Changed() // taken before the read, so no entry is missed
		o.note(t)
		t.takeDue(time.Now())
		if err := o.round(ctx, t); err != nil {
			return fmt.Errorf("reconcile services: %w", err)
		}
		if err := backoff.Pause(ctx, spacing); err != nil {
			return err
		}
		if err := backoff.Until(ctx, changed, t.nextDue()); err != nil {
			return err
		}
	}
}

// note adds what has changed since the last note to the services to look at.
func (o *Orchestrator) note(t *term) *state.View {
	v := o.store.View()
	if events, ok := v.Since(t.seen); ok {
		touched(v, events, t.dirty)
	} else {
		everything(v, t.dirty)
	}
	t.seen = v.Index()
	return v
}

// round looks at all dirty services, in updates of at most chunk changes.
func (o *Orchestrator) round(ctx context.Context, t *term) error {
	for len(t.dirty) > 0 {
		ids := make([]string, 0, len(t.dirty))
		for id := range t.dirty {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		var outcomes []outcome // of the first len(outcomes) ids
		err := o.store.Update(ctx, func(v *state.View) (changes []state.Change, err error) {
			outcomes = outcomes[:0]
			for _, service := range ids {
				// A service that does not fit is left whole for the next update,
				// unless it would not fit there either.
				out := plan(v, service, time.Now(), id.New, chunk)
				if len(changes) > 0 && len(changes)+len(out.changes) > chunk {
					break
				}
				changes = append(changes, out.changes...)
				outcomes = append(outcomes, out)
			}
			return changes, nil
		})
		if err != nil {
			return err
		}
		for i, out := range outcomes {
			o.report(ids[i], out)
			t.settle(ids[i], out)
		}
	}
	return nil
}

// report counts and logs what was done for a service.
func (o *Orchestrator) report(service string, out outcome) {
	o.planned.Inc()
	for why, n := range out.made {
		o.made.WithLabelValues(string(why)).Add(float64(n))
	}
	if s := out.status; s != nil {
		o.log.Info("service update", "service", service, "state", s.State, "message", s.Message)
	}
}

// settle notes when a service needs another look.
func (t *term) settle(service string, out outcome) {
	if !out.more {
		delete(t.dirty, service)
	}
	delete(t.due, service)
	if !out.due.IsZero() {
		t.due[service] = out.due
	}
}

func (t *term) takeDue(now time.Time) {
	for service, at := range t.due {
		if !now.Before(at) {
			t.dirty[service] = true
		}
	}
}

// nextDue is the earliest time at which a service needs a look; zero: never.
func (t *term) nextDue() (next time.Time) {
	for _, at := range t.due {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}
