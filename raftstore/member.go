package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"
)

// promoteLag is how many entries a manager may be behind to be given a vote.
const promoteLag = 250

// Peer is one manager of the cluster.
type Peer struct {
	ID, Addr string
	Voter    bool
	Leader   bool
	// The following are known to the leader only.
	Reachable   bool      // answered within two heartbeat timeouts
	LastContact time.Time // zero: not since this manager leads
	Behind      uint64    // entries of the leader's log that it lacks
}

// Peers returns the managers of the cluster, this one among them, in the
// order in which they were added.
func (s *Store) Peers() []Peer {
	r := s.raft.Load()
	leader, _, _ := s.Leader()
	last := r.LastIndex()
	now := time.Now()
	var peers []Peer
	for _, m := range s.members() {
		p := Peer{ID: string(m.ID), Addr: string(m.Address), Voter: m.Suffrage == raft.Voter, Leader: string(m.ID) == leader}
		if p.ID == s.cfg.NodeID {
			p.Reachable, p.LastContact = true, now
		} else if c := s.guard.peers.get(m.ID); !c.last.IsZero() {
			p.LastContact = c.last
			p.Reachable = now.Sub(c.last) <= s.reachable()
			p.Behind = last - min(last, c.index)
		}
		peers = append(peers, p)
	}
	return peers
}

func (s *Store) members() []raft.Server {
	return s.raft.Load().GetConfiguration().Configuration().Servers
}

func (s *Store) peer(id string) (Peer, error) {
	for _, p := range s.Peers() {
		if p.ID == id {
			return p, nil
		}
	}
	return Peer{}, fmt.Errorf("manager %s: %w", id, errdefs.ErrNotFound)
}

// AddNonvoter adds a manager that receives the log but has no vote yet, or
// tells the others the new address of one.
func (s *Store) AddNonvoter(ctx context.Context, id, addr string) error {
	if id == "" || addr == "" {
		return fmt.Errorf("add manager %q at %q: id and address are needed: %w", id, addr, errdefs.ErrInvalidArgument)
	}
	for _, p := range s.Peers() {
		if p.ID != id && p.Addr == addr {
			return fmt.Errorf("add manager %s: %s is the address of manager %s: %w", id, addr, p.ID, errdefs.ErrAlreadyExists)
		}
	}
	return s.change(ctx, "add manager "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0)
	})
}

// Promote gives a manager its vote. It refuses one that is out of reach or
// has not caught up: its vote would be needed and missing.
func (s *Store) Promote(ctx context.Context, id string) error {
	if t, _ := s.term.get(); t == nil {
		return ErrNotLeader
	}
	p, err := s.peer(id)
	switch {
	case err != nil:
		return fmt.Errorf("promote: %w", err)
	case p.Voter:
		return nil
	case !p.Reachable:
		return fmt.Errorf("promote manager %s: it is out of reach at %s: %w", id, p.Addr, errdefs.ErrFailedPrecondition)
	case p.Behind > promoteLag:
		return fmt.Errorf("promote manager %s: it is %d entries behind, at most %d are allowed: %w", id, p.Behind, promoteLag, errdefs.ErrFailedPrecondition)
	}
	return s.change(ctx, "promote manager "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(p.Addr), 0, 0)
	})
}

// RemovePeer takes a manager out of the cluster. It refuses when the rest
// could not go on, and when the manager is the leader itself. Removing one
// that is not there does nothing.
func (s *Store) RemovePeer(ctx context.Context, id string) error {
	if t, _ := s.term.get(); t == nil {
		return ErrNotLeader
	}
	if id == s.cfg.NodeID {
		return fmt.Errorf("remove manager %s: it is the leader, transfer leadership first: %w", id, errdefs.ErrFailedPrecondition)
	}
	p, err := s.peer(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if p.Voter {
		if err := s.checkQuorumWithout(id); err != nil {
			return fmt.Errorf("remove manager %s: %w", id, err)
		}
	}
	return s.change(ctx, "remove manager "+id, func(r *raft.Raft) raft.IndexFuture {
		return r.RemoveServer(raft.ServerID(id), 0, 0)
	})
}

func (s *Store) checkQuorumWithout(id string) error {
	voters, reachable := 0, 0
	for _, p := range s.Peers() {
		if p.ID == id || !p.Voter {
			continue
		}
		voters++
		if p.Reachable {
			reachable++
		}
	}
	if need := voters/2 + 1; reachable < need {
		return fmt.Errorf("of the %d managers left only %d can be reached, %d are needed: %w", voters, reachable, need, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// change changes the configuration and waits until that is committed and known
// to every voter that can be reached. A voter that has not heard of a new one
// does not vote for it, and the old leader may be gone next.
func (s *Store) change(ctx context.Context, what string, f func(*raft.Raft) raft.IndexFuture) error {
	if t, _ := s.term.get(); t == nil {
		return ErrNotLeader
	}
	r := s.raft.Load()
	done := make(chan error, 1)
	var index uint64
	ask := func() { // asking alone may block
		f := f(r)
		err := f.Error()
		if err == nil {
			index = f.Index()
		}
		done <- err
	}
	if !s.call(ask) {
		return ErrClosed
	}
	select {
	case err := <-done:
		switch {
		case err == nil:
			s.awaitPeers(ctx, index)
			return nil
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return fmt.Errorf("%s: %w", what, ErrNotLeader)
		case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
			return fmt.Errorf("%s: %w", what, ErrOutcomeUnknown)
		default:
			return fmt.Errorf("%s: %w", what, err)
		}
	case <-ctx.Done():
		return fmt.Errorf("%s: %w (%w)", what, ErrOutcomeUnknown, ctx.Err())
	}
}

// awaitPeers waits until the other voters have the entry at index, as long as
// they count as reachable without having answered.
func (s *Store) awaitPeers(ctx context.Context, index uint64) {
	limit := time.NewTimer(s.reachable())
	defer limit.Stop()
	for {
		changed := s.guard.peers.changed.wait()
		missing := false
		for _, p := range s.Peers() {
			known := p.ID == s.cfg.NodeID || s.guard.peers.get(raft.ServerID(p.ID)).index >= index
			if p.Voter && p.Reachable && !known {
				missing = true
			}
		}
		if !missing {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reachable is how long ago a manager that can be reached has answered.
func (s *Store) reachable() time.Duration { return 2 * s.cfg.Heartbeat }

// TransferLeadership hands leadership to the voter that has most of the log
// among those that can be reached.
func (s *Store) TransferLeadership(ctx context.Context) error {
	t, _ := s.term.get()
	if t == nil {
		return ErrNotLeader
	}
	var to *Peer
	for _, p := range s.Peers() {
		if p.ID != s.cfg.NodeID && p.Voter && p.Reachable && (to == nil || p.Behind < to.Behind) {
			to = &p
		}
	}
	if to == nil {
		return fmt.Errorf("transfer leadership: no other manager with a vote can be reached: %w", errdefs.ErrFailedPrecondition)
	}
	f := s.raft.Load().LeadershipTransferToServer(raft.ServerID(to.ID), raft.ServerAddress(to.Addr))
	if err := s.await(ctx, f); err != nil {
		return fmt.Errorf("transfer leadership to %s: %w", to.ID, err)
	}
	return nil
}
