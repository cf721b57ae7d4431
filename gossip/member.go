package gossip

import (
	"bytes"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Presence is what gossip says of a node. There is no word for "suspect":
// memberlist keeps that to itself, and a suspect is alive until proved dead.
type Presence string

// What gossip may say.
const (
	Unknown Presence = ""      // never heard of, or dead for long
	Alive   Presence = "alive" // or not yet missed
	Dead    Presence = "dead"  // does not answer, or has said goodbye
)

// forget is how long a dead node is remembered.
const forget = 24 * time.Hour

// Member is a node as gossip sees it.
type Member struct {
	NodeID   string
	Presence Presence
	Addr     string // host:port of its gossip
	Meta     []byte // must not be modified
	Since    time.Time
}

// members is the table behind Presence. memberlist calls the Notify methods
// under its own lock: they must neither block nor call memberlist back, and
// must copy what they are shown.
type members struct {
	mu      sync.Mutex
	table   map[string]Member
	count   int // alive
	changed chan struct{}
}

func newMembers() *members {
	return &members{table: map[string]Member{}, changed: make(chan struct{})}
}

// NotifyJoin implements memberlist.EventDelegate.
func (m *members) NotifyJoin(n *memberlist.Node) { m.put(n, Alive) }

// NotifyUpdate implements memberlist.EventDelegate.
func (m *members) NotifyUpdate(n *memberlist.Node) { m.put(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate.
func (m *members) NotifyLeave(n *memberlist.Node) { m.put(n, Dead) }

func (m *members) put(n *memberlist.Node, presence Presence) {
	now := time.Now()
	next := Member{NodeID: n.Name, Presence: presence, Addr: n.Address(), Meta: bytes.Clone(n.Meta), Since: now}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.table[n.Name]; ok && old.Presence == presence {
		next.Since = old.Since
	}
	m.table[n.Name] = next
	m.count = 0
	for id, member := range m.table {
		if member.Presence == Alive {
			m.count++
		} else if now.Sub(member.Since) > forget {
			delete(m.table, id)
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *members) get(nodeID string) Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	if member, ok := m.table[nodeID]; ok {
		return member
	}
	return Member{NodeID: nodeID}
}

func (m *members) all() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Member, 0, len(m.table))
	for _, member := range m.table {
		all = append(all, member)
	}
	return all
}

func (m *members) alive() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

func (m *members) aliveAddrs() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	addrs := make(map[string]bool, len(m.table))
	for _, member := range m.table {
		if member.Presence == Alive {
			addrs[member.Addr] = true
		}
	}
	return addrs
}

func (m *members) wait() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// carrier gives memberlist this node's metadata; nothing else travels.
type carrier struct{ meta []byte }

// NodeMeta implements memberlist.Delegate.
func (c carrier) NodeMeta(int) []byte { return c.meta }

// NotifyMsg implements memberlist.Delegate.
func (carrier) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (carrier) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (carrier) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (carrier) MergeRemoteState([]byte, bool) {}
