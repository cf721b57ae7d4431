package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// ack is the newest entry that another manager is known to hold, in the words
// of the call that it accepted.
type ack struct {
	req    raft.AppendEntriesRequest // without entries
	addr   raft.ServerAddress
	commit uint64 // the commit index it was told
	busy   bool   // a nudge is on its way
}

// acked notes that a manager accepted req. It says whether there is something
// to tell it: heartbeats, which check nothing, prove nothing.
func (p *peerTable) acked(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest) bool {
	index, term := req.PrevLogEntry, req.PrevLogTerm
	if n := len(req.Entries); n > 0 {
		index, term = req.Entries[n-1].Index, req.Entries[n-1].Term
	}
	if index == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.acks[id]
	if a == nil || a.req.Term != req.Term {
		a = &ack{}
		p.acks[id] = a
	}
	if index < a.req.PrevLogEntry {
		return false
	}
	a.addr = addr
	a.req = raft.AppendEntriesRequest{RPCHeader: req.RPCHeader, Term: req.Term, PrevLogEntry: index, PrevLogTerm: term}
	a.commit = max(a.commit, min(req.LeaderCommitIndex, index))
	return index > a.commit
}

// wakeNudge lets nudge look again.
func (s *Store) wakeNudge() {
	select {
	case s.nudges <- struct{}{}:
	default:
	}
}

// nudge tells followers at once that what they hold is committed.
//
// raft tells them with the next entry, or after some tens of milliseconds. On
// a quiet cluster that is how long a worker would wait for its task.
func (s *Store) nudge() {
	for {
		select {
		case <-s.nudges:
		case <-s.ctx.Done():
			return
		}
		t, _ := s.term.get()
		if t == nil || !t.writer.idle() {
			continue // the next entry brings the news
		}
		commit := s.raft.Load().CommitIndex()
		p := s.guard.peers
		p.mu.Lock()
		for id, a := range p.acks {
			// Beyond what it has confirmed in this term, its log may be another one.
			known := min(commit, a.req.PrevLogEntry)
			if a.req.Term != t.number || a.busy || known <= a.commit {
				continue
			}
			req, addr := a.req, a.addr
			req.LeaderCommitIndex = known
			a.busy = s.call(func() { s.tell(id, addr, a, &req) })
		}
		p.mu.Unlock()
	}
}

// tell sends a nudge. If it is lost, raft's own messages bring the same.
func (s *Store) tell(id raft.ServerID, addr raft.ServerAddress, a *ack, req *raft.AppendEntriesRequest) {
	var resp raft.AppendEntriesResponse
	err := s.guard.Transport.AppendEntries(id, addr, req, &resp)
	p := s.guard.peers
	p.mu.Lock()
	a.busy = false
	if err == nil && resp.Success {
		a.commit = max(a.commit, req.LeaderCommitIndex)
	}
	p.mu.Unlock()
	if err == nil && resp.Success {
		p.saw(id, resp.LastLog, time.Now())
		s.wakeNudge() // there may be more by now
	}
}
