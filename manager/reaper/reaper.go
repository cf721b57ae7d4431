// Package reaper forgets what retention or deletion has finished with: tasks,
// revisions of services, versions of secrets and configs, and remembered
// outcomes of writes.
//
// It alone deletes tasks. It never deletes one that is meant to run or that
// may still be running.
package reaper

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"shoal/internal/backoff"
	"shoal/raftstore/state"
)

// Store is the replicated state as the leader sees it.
type Store interface {
	Changed() <-chan struct{}
	View() *state.View
	Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error
}

// Config is what a Reaper needs. Zero values take the default named.
type Config struct {
	Store      Store                 // required
	Registerer prometheus.Registerer // none
}

const (
	chunk = 2000 // most changes of one update
	// quiet is how long changes gather before a round: what a deleted service
	// leaves behind then goes in few updates. Docker Swarm's.
	quiet = 250 * time.Millisecond
	// requestBatch spreads the cost of forgetting requests by age.
	requestBatch = 30 * time.Second
)

// Reaper is the loop. Only the leader runs it.
type Reaper struct {
	store   Store
	deleted *prometheus.CounterVec
}

// New checks c and returns a Reaper.
func New(c Config) (*Reaper, error) {
	if c.Store == nil {
		return nil, fmt.Errorf("reaper: no store given: %w", errdefs.ErrInvalidArgument)
	}
	r := &Reaper{store: c.Store, deleted: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "shoal_reaper_deleted_total", Help: "Objects deleted, by kind.",
	}, []string{"kind"})}
	if c.Registerer != nil {
		if err := c.Registerer.Register(r.deleted); err != nil {
			return nil, fmt.Errorf("reaper: register metrics: %w", err)
		}
	}
	return r, nil
}

// term is what the loop knows within one term of the leader. All of it can be
// had from the state again.
type term struct {
	seen     uint64 // index up to which changes were noted
	places   map[place]bool
	services map[string]bool // whose revisions to look at
	names    map[valueName]bool
	requests int       // how many there are
	due      time.Time // when the oldest request is to go; zero: there is none
}

// Run forgets until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	t := &term{}
	t.everything(r.store.View())
	for {
		changed := r.store.Changed() // taken before the read, so no entry is missed
		t.note(r.store.View())
		if err := r.round(ctx, t); err != nil {
			return fmt.Errorf("reap: %w", err)
		}
		if err := backoff.Until(ctx, changed, t.due); err != nil {
			return err
		}
		if err := backoff.Pause(ctx, quiet); err != nil {
			return err
		}
	}
}

// note adds what has changed since the last note to what is looked at.
func (t *term) note(v *state.View) {
	events, ok := v.Since(t.seen)
	if !ok {
		t.everything(v)
		return
	}
	for _, e := range events {
		if _, ok := e.Object().(*state.Cluster); ok {
			t.everything(v) // the limit may have changed
			return
		}
		t.noteEvent(v, e)
	}
	t.seen = v.Index()
}

func (t *term) noteEvent(v *state.View, e state.Event) {
	switch o := e.Object().(type) {
	case *state.Node:
		if e.New == nil {
			for task := range v.TasksOfNode(o.ID) {
				t.places[place{task.ServiceID, task.Slot}] = true
			}
		}
	case *state.Service:
		t.services[o.ID] = true
	case *state.Task:
		t.places[place{o.ServiceID, o.Slot}] = true
		if e.New == nil {
			t.services[o.ServiceID] = true
		}
	case *state.Revision:
		if e.New == nil {
			for id := range state.ValuesOf(&o.Spec) {
				t.noteValue(v, id)
			}
		}
	case *state.Secret:
		t.names[valueName{state.KindSecret, o.Spec.Name}] = true
	case *state.Config:
		t.names[valueName{state.KindConfig, o.Spec.Name}] = true
	case *state.Request:
		if e.Old == nil {
			t.requests++
		}
		if e.New == nil {
			t.requests--
		}
		if t.due.IsZero() {
			t.due = o.CreatedAt.Add(requestAge)
		}
	}
}

// noteValue has the other versions of a secret or config looked at.
func (t *term) noteValue(v *state.View, id string) {
	if s := v.Secret(id); s != nil {
		t.names[valueName{state.KindSecret, s.Spec.Name}] = true
	}
	if c := v.Config(id); c != nil {
		t.names[valueName{state.KindConfig, c.Spec.Name}] = true
	}
}

// everything starts over from the whole state.
func (t *term) everything(v *state.View) {
	*t = term{seen: v.Index(), places: map[place]bool{}, services: map[string]bool{}, names: map[valueName]bool{}}
	for s := range v.SecretsByPrefix("") {
		t.names[valueName{state.KindSecret, s.Spec.Name}] = true
	}
	for c := range v.ConfigsByPrefix("") {
		t.names[valueName{state.KindConfig, c.Spec.Name}] = true
	}
	for task := range v.Tasks() {
		t.places[place{task.ServiceID, task.Slot}] = true
	}
	for r := range v.AllRevisions() {
		t.services[r.ServiceID] = true
	}
	for q := range v.RequestsByAge() {
		if t.requests == 0 {
			t.due = q.CreatedAt.Add(requestAge)
		}
		t.requests++
	}
}

func (r *Reaper) round(ctx context.Context, t *term) error {
	if err := reap(ctx, r, t.places, planTasks); err != nil {
		return err
	}
	if err := reap(ctx, r, t.services, planRevisions); err != nil {
		return err
	}
	if err := reap(ctx, r, t.names, planVersions); err != nil {
		return err
	}
	for t.requests > keepRequests || !t.due.IsZero() && !time.Now().Before(t.due) {
		var due time.Time
		n, err := r.update(ctx, func(v *state.View) (changes []state.Change) {
			changes, due = planRequests(v, t.requests, time.Now())
			return changes
		})
		if err != nil {
			return err
		}
		t.due = due
		if n < chunk {
			if !due.IsZero() {
				t.due = due.Add(requestBatch)
			}
			return nil // what was deleted is counted by note
		}
		t.note(r.store.View())
	}
	return nil
}

// reap plans all of what is in todo, in updates of about chunk changes.
func reap[K comparable](ctx context.Context, r *Reaper, todo map[K]bool, plan func(*state.View, K) []state.Change) error {
	for len(todo) > 0 {
		var done []K
		_, err := r.update(ctx, func(v *state.View) (changes []state.Change) {
			done = done[:0]
			for k := range todo {
				if len(changes) >= chunk {
					break
				}
				more := plan(v, k)
				if len(changes)+len(more) > chunk {
					changes = append(changes, more[:chunk-len(changes)]...)
					break
				}
				changes = append(changes, more...)
				done = append(done, k)
			}
			return changes
		})
		if err != nil {
			return err
		}
		for _, k := range done {
			delete(todo, k)
		}
	}
	return nil
}

// update carries out the deletions that plan returns and counts them.
func (r *Reaper) update(ctx context.Context, plan func(*state.View) []state.Change) (n int, err error) {
	var changes []state.Change
	err = r.store.Update(ctx, func(v *state.View) ([]state.Change, error) {
		changes = plan(v)
		return changes, nil
	})
	if err != nil {
		return 0, err
	}
	for _, c := range changes {
		r.deleted.WithLabelValues(string(c.Kind())).Inc()
	}
	return len(changes), nil
}
