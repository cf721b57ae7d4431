// Package raftstore replicates the state of a cluster between its managers.
//
// It is hashicorp/raft and raft-boltdb behind three calls: View reads the
// state of this replica, Changed says when there is a newer one, and Update
// makes a change if this manager is the leader. Around them are membership,
// sealing at rest, and guards against the known faults of the library. Nothing
// else in shoal knows Raft.
package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"

	"shoal/raftstore/state"
)

// Store is one manager's replica of the state. Its methods are safe for
// concurrent use.
type Store struct {
	cfg   Config
	log   *slog.Logger
	fsm   *fsm
	disk  *disk
	guard *guard

	raft   atomic.Pointer[raft.Raft] // replaced by restart
	notify chan bool                 // leadership, from every raft instance
	seen   chan raft.Observation
	nudges chan struct{} // there may be a follower to nudge

	space   space
	leader  leaderState
	term    termState
	reads   readState
	changed broadcast

	ctx    context.Context // ends when the store closes
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the store but the two below

	callMu    sync.Mutex
	closing   bool
	calls     sync.WaitGroup // goroutines that wait for an answer of raft
	guardDone chan struct{}  // closed when the guard has ended

	failMu sync.Mutex
	err    error
	failed chan struct{} // closed by fail

	closeOnce sync.Once
	closeErr  error
	metrics   *metrics
}

// Open opens the store in cfg.Dir, or creates an empty one. An empty store
// belongs to no cluster until Bootstrap is called or a leader adds it.
func Open(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s, err := newStore(cfg)
	if err != nil {
		return nil, fmt.Errorf("open raft store %s: %w", cfg.Dir, err)
	}
	go func() {
		defer close(s.guardDone)
		s.guard.run()
	}()
	s.wg.Go(s.watchLeadership)
	s.wg.Go(s.watchPeers)
	s.wg.Go(s.watchDisk)
	s.wg.Go(s.nudge)
	if err := s.register(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newStore makes a store whose raft runs but which does nothing itself yet.
func newStore(cfg Config) (*Store, error) {
	db, err := state.New()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:       cfg,
		log:       cfg.Log.With("component", "raftstore"),
		notify:    make(chan bool, 64), // raft blocks on a full one
		seen:      make(chan raft.Observation, 64),
		nudges:    make(chan struct{}, 1),
		failed:    make(chan struct{}),
		guardDone: make(chan struct{}),
		metrics:   newMetrics(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.leader.changed = make(chan struct{})
	s.term.changed = make(chan struct{})
	s.changed.ch = make(chan struct{})
	s.fsm = newFSM(db, s.changed.send, s.fail)
	if s.disk, err = openDisk(cfg, s.log, s.metrics.appended); err != nil {
		s.cancel()
		return nil, err
	}
	s.guard = newGuard(s, newTransport(cfg, s.log))
	if err := s.start(); err != nil {
		s.cancel()
		return nil, errors.Join(err, s.guard.close(), s.disk.close())
	}
	return s, nil
}

// start makes a raft instance on the disk and the transport of the store.
func (s *Store) start() (err error) {
	if err := s.disk.reconcile(); err != nil {
		return err
	}
	defer func() {
		// raft panics on a log that it cannot read.
		if p := recover(); p != nil {
			err = fmt.Errorf("start raft: %v", p)
		}
	}()
	r, err := raft.NewRaft(s.raftConfig(), s.fsm, s.disk.logs, s.disk.stable, s.disk.snapshots, s.guard)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	r.RegisterObserver(raft.NewObserver(s.seen, false, observed))
	s.raft.Store(r)
	s.observeLeader()
	return nil
}

func (s *Store) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.cfg.NodeID)
	c.HeartbeatTimeout = s.cfg.Heartbeat
	c.ElectionTimeout = s.cfg.Election
	c.LeaderLeaseTimeout = s.cfg.Lease
	c.CommitTimeout = s.cfg.Heartbeat / 2 // nudge is faster; this is what an idle cluster costs
	c.SnapshotThreshold = s.cfg.SnapshotEvery
	c.SnapshotInterval = s.cfg.SnapshotInterval
	c.TrailingLogs = s.cfg.TrailingEntries
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.NotifyCh = s.notify
	c.Logger = newLogger(s.log)
	return c
}

// Bootstrap makes this manager the only one of a new cluster, and waits until
// it leads. It refuses a store that already belongs to a cluster.
func (s *Store) Bootstrap(ctx context.Context) error {
	f := s.raft.Load().BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
		ID: raft.ServerID(s.cfg.NodeID), Address: raft.ServerAddress(s.cfg.Addr),
	}}})
	if err := s.await(ctx, f); err != nil {
		if errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("bootstrap: this manager already belongs to a cluster: %w", errdefs.ErrAlreadyExists)
		}
		return fmt.Errorf("bootstrap: %w", err)
	}
	for {
		t, changed := s.term.get()
		if t != nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("bootstrap: wait for leadership: %w", ctx.Err())
		case <-s.failed:
			return s.Err()
		}
	}
}

// await waits for f, until ctx or the store ends.
func (s *Store) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	if !s.call(func() { done <- f.Error() }) {
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return ErrClosed
	}
}

// call runs f, which waits for an answer of raft, in a goroutine that Close
// waits for. It does not when the store is closing.
func (s *Store) call(f func()) bool {
	s.callMu.Lock()
	defer s.callMu.Unlock()
	if s.closing {
		return false
	}
	s.calls.Go(f)
	return true
}

// Changed returns a channel that is closed when something newer than now has
// been applied. Take it before the View that it is about.
func (s *Store) Changed() <-chan struct{} { return s.changed.wait() }

// View returns the state of this replica, which may lag behind the leader's.
func (s *Store) View() *state.View { return s.fsm.db.View() }

// Run waits until ctx ends or the store cannot go on, then closes it. In the
// second case it returns why.
func (s *Store) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.failed:
	}
	closeErr := s.Close()
	if err := s.Err(); err != nil {
		return err
	}
	if closeErr != nil {
		return closeErr
	}
	return ctx.Err()
}

// Failed is closed when the store cannot go on; Err says why.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err says why the store cannot go on, nil while it can.
func (s *Store) Err() error {
	s.failMu.Lock()
	defer s.failMu.Unlock()
	return s.err
}

// fail ends the store's part in the cluster. Other managers see it as dead.
func (s *Store) fail(err error) {
	s.failMu.Lock()
	first := s.err == nil
	if first {
		s.err = err
	}
	s.failMu.Unlock()
	if !first {
		return
	}
	s.log.Error("this manager stops", "error", err)
	s.guard.mute()
	s.endTerm()
	close(s.failed)
}

// broadcast wakes everybody who waits.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}
