package raftstore

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

var (
	// ErrNotLeader says that only the leader can do this and that nothing was
	// done. It is an errdefs.ErrUnavailable.
	ErrNotLeader = fmt.Errorf("this manager is not the leader: %w", errdefs.ErrUnavailable)

	// ErrOutcomeUnknown says that an update was proposed and that nobody knows
	// yet whether it will be applied. It is an errdefs.ErrUnavailable.
	ErrOutcomeUnknown = fmt.Errorf("leadership was lost before the update was confirmed, it may or may not happen: %w", errdefs.ErrUnavailable)

	// ErrClosed says that the store was closed.
	ErrClosed = fmt.Errorf("the store is closed: %w", errdefs.ErrUnavailable)

	// ErrDiskLow says that new objects are refused because the disk that holds
	// the log is nearly full. Deletions are still accepted.
	ErrDiskLow = fmt.Errorf("the disk of the leader is nearly full, new objects are refused: %w", errdefs.ErrResourceExhausted)
)

// errReplan says that an update was planned on a state that did not come to
// be. It never happened and is planned again.
var errReplan = errors.New("planned on a state that did not come to be")
