package dispatcher

import (
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/raftstore/state"
)

const (
	// The storm brake: when more than brakePercent of the nodes, and at least
	// brakeNodes, vanish within brakeWindow, the fault is more likely on the
	// managers' side, and moving all that work would do more harm than waiting.
	// brakeNodes is 3 so that small clusters still survive one or two losses.
	brakePercent = 30
	brakeNodes   = 3
	brakeWindow  = time.Minute
	// suspectAfter is the silence after which a node counts as vanishing. It is
	// well below DownAfterDead, so that the first nodes of a storm are not
	// declared down before its size shows.
	suspectAfter = 4 * Heartbeat
	// awaitFor is the silence for which a task that leaves waits for a node: until
	// it would be down, but for the brake. A node that is merely slow goes on
	// sending. It is below the time after which a worker stops such a task anyway.
	awaitFor = DownAfter + time.Second
)

// ledger is what the leader has heard of each node in its term. A new leader
// starts with an empty one: everybody gets the full grace period again. It has
// no clock; callers tell it the time.
type ledger struct {
	applied chan struct{} // 1: some node has more in effect

	mu    sync.Mutex
	since time.Time // no node counts as silent from before this
	words map[string]word
	lost  map[string]time.Time // nodes declared down in this term, and when
}

// word is the last sign of life of a node.
type word struct {
	boot, manager string
	at            time.Time
	open          bool   // its session has not been closed
	applied       uint64 // the index that this boot has in effect
}

func newLedger(now time.Time) *ledger {
	return &ledger{applied: make(chan struct{}, 1), since: now, words: map[string]word{}, lost: map[string]time.Time{}}
}

// excuse starts the grace period of all nodes anew: the leader itself did not
// run, so it cannot tell who was silent.
func (l *ledger) excuse(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = now
}

// heard is what a batch means for the nodes.
type heard struct {
	refused []Refusal
	opened  []Opened // granted
	revived []string // alive, but not ready by the state
}

// hear notes the signs of life in a batch.
func (l *ledger) hear(v *state.View, b Batch, now time.Time) (h heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Sessions that ended come first: the next one may be that of a restarted
	// daemon.
	for _, g := range b.Gone {
		if w, ok := l.words[g.NodeID]; ok && w.boot == g.Boot && w.manager == b.ManagerID {
			w.open = false
			l.words[g.NodeID] = w
		}
	}
	for _, o := range b.Opened {
		if refusal, ok := l.refuseLocked(v.Node(o.NodeID), o.NodeID, o.Boot, now); ok {
			h.refused = append(h.refused, refusal)
			continue
		}
		l.words[o.NodeID] = word{boot: o.Boot, manager: b.ManagerID, at: now, open: true}
		h.opened = append(h.opened, o)
	}
	for _, a := range b.Alive {
		node := v.Node(a.NodeID)
		if refusal, ok := l.refuseLocked(node, a.NodeID, a.Boot, now); ok {
			if refusal.Clone && a.Age >= cloneWindow {
				refusal.Clone, refusal.Reason = false, "the node's daemon has started anew"
			}
			h.refused = append(h.refused, refusal)
			continue
		}
		l.aliveLocked(a, b.ManagerID, now.Add(-a.Age))
		// An old word of a node that has been declared down is no return.
		if status := node.Status; a.Age < suspectAfter && (status.State != swarm.NodeStateReady || status.Message == messageBraked) {
			h.revived = append(h.revived, a.NodeID)
		}
	}
	for _, a := range b.Applied {
		l.applyLocked(a)
	}
	return h
}

func (l *ledger) aliveLocked(a Alive, manager string, at time.Time) {
	old := l.words[a.NodeID]
	if !at.After(old.at) {
		return
	}
	next := word{boot: a.Boot, manager: manager, at: at, open: true}
	if old.boot == a.Boot {
		next.applied = old.applied
	}
	l.words[a.NodeID] = next
}

// applyLocked notes what a node has in effect. What an earlier boot had does
// not count: the next one may have started from less.
func (l *ledger) applyLocked(a Applied) {
	w, known := l.words[a.NodeID]
	if known && w.boot != a.Boot || a.Index <= w.applied {
		return
	}
	w.boot, w.applied = a.Boot, a.Index
	l.words[a.NodeID] = w
	wake(l.applied)
}

// awaits reports whether any of these nodes is there and does not have an index
// in effect yet, and which of them are not waited for because they are silent.
func (l *ledger) awaits(nodes []*state.Node, index uint64, now time.Time) (waits bool, silent []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range nodes {
		switch {
		case l.words[n.ID].applied >= index:
		case now.Sub(l.lastLocked(n, now)) < awaitFor:
			return true, nil
		default:
			silent = append(silent, n.ID)
		}
	}
	return false, silent
}

func (l *ledger) refuseLocked(n *state.Node, nodeID, boot string, now time.Time) (Refusal, bool) {
	if n == nil {
		reason := fmt.Sprintf("node %s was removed from the cluster or never joined it", nodeID)
		return Refusal{NodeID: nodeID, Boot: boot, Reason: reason}, true
	}
	w := l.words[nodeID]
	if w.open && w.boot != boot && now.Sub(w.at) < cloneWindow {
		reason := fmt.Sprintf("another daemon with the identity of node %s is alive: a copy of its state directory must not be started", nodeID)
		return Refusal{NodeID: nodeID, Boot: boot, Clone: true, Reason: reason}, true
	}
	return Refusal{}, false
}

// verdict is what silence means at one moment.
type verdict struct {
	down   []string // to be declared down
	absent []string // likewise, but they have never been there
	braked []string // would be, but for the brake
	lost   int      // nodes that have vanished within brakeWindow
	nodes  int      // nodes that lost is measured against
}

// judge says which nodes have been silent for too long. dead is what gossip
// says; it is asked only about nodes whose silence leaves it a say.
func (l *ledger) judge(v *state.View, now time.Time, dead func(string) bool) (j verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var vanished []string
	for n := range v.Nodes() {
		if n.Status.State == swarm.NodeStateDown {
			if at, ok := l.lost[n.ID]; ok && now.Sub(at) < brakeWindow {
				j.lost++
				j.nodes++
			}
			continue
		}
		silence := now.Sub(l.lastLocked(n, now))
		overdue := overdue(silence, n.ID, dead)
		if n.Status.State != swarm.NodeStateReady {
			// It has joined and not been ready yet, so it cannot vanish.
			if overdue {
				j.absent = append(j.absent, n.ID)
			}
			continue
		}
		j.nodes++
		if silence >= suspectAfter {
			j.lost++
		}
		if overdue {
			vanished = append(vanished, n.ID)
		}
	}
	if j.lost >= brakeNodes && j.lost*100 > brakePercent*j.nodes {
		j.braked = vanished
	} else {
		j.down = vanished
	}
	return j
}

// overdue reports whether a silence is too long for a node that lives.
func overdue(silence time.Duration, nodeID string, dead func(string) bool) bool {
	return silence >= DownAfter || silence >= DownAfterDead && dead(nodeID)
}

// lastLocked is when a node was heard from, or got its chance to speak.
func (l *ledger) lastLocked(n *state.Node, now time.Time) time.Time {
	last := l.since
	if at := l.words[n.ID].at; at.After(last) {
		last = at
	}
	// Another leader's clock may have been ahead of ours.
	if n.CreatedAt.After(last) && !n.CreatedAt.After(now) {
		last = n.CreatedAt
	}
	return last
}

// declared notes that these nodes are down by the state now, and forgets what
// does not matter any more.
func (l *ledger) declared(v *state.View, ids []string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.lost[id] = now
	}
	for id, at := range l.lost {
		if now.Sub(at) >= brakeWindow {
			delete(l.lost, id)
		}
	}
	for id := range l.words {
		if v.Node(id) == nil {
			delete(l.words, id)
		}
	}
}
