// Package statetest makes views and stores for the tests of the packages that
// decide on them.
package statetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"shoal/raftstore/state"
)

// View returns a view that holds objs, each put by an update of its own.
func View(objs ...state.Object) *state.View {
	return New(objs...).View()
}

// Store is a store of one replica without a log: an update is applied at once.
// It is what loops, the dispatcher and the API see of a leader.
type Store struct {
	mu      sync.Mutex
	db      *state.DB
	changed chan struct{}
	err     error
	updates int
}

// New returns a store that holds objs.
func New(objs ...state.Object) *Store {
	db, err := state.New()
	if err != nil {
		panic(err)
	}
	s := &Store{db: db, changed: make(chan struct{})}
	for _, o := range objs {
		s.Put(o)
	}
	return s
}

// View returns the state as it is now.
func (s *Store) View() *state.View { return s.db.View() }

// Changed returns a channel that is closed by the next update.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Update runs plan and applies what it returns, unless Fail was called.
func (s *Store) Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.err != nil {
		return s.err
	}
	view := s.db.View()
	changes, err := plan(view)
	if err != nil || len(changes) == 0 {
		return err
	}
	index := view.Index() + 1
	entry := state.Entry{Version: state.EntryVersion, First: index, Updates: [][]state.Change{state.Stamp(view, changes, index, time.Now())}}
	if err := s.db.Apply(entry); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	s.updates++
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Put applies an update that puts objs.
func (s *Store) Put(objs ...state.Object) {
	s.mustUpdate(func() (changes []state.Change) {
		for _, o := range objs {
			changes = append(changes, state.Put(o))
		}
		return changes
	})
}

// Apply applies an update with these changes.
func (s *Store) Apply(changes ...state.Change) {
	s.mustUpdate(func() []state.Change { return changes })
}

func (s *Store) mustUpdate(changes func() []state.Change) {
	err := s.Update(context.Background(), func(*state.View) ([]state.Change, error) { return changes(), nil })
	if err != nil {
		panic(err)
	}
}

// Fail makes every later Update return err, until it is called with nil.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Updates is how many updates have changed something.
func (s *Store) Updates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updates
}
