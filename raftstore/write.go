package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"shoal/raftstore/state"
)

// Limits of one log entry, and how many may be on their way. More entries on
// the way means fewer updates in each.
const (
	maxEntryBytes   = 1 << 20
	maxEntryChanges = 2000
	maxInFlight     = 2
)

// Plan decides what to change in the state that it is shown. It must be pure
// and short; it may run more than once.
type Plan = func(*state.View) ([]state.Change, error)

// Update runs plan and makes the changes that it returns, as one. It returns
// when they are applied here. An error of plan is returned as it is, and
// nothing has been changed.
//
// Only the leader can do it: others return ErrNotLeader. ErrOutcomeUnknown,
// also when ctx ends meanwhile, means that the changes may still be made.
func (s *Store) Update(ctx context.Context, plan func(*state.View) ([]state.Change, error)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, _ := s.term.get()
		if t == nil {
			return ErrNotLeader
		}
		b, result := t.writer.plan(plan)
		if b == nil {
			return result
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", ErrOutcomeUnknown, ctx.Err())
		}
		if b.err == nil {
			return result
		}
		if !errors.Is(b.err, errReplan) {
			return b.err
		}
	}
}

// batch is some updates that become one entry.
type batch struct {
	updates    [][]state.Change
	first      uint64
	bytes      int
	changes    int
	generation int
	done       chan struct{}
	err        error // set before done is closed
}

func (b *batch) finish(err error) {
	b.err = err
	close(b.done)
}

// writer turns the updates of one term into entries. Planning is under a
// lock; while entries are being written, the updates that come are gathered
// into the next one.
type writer struct {
	store *Store
	kick  chan struct{} // there may be something to propose

	mu         sync.Mutex
	draft      *state.Draft // nil: the state as it is
	generation int          // of draft; goes up when one is given up
	queue      []*batch     // not proposed
	flying     []*batch     // proposed
	closed     bool
}

func newWriter(s *Store) *writer { return &writer{store: s, kick: make(chan struct{}, 1)} }

// plan runs p on the state with all that is on its way. It returns the batch
// that the result depends on, nil if it depends on none.
func (w *writer) plan(p Plan) (*batch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrNotLeader
	}
	if w.draft == nil {
		w.draft = state.NewDraft(w.store.fsm.db.View())
	}
	view := w.draft.View()
	changes, err := p(view)
	if err == nil {
		err = w.store.checkSpace(view, changes)
	}
	if err != nil || len(changes) == 0 {
		return w.tailLocked(), err // true only if what it saw comes to be
	}
	e := state.Entry{Version: state.EntryVersion, First: view.Index() + 1}
	e.Updates = [][]state.Change{state.Stamp(view, changes, e.First, time.Now())}
	data, err := e.Encode()
	if err != nil {
		return nil, err
	}
	// What the others could not read must never reach the log.
	if e, err = state.DecodeEntry(data); err != nil {
		return nil, fmt.Errorf("check update: %w", err)
	}
	if err := w.draft.Add(e.Updates[0]); err != nil {
		return nil, fmt.Errorf("check update: %w", err)
	}
	return w.gatherLocked(e, len(data)), nil
}

// tailLocked is the newest batch that is not applied yet.
func (w *writer) tailLocked() *batch {
	if n := len(w.queue); n > 0 {
		return w.queue[n-1]
	}
	if n := len(w.flying); n > 0 {
		return w.flying[n-1]
	}
	return nil
}

// gatherLocked adds the one update of e to the last batch or a new one.
func (w *writer) gatherLocked(e state.Entry, bytes int) *batch {
	var b *batch
	if n := len(w.queue); n > 0 {
		b = w.queue[n-1]
	}
	changes := len(e.Updates[0])
	if b == nil || b.bytes+bytes > maxEntryBytes || b.changes+changes > maxEntryChanges {
		b = &batch{first: e.First, generation: w.generation, done: make(chan struct{})}
		w.queue = append(w.queue, b)
	}
	b.updates = append(b.updates, e.Updates[0])
	b.bytes += bytes
	b.changes += changes
	w.wake()
	return b
}

func (w *writer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// run proposes what is gathered until the term ends.
func (w *writer) run(ctx context.Context) {
	for {
		for b := w.take(); b != nil; b = w.take() {
			w.propose(b)
		}
		select {
		case <-w.kick:
		case <-ctx.Done():
			return
		}
	}
}

// take moves the next batch from the queue into flight.
func (w *writer) take() *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.queue) == 0 || len(w.flying) >= maxInFlight {
		return nil
	}
	b := w.queue[0]
	w.queue = w.queue[1:]
	w.flying = append(w.flying, b)
	return b
}

func (w *writer) propose(b *batch) {
	e := state.Entry{Version: state.EntryVersion, First: b.first, Updates: b.updates}
	data, err := e.Encode()
	if err != nil {
		w.landed(b, err)
		return
	}
	w.store.fsm.propose(data, e)
	began := time.Now()
	f := w.store.raft.Load().Apply(data, 0)
	land := func() {
		err := outcome(f)
		w.store.fsm.forget(data)
		w.store.metrics.entry(b, time.Since(began))
		w.landed(b, err)
	}
	if !w.store.call(land) {
		w.landed(b, ErrOutcomeUnknown) // closing
	}
}

// outcome waits for an entry and says what became of it.
func outcome(f raft.ApplyFuture) error {
	err := f.Error()
	switch {
	case err == nil:
		refused, _ := f.Response().(error)
		switch {
		case refused == nil:
			return nil
		case errors.Is(refused, state.ErrStale):
			return errReplan
		default:
			return fmt.Errorf("%w (%w)", ErrOutcomeUnknown, refused)
		}
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader // raft did not take it into its log
	default:
		return fmt.Errorf("%w (%w)", ErrOutcomeUnknown, err)
	}
}

// landed ends a batch. What was planned on top of one that failed is planned
// again.
func (w *writer) landed(b *batch, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, x := range w.flying {
		if x == b {
			w.flying = append(w.flying[:i:i], w.flying[i+1:]...)
			break
		}
	}
	if err != nil && b.generation == w.generation {
		w.dropDraftLocked(errReplan)
	}
	if len(w.queue) == 0 && len(w.flying) == 0 {
		w.draft = nil
		w.store.wakeNudge()
	}
	w.wake()
	b.finish(err)
}

// idle says that nothing is on its way.
func (w *writer) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) == 0 && len(w.flying) == 0
}

// dropDraftLocked gives up the draft and what was not proposed yet.
func (w *writer) dropDraftLocked(err error) {
	w.generation++
	w.draft = nil
	for _, b := range w.queue {
		b.finish(err)
	}
	w.queue = nil
}

// close ends the writer: what was not proposed will not be.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		w.dropDraftLocked(ErrNotLeader)
	}
}
