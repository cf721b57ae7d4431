package raftstore

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"shoal/raftstore/state"
)

// diskCheck is how often free space and the append under way are looked at.
const diskCheck = 500 * time.Millisecond

// watchDisk ends the store when its disk hangs, and sees to it that a disk
// which fills up is noticed before it is full.
//
// raft sends heartbeats while an append hangs, so the others would follow a
// leader that can never commit again.
func (s *Store) watchDisk() {
	tick := time.NewTicker(diskCheck)
	defer tick.Stop()
	for {
		s.lookAtSpace()
		select {
		case now := <-tick.C:
			if took := s.disk.timed.pending(now); took > s.cfg.MaxAppend {
				s.fail(fmt.Errorf("the disk hangs: a write to the log in %s takes more than %s", s.cfg.Dir, s.cfg.MaxAppend))
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// space is what is known of the free space of the disk.
type space struct {
	low  atomic.Bool
	free atomic.Uint64
}

func (s *Store) lookAtSpace() {
	free, total, err := s.freeSpace()
	if err != nil || total == 0 {
		return // looked at again soon; an append will tell if it is serious
	}
	s.space.free.Store(free)
	low := free < s.minFree(total)
	if was := s.space.low.Swap(low); was != low {
		if low {
			s.log.Warn("disk nearly full, new objects are refused", "free", free, "needed", s.minFree(total))
		} else {
			s.log.Info("disk has space again", "free", free)
		}
	}
	if !low {
		s.disk.timed.full.Store(false)
	}
}

func (s *Store) freeSpace() (free, total uint64, err error) {
	if s.cfg.hooks.free != nil {
		return s.cfg.hooks.free()
	}
	if s.cfg.InMemory {
		return 1, 1, nil
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.cfg.Dir, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize) //nolint:gosec // a block size is positive
	return st.Bavail * size, st.Blocks * size, nil
}

// minFree is the free space below which new objects are refused. A tenth of a
// large disk is more than the log will ever need.
func (s *Store) minFree(total uint64) uint64 {
	switch {
	case s.cfg.MinFree > 0:
		return s.cfg.MinFree
	case s.cfg.InMemory && s.cfg.hooks.free == nil:
		return 0
	default:
		return min(max(total/10, 256<<20), 2<<30)
	}
}

// checkSpace refuses changes that make something new on a disk that is nearly
// full. Tasks, nodes and remembered requests may be new: without them the
// cluster could not keep what it has running, nor confirm a deletion.
func (s *Store) checkSpace(v *state.View, changes []state.Change) error {
	if !s.space.low.Load() {
		return nil
	}
	for _, c := range changes {
		if c.Object() != nil && refusable(c.Kind()) && !exists(v, c) {
			return fmt.Errorf("create %s: %w", c.Kind(), ErrDiskLow)
		}
	}
	return nil
}

func refusable(k state.Kind) bool {
	switch k {
	case state.KindService, state.KindRevision, state.KindNetwork, state.KindSecret, state.KindConfig, state.KindVolume:
		return true
	case state.KindCluster, state.KindNode, state.KindTask, state.KindRequest, state.KindAttachment:
		return false
	default:
		return true
	}
}

func exists(v *state.View, c state.Change) bool {
	switch o := c.Object().(type) {
	case *state.Service:
		return v.Service(o.ID) != nil
	case *state.Revision:
		return v.Revision(o.ServiceID, o.Number) != nil
	case *state.Network:
		return v.Network(o.ID) != nil
	case *state.Secret:
		return v.Secret(o.ID) != nil
	case *state.Config:
		return v.Config(o.ID) != nil
	case *state.Volume:
		return v.Volume(c.Key()) != nil
	default:
		return false
	}
}
