package raftstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"shoal/internal/backoff"
)

// term is a stretch of time in which this manager leads and has applied all
// that was decided before.
type term struct {
	ctx    context.Context
	cancel context.CancelFunc
	number uint64 // raft's
	writer *writer
}

// termState is the term of this manager, if it leads.
type termState struct {
	mu      sync.Mutex
	current *term         // nil: not leading, or not yet all applied
	opening *term         // leads, waits for what was decided before
	changed chan struct{} // closed when current changes
}

func (t *termState) get() (*term, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current, t.changed
}

func (t *termState) setLocked(current *term) {
	t.current = current
	close(t.changed)
	t.changed = make(chan struct{})
}

// watchLeadership begins and ends terms.
func (s *Store) watchLeadership() {
	for {
		select {
		case leads := <-s.notify:
			s.endTerm()
			if leads {
				s.beginTerm()
			}
		case <-s.ctx.Done():
			s.endTerm()
			return
		}
	}
}

func (s *Store) beginTerm() {
	t := &term{}
	t.ctx, t.cancel = context.WithCancel(s.ctx)
	t.writer = newWriter(s)
	s.term.mu.Lock()
	defer s.term.mu.Unlock()
	if s.Err() != nil {
		t.cancel()
		return
	}
	s.term.opening = t
	s.wg.Go(func() { s.openTerm(t) })
}

// openTerm waits until what earlier leaders decided is applied here, then
// lets this term's readers and writers in.
func (s *Store) openTerm(t *term) {
	r := s.raft.Load()
	t.number = r.CurrentTerm()
	if err := s.await(t.ctx, r.Barrier(0)); err != nil {
		if t.ctx.Err() == nil && !errors.Is(err, raft.ErrLeadershipLost) && !errors.Is(err, raft.ErrNotLeader) {
			s.log.Warn("leadership without effect", "error", err)
		}
		return
	}
	s.term.mu.Lock()
	defer s.term.mu.Unlock()
	if t.ctx.Err() != nil || r.CurrentTerm() != t.number {
		return // over already; another one is announced if this manager leads again
	}
	s.wg.Go(func() { t.writer.run(t.ctx) })
	s.term.setLocked(t)
	s.log.Info("leading", "term", t.number)
}

// endTerm ends the term, if there is one.
func (s *Store) endTerm() {
	s.term.mu.Lock()
	defer s.term.mu.Unlock()
	if t := s.term.opening; t != nil {
		t.cancel()
		t.writer.close()
		s.term.opening = nil
	}
	if s.term.current != nil {
		s.term.setLocked(nil)
		s.log.Info("no longer leading")
	}
}

// Lead runs f for each term in which this manager leads, after everything
// decided before has been applied. It cancels f's context when leadership
// ends and waits for f. If f returns an error first, leadership is handed to
// another manager; if there is none, f runs again. Lead returns when ctx ends
// or the store cannot go on.
func (s *Store) Lead(ctx context.Context, f func(context.Context) error) error {
	pause := backoff.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
	for ctx.Err() == nil {
		t, changed := s.term.get()
		if t == nil {
			select {
			case <-changed:
				pause.Reset()
			case <-ctx.Done():
			case <-s.failed:
				return s.Err()
			case <-s.ctx.Done():
				return ErrClosed
			}
			continue
		}
		if err := s.leadTerm(ctx, t, f); err != nil {
			s.log.Error("the work of the leader ended, handing over", "error", err)
			if err := s.TransferLeadership(ctx); err == nil {
				<-t.ctx.Done()
				continue
			}
			select {
			case <-time.After(pause.Next()):
			case <-t.ctx.Done():
			case <-ctx.Done():
			}
		}
	}
	return ctx.Err()
}

// leadTerm runs f until the term ends. An error means that f gave up before.
func (s *Store) leadTerm(ctx context.Context, t *term, f func(context.Context) error) error {
	fctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	err := f(fctx)
	if fctx.Err() != nil {
		return nil
	}
	if err == nil {
		<-fctx.Done() // f has nothing more to do in this term
	}
	return err
}

// leaderState is who leads, as far as this manager knows.
type leaderState struct {
	mu      sync.Mutex
	id      raft.ServerID
	addr    raft.ServerAddress
	changes uint64
	changed chan struct{}
}

// Leader returns the leader that this manager knows of; no id means none.
// changed is closed when the answer becomes another one.
func (s *Store) Leader() (id, addr string, changed <-chan struct{}) {
	s.leader.mu.Lock()
	defer s.leader.mu.Unlock()
	return string(s.leader.id), string(s.leader.addr), s.leader.changed
}

// observeLeader compares what raft knows with what Leader said last.
func (s *Store) observeLeader() {
	addr, id := s.raft.Load().LeaderWithID()
	l := &s.leader
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id && l.addr == addr {
		return
	}
	l.id, l.addr = id, addr
	if id != "" {
		l.changes++
		s.log.Info("leader", "node", string(id), "addr", string(addr))
	} else {
		s.log.Warn("no leader")
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// observed says which of raft's observations watchPeers wants.
func observed(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.LeaderObservation, raft.RaftState, raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
		return true
	default:
		return false
	}
}

// watchPeers keeps Leader up to date and logs managers that come and go.
func (s *Store) watchPeers() {
	lost := map[raft.ServerID]bool{}
	for {
		select {
		case o := <-s.seen:
			switch data := o.Data.(type) {
			case raft.FailedHeartbeatObservation:
				if !lost[data.PeerID] {
					s.log.Warn("manager lost", "node", string(data.PeerID), "last_contact", data.LastContact)
				}
				lost[data.PeerID] = true
			case raft.ResumedHeartbeatObservation:
				if lost[data.PeerID] {
					s.log.Info("manager back", "node", string(data.PeerID))
				}
				delete(lost, data.PeerID)
			case raft.RaftState:
				clear(lost) // each term counts for itself
			}
			s.observeLeader()
		case <-s.ctx.Done():
			return
		}
	}
}
