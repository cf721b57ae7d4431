package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// The two keys under which raft stores its vote, one after the other.
const (
	voteTerm      = "LastVoteTerm"
	voteCandidate = "LastVoteCand"
	voteRecord    = "shoal.vote" // both: the term, 8 bytes big endian, then the candidate
)

// stableStore writes raft's vote in one piece. raft stores the term of the
// vote first and then the candidate; a crash between the two would leave a
// vote for the candidate of an earlier term, which raft honours without
// looking at that candidate's log.
type stableStore struct {
	raft.StableStore
	mu   sync.Mutex
	term uint64 // of a vote whose candidate has not come yet
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, value uint64) error {
	if string(key) != voteTerm {
		return s.write(func() error { return s.StableStore.SetUint64(key, value) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = value
	return nil
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, value []byte) error {
	if string(key) != voteCandidate {
		return s.write(func() error { return s.StableStore.Set(key, value) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	record := append(binary.BigEndian.AppendUint64(nil, s.term), value...)
	return s.write(func() error { return s.StableStore.Set([]byte(voteRecord), record) })
}

// write tries again while the disk is full: raft ends the process when it
// cannot store its term, but a manager whose disk is full only has to wait.
func (s *stableStore) write(f func() error) error {
	for {
		err := f()
		if !noSpace(err) {
			return err
		}
		<-time.After(diskCheck)
	}
}

// GetUint64 implements raft.StableStore.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	if string(key) != voteTerm {
		return s.StableStore.GetUint64(key)
	}
	record, err := s.vote()
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(record), nil
}

// Get implements raft.StableStore.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	if string(key) != voteCandidate {
		return s.StableStore.Get(key)
	}
	record, err := s.vote()
	if err != nil {
		return nil, err
	}
	return record[8:], nil
}

func (s *stableStore) vote() ([]byte, error) {
	record, err := s.StableStore.Get([]byte(voteRecord))
	if err != nil {
		return nil, err // raft compares the text of "not found"
	}
	if len(record) < 8 {
		return nil, fmt.Errorf("the record of the last vote has %d bytes", len(record))
	}
	return record, nil
}

func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
