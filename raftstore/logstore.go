package raftstore

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// sealedLogs seals the data of log entries, bound to where they stand.
//
// It must never say that it is monotonic: with such a store raft forgets the
// log when it installs a snapshot, and panics at the next append.
type sealedLogs struct {
	raft.LogStore
	sealer *sealer
}

func logPlace(l *raft.Log) []byte {
	place := binary.BigEndian.AppendUint64(make([]byte, 0, 17), l.Index)
	place = binary.BigEndian.AppendUint64(place, l.Term)
	return append(place, byte(l.Type))
}

// GetLog implements raft.LogStore.
func (s *sealedLogs) GetLog(index uint64, l *raft.Log) error {
	if err := s.LogStore.GetLog(index, l); err != nil {
		return err
	}
	data, err := s.sealer.open(l.Data, logPlace(l))
	if err != nil {
		return fmt.Errorf("log entry %d: %w", index, err)
	}
	if l.Index != index {
		return fmt.Errorf("log entry %d is stored at %d", l.Index, index)
	}
	l.Data = data
	return nil
}

// StoreLog implements raft.LogStore.
func (s *sealedLogs) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries given stay as they are.
func (s *sealedLogs) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		data, err := s.sealer.seal(l.Data, logPlace(l))
		if err != nil {
			return fmt.Errorf("log entry %d: %w", l.Index, err)
		}
		c := *l
		c.Data = data
		sealed[i] = &c
	}
	return s.LogStore.StoreLogs(sealed)
}

// timedLogs knows how long the append that is under way has taken, and
// whether the last one succeeded.
type timedLogs struct {
	raft.LogStore
	began atomic.Int64 // Unix nanoseconds, 0 while there is none
	full  atomic.Bool  // the disk had no space for the last append
	took  func(time.Duration)
}

// StoreLog implements raft.LogStore.
func (t *timedLogs) StoreLog(l *raft.Log) error { return t.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (t *timedLogs) StoreLogs(logs []*raft.Log) error {
	began := time.Now()
	t.began.Store(began.UnixNano())
	err := t.LogStore.StoreLogs(logs)
	t.began.Store(0)
	t.full.Store(noSpace(err))
	t.took(time.Since(began))
	return err
}

// pending is how long the append under way has taken.
func (t *timedLogs) pending(now time.Time) time.Duration {
	began := t.began.Load()
	if began == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, began))
}
