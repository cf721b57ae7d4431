package node

import (
	"os"
	"path/filepath"
)

// checkLog refuses to run a manager whose Raft log is gone. With an empty one
// it would vote again in terms that it has voted in, and count as a witness of
// writes that it does not have: an acknowledged write could be lost.
func (m *member) checkLog() error {
	if !m.record.Load().HasLog {
		return nil
	}
	path := filepath.Join(m.cfg.raftDir(), "raft.db")
	if info, err := os.Stat(path); err == nil && info.Size() > 0 || err != nil && !os.IsNotExist(err) {
		return nil // opening it says the rest
	}
	return failed("%s is missing or empty, but this manager had a Raft log: restore it from a backup, or run `shoal leave --force` here, `shoal node rm --force %s` on another manager, and join again", path, m.record.Load().NodeID)
}

// noteLog remembers that from now on this manager has a log to lose.
func (m *member) noteLog() {
	if m.isReady() && !m.record.Load().HasLog {
		m.remember(func(r *record) { r.HasLog = true })
	}
}

// forgetLog removes the log of a node that is no manager any more: its votes
// and its log mean nothing to the others.
func (m *member) forgetLog() error {
	if m.record.Load().HasLog {
		m.remember(func(r *record) { r.HasLog = false })
	}
	return removeAll(m.cfg.raftDir())
}
