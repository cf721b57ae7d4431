package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"shoal/raftstore/state"
)

// readState gathers readers: one round of messages serves all who came before
// it began.
type readState struct {
	mu      sync.Mutex
	next    *round // has not begun
	running bool
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

// Linearizable returns a view that contains every update confirmed by any
// manager before the call. Only the leader can: it proves first that it still
// is. Others return ErrNotLeader.
func (s *Store) Linearizable(ctx context.Context) (*state.View, error) {
	if t, _ := s.term.get(); t == nil {
		return nil, ErrNotLeader
	}
	r := s.joinRound()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	return s.View(), nil
}

func (s *Store) joinRound() *round {
	s.reads.mu.Lock()
	defer s.reads.mu.Unlock()
	if s.reads.next == nil {
		s.reads.next = &round{done: make(chan struct{})}
	}
	r := s.reads.next
	if !s.reads.running {
		s.reads.running = s.call(s.runRounds)
		if !s.reads.running { // closing
			s.reads.next = nil
			r.err = ErrClosed
			close(r.done)
		}
	}
	return r
}

// runRounds runs rounds as long as there are readers.
func (s *Store) runRounds() {
	for {
		s.reads.mu.Lock()
		r := s.reads.next
		s.reads.next = nil
		if r == nil {
			s.reads.running = false
			s.reads.mu.Unlock()
			return
		}
		s.reads.mu.Unlock()
		r.err = s.verify()
		close(r.done)
	}
}

// verify proves that this manager leads the term whose beginning it has
// applied. That raft leads now is not enough: it may have lost and regained
// leadership meanwhile, with decisions in between that are not applied here.
func (s *Store) verify() error {
	t, _ := s.term.get()
	if t == nil {
		return ErrNotLeader
	}
	r := s.raft.Load()
	err := r.VerifyLeader().Error()
	switch {
	case err == nil && r.CurrentTerm() == t.number:
		return nil
	case err == nil, errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return ErrNotLeader
	default:
		return fmt.Errorf("verify leadership: %w", err)
	}
}
