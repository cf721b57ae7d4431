package raftstore

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Store needs. Zero values take the default named.
type Config struct {
	Dir    string // required unless InMemory; made with mode 0700
	NodeID string // required
	Addr   string // required: host:port at which the other managers reach this one
	Key    []byte // required: 32 bytes, seals what is written to Dir

	// Stream accepts and dials connections to managers. The store closes it.
	Stream raft.StreamLayer
	// Transport, for tests, takes the place of Stream.
	Transport raft.Transport

	Log        *slog.Logger          // slog.Default()
	Registerer prometheus.Registerer // nil: no metrics

	Heartbeat time.Duration // 500ms; silence after which a follower wants an election
	Election  time.Duration // 500ms; how long one try of an election lasts
	Lease     time.Duration // 500ms; silence of the majority after which a leader steps down

	SnapshotEvery    uint64        // 8192 entries
	SnapshotInterval time.Duration // 2m; how often the number of entries is looked at
	TrailingEntries  uint64        // 10240; kept behind a snapshot for slow followers

	MaxAppend time.Duration // 5s; a log write that takes longer ends this store
	MinFree   uint64        // bytes; default a tenth of the disk, within 256 MiB and 2 GiB

	InMemory bool // nothing is written; for tests

	hooks hooks
}

// hooks let the tests of this package stand in for a disk.
type hooks struct {
	logs func(raft.LogStore) raft.LogStore
	free func() (free, total uint64, err error)
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "" && !c.InMemory:
		return fmt.Errorf("raftstore: no directory: %w", errdefs.ErrInvalidArgument)
	case c.NodeID == "":
		return fmt.Errorf("raftstore: no node id: %w", errdefs.ErrInvalidArgument)
	case c.Addr == "":
		return fmt.Errorf("raftstore: no address: %w", errdefs.ErrInvalidArgument)
	case len(c.Key) != keySize:
		return fmt.Errorf("raftstore: the data key has %d bytes, it needs %d: %w", len(c.Key), keySize, errdefs.ErrInvalidArgument)
	case c.Stream == nil && c.Transport == nil:
		return fmt.Errorf("raftstore: neither stream nor transport: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Heartbeat, 500 * time.Millisecond},
		{&c.Election, 500 * time.Millisecond},
		{&c.Lease, 500 * time.Millisecond},
		{&c.SnapshotInterval, 2 * time.Minute},
		{&c.MaxAppend, 5 * time.Second},
	} {
		if *d.field <= 0 { // a zero would switch periodic work off
			*d.field = d.value
		}
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = 8192
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = 10240
	}
}
