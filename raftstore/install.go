package raftstore

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// install decides about a snapshot that another manager sent.
//
// Left to itself, raft takes one that is older than its state and moves back;
// and one that contradicts its log at the snapshot's index, after which it
// refuses every later entry. And it keeps entries below the snapshot that may
// never have been committed.
func (g *guard) install(rpc raft.RPC, req *raft.InstallSnapshotRequest) {
	s := g.store
	r := s.raft.Load()
	if req.Term >= r.CurrentTerm() {
		if req.LastLogIndex <= r.AppliedIndex() {
			g.drop(rpc, r.CurrentTerm())
			return
		}
		if err := g.clear(req); err != nil {
			io.Copy(io.Discard, rpc.Reader) //nolint:errcheck // the call fails anyway
			rpc.Respond(nil, err)
			return
		}
	}
	answer := make(chan raft.RPCResponse, 1)
	back := rpc.RespChan
	rpc.RespChan = answer
	if !g.pass(rpc) {
		return
	}
	select {
	case a := <-answer:
		if resp, ok := a.Response.(*raft.InstallSnapshotResponse); ok && resp.Success && a.Error == nil {
			a.Error = s.disk.cutLog(req.LastLogIndex, req.LastLogTerm, true)
		}
		back <- a
	case <-s.ctx.Done():
	}
}

// drop reads a snapshot with nothing new to its end and accepts it.
func (g *guard) drop(rpc raft.RPC, term uint64) {
	g.store.log.Info("snapshot with nothing new dropped")
	if _, err := io.Copy(io.Discard, rpc.Reader); err != nil {
		rpc.Respond(nil, fmt.Errorf("read snapshot: %w", err))
		return
	}
	rpc.Respond(&raft.InstallSnapshotResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, Term: term, Success: true}, nil)
}

// clear removes an entry that contradicts the snapshot, and those after it:
// none of them can have been committed. raft remembers the end of its log, so
// it is stopped meanwhile.
func (g *guard) clear(req *raft.InstallSnapshotRequest) error {
	s := g.store
	var own raft.Log
	if err := s.disk.logs.GetLog(req.LastLogIndex, &own); err != nil || own.Term == req.LastLogTerm {
		return nil // nothing there, or the same
	}
	s.log.Warn("log contradicts the leader's snapshot, its end is cut off", "from", req.LastLogIndex)
	s.endTerm()
	if err := s.raft.Load().Shutdown().Error(); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	err := s.disk.cutLog(req.LastLogIndex, req.LastLogTerm, false)
	if startErr := s.start(); startErr != nil {
		s.fail(startErr) // there is no raft any more
		return startErr
	}
	return err
}
