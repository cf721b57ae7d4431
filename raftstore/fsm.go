package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"shoal/raftstore/state"
)

// fsm applies committed entries to the state. raft calls it from one
// goroutine.
type fsm struct {
	db      *state.DB
	changed func()
	poison  func(error)
	applied atomic.Uint64 // raft's index of the last entry that was applied
	stopped error         // set by an entry that cannot be applied

	mu  sync.Mutex
	own map[*byte]state.Entry // entries that this manager proposed, decoded
}

func newFSM(db *state.DB, changed func(), poison func(error)) *fsm {
	return &fsm{db: db, changed: changed, poison: poison, own: map[*byte]state.Entry{}}
}

// propose remembers the decoded form of an entry until forget, so that it is
// not decoded a second time. raft hands the leader the bytes it was given.
func (f *fsm) propose(data []byte, e state.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own[&data[0]] = e
}

func (f *fsm) forget(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.own, &data[0])
}

func (f *fsm) decode(data []byte) (state.Entry, error) {
	if len(data) == 0 {
		return state.Entry{}, errors.New("decode entry: it is empty")
	}
	f.mu.Lock()
	e, ok := f.own[&data[0]]
	f.mu.Unlock()
	if ok {
		return e, nil
	}
	return state.DecodeEntry(data)
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. It is handed changes of the
// configuration too. An answer is nil or an error.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	before := f.db.View()
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		if err := f.apply(l); err != nil {
			answers[i] = err
		}
	}
	if f.db.View() != before {
		f.changed()
	}
	return answers
}

func (f *fsm) apply(l *raft.Log) error {
	if f.stopped != nil {
		return f.stopped
	}
	// After a restart of raft inside the process, or a snapshot that came late,
	// entries are applied again that this state already contains.
	if l.Index <= f.applied.Load() {
		return nil
	}
	e, err := f.decode(l.Data)
	if err == nil {
		err = f.db.Apply(e)
	}
	if err != nil && !errors.Is(err, state.ErrStale) {
		// To skip it would make this replica differ from the others.
		f.stopped = fmt.Errorf("entry %d of the log cannot be applied: %w", l.Index, err)
		f.poison(f.stopped)
		return f.stopped
	}
	f.applied.Store(l.Index)
	return err
}

// A snapshot is this header, then what state.View.WriteSnapshot writes.
const (
	snapshotMagic      = "shoalsn1"
	snapshotHeaderSize = len(snapshotMagic) + 8 // the index of the last entry, big endian
)

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.stopped != nil {
		return nil, f.stopped
	}
	return snapshot{f.db.View(), f.applied.Load()}, nil
}

type snapshot struct {
	view    *state.View
	applied uint64
}

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	header := binary.BigEndian.AppendUint64([]byte(snapshotMagic), s.applied)
	if _, err := sink.Write(header); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := s.view.WriteSnapshot(sink); err != nil {
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}

// Restore implements raft.FSM. The state never moves back: a snapshot that
// holds nothing new is read and dropped.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	header := make([]byte, snapshotHeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if string(header[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("read snapshot: it begins with %q", header[:len(snapshotMagic)])
	}
	applied := binary.BigEndian.Uint64(header[len(snapshotMagic):])
	if f.applied.Load() > 0 && applied <= f.applied.Load() {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		return nil
	}
	if err := f.db.Restore(r); err != nil {
		return err
	}
	f.applied.Store(applied)
	f.changed()
	return nil
}
