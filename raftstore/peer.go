package raftstore

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// contact is what the leader knows of another manager.
type contact struct {
	last  time.Time
	index uint64 // the last entry of its log
}

// peerTable holds the contacts of this manager, as far as it leads.
type peerTable struct {
	mu      sync.Mutex
	byID    map[raft.ServerID]contact
	acks    map[raft.ServerID]*ack
	changed broadcast // an index went up
}

func newPeerTable() *peerTable {
	return &peerTable{byID: map[raft.ServerID]contact{}, acks: map[raft.ServerID]*ack{}, changed: broadcast{ch: make(chan struct{})}}
}

func (p *peerTable) saw(id raft.ServerID, index uint64, now time.Time) {
	p.mu.Lock()
	grown := index > p.byID[id].index
	p.byID[id] = contact{now, index}
	p.mu.Unlock()
	if grown {
		p.changed.send()
	}
}

func (p *peerTable) get(id raft.ServerID) contact {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byID[id]
}
