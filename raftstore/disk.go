package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"shoal/internal/durable"
)

// disk is where raft keeps its log, its vote and its snapshots.
type disk struct {
	dir       string // empty in memory
	logs      raft.LogStore
	timed     *timedLogs
	stable    *stableStore
	snapshots raft.SnapshotStore
	bolt      *raftboltdb.BoltStore // nil in memory
}

const (
	boltFile = "raft.db"
	// keepSnapshots leaves one to fall back to when the newest is damaged.
	keepSnapshots = 2
	// cachedEntries saves reading back what was just written; an entry can be
	// 1 MiB, so not more than replication needs.
	cachedEntries = 128
)

func openDisk(cfg Config, log *slog.Logger, took func(time.Duration)) (*disk, error) {
	d := &disk{dir: cfg.Dir}
	var logs raft.LogStore
	var stable raft.StableStore
	var snapshots raft.SnapshotStore
	if cfg.InMemory {
		mem := raft.NewInmemStore()
		d.dir, logs, stable, snapshots = "", mem, mem, raft.NewInmemSnapshotStore()
	} else {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
		var err error
		if d.bolt, err = openBolt(filepath.Join(cfg.Dir, boltFile)); err != nil {
			return nil, err
		}
		logs, stable = d.bolt, d.bolt
		if snapshots, err = openSnapshots(cfg.Dir, log); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	if err := checkKey(stable, newSealer(cfg.Key, "key check")); err != nil {
		return nil, errors.Join(err, d.close())
	}
	if cfg.hooks.logs != nil {
		logs = cfg.hooks.logs(logs)
	}
	d.timed = &timedLogs{LogStore: &sealedLogs{logs, newSealer(cfg.Key, "log")}, took: took}
	cache, err := raft.NewLogCache(cachedEntries, d.timed)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.logs = cache
	d.stable = &stableStore{StableStore: stable}
	d.snapshots = &sealedSnapshots{snapshots, newSealer(cfg.Key, "snapshot")}
	return d, nil
}

// openBolt opens the file, or makes one. A file that was being made when the
// power failed is not taken for a good one.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = createBolt(path)
	} else if err == nil {
		err = checkWhole(path)
	}
	if err != nil {
		return nil, err
	}
	store, err := raftboltdb.New(boltOptions(path))
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use by another process: %w", path, errdefs.ErrFailedPrecondition)
	}
	return store, err
}

func boltOptions(path string) raftboltdb.Options {
	return raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout:        5 * time.Second, // without one, a second process waits for ever
			NoFreelistSync: true,            // a long free list would be written with each append
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	}
}

func createBolt(path string) error {
	temp := path + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	store, err := raftboltdb.New(boltOptions(temp))
	if err != nil {
		return err
	}
	if err := errors.Join(store.Sync(), store.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// keyCheck is sealed into a new store to tell a wrong key from a damaged file.
const keyCheck = "shoal data key"

func checkKey(stable raft.StableStore, s *sealer) error {
	name := []byte("shoal.key-check")
	sealed, err := stable.Get(name)
	if notFound(err) {
		if sealed, err = s.seal([]byte(keyCheck), name); err != nil {
			return err
		}
		return stable.Set(name, sealed)
	}
	if err != nil {
		return fmt.Errorf("read key check: %w", err)
	}
	if plain, err := s.open(sealed, name); err != nil || !bytes.Equal(plain, []byte(keyCheck)) {
		return fmt.Errorf("the data key is not the one that this directory was sealed with: %w", errdefs.ErrPermissionDenied)
	}
	return nil
}

// notFound says whether a stable store has no such key. raft itself knows
// this answer by its text.
func notFound(err error) bool { return err != nil && err.Error() == "not found" }

// reconcile removes entries that the newest snapshot shows to be wrong: when
// the log's own entry at the snapshot's index is another one or missing, then
// what the log holds below it may never have been committed. raft leaves it
// there and would hand it on to others.
func (d *disk) reconcile() error {
	snapshots, err := d.snapshots.List()
	if err != nil || len(snapshots) == 0 {
		return err
	}
	return d.cutLog(snapshots[0].Index, snapshots[0].Term, true)
}

// cutLog compares the log with a snapshot of this index and term. A
// conflicting entry goes, with all that follow it; if the snapshot is stored
// here, so do all before.
func (d *disk) cutLog(index, term uint64, stored bool) error {
	first, err := d.logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	last, err := d.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if first == 0 || first > index {
		return nil
	}
	var own raft.Log
	err = d.logs.GetLog(index, &own)
	switch {
	case err == nil && own.Term == term:
		return nil
	case err == nil:
		err = d.logs.DeleteRange(index, last)
	case errors.Is(err, raft.ErrLogNotFound):
		err = nil
	}
	if err == nil && stored {
		err = d.logs.DeleteRange(first, index)
	}
	if err != nil {
		return fmt.Errorf("cut log at %d: %w", index, err)
	}
	return nil
}

func (d *disk) close() error {
	if d.bolt == nil {
		return nil
	}
	return d.bolt.Close()
}
