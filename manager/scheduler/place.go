package scheduler

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"shoal/raftstore/state"
)

// candidate is a node that can take a task of the group at hand.
type candidate struct {
	*nodeInfo
	failing bool
	tie     uint64 // so that equal nodes take turns in another order for every service
}

// less says which of two nodes a task of the service should rather go to.
func (c *candidate) less(o *candidate, serviceID string) bool {
	if c.failing != o.failing {
		return o.failing
	}
	return cmp.Or(
		cmp.Compare(c.byService[serviceID], o.byService[serviceID]),
		cmp.Compare(c.tasks, o.tasks),
		cmp.Compare(c.tie, o.tie),
		cmp.Compare(c.node.ID, o.node.ID),
	) < 0
}

// branch is the nodes that share the values of the first labels that a group
// spreads over: a tree, with the candidates at its leaves.
type branch struct {
	tasks    int // of the service, below this branch
	order    int // among its siblings, to break ties
	children branches
	leaf     *leaf // nil unless this is a leaf
}

// take picks the next node, or nil when nothing below can take a task. give
// must be called with it, or the node is not offered again.
func (b *branch) take() *candidate {
	if b.leaf != nil {
		if b.leaf.Len() == 0 {
			return nil
		}
		return heap.Pop(b.leaf).(*candidate)
	}
	for len(b.children) > 0 {
		if c := b.children[0].take(); c != nil {
			return c
		}
		heap.Pop(&b.children) // exhausted
	}
	return nil
}

// placed tells the branches that were taken from that the task is there, and
// offers the node again if it still can take one.
func (b *branch) placed(c *candidate, again bool) {
	b.tasks++
	if b.leaf != nil {
		if again {
			heap.Push(b.leaf, c)
		}
		return
	}
	b.children[0].placed(c, again)
	heap.Fix(&b.children, 0)
}

// newTree sorts candidates into branches by the values of labels, which are
// those of the placement preferences, the outermost first.
func newTree(candidates []*candidate, serviceID string, labels []label) *branch {
	b := &branch{}
	for _, c := range candidates {
		b.tasks += c.byService[serviceID]
	}
	if len(labels) == 0 {
		b.leaf = &leaf{serviceID: serviceID, candidates: candidates}
		heap.Init(b.leaf)
		return b
	}
	groups := map[string][]*candidate{}
	for _, c := range candidates {
		value := labels[0](c.node)
		groups[value] = append(groups[value], c)
	}
	for i, value := range slices.Sorted(maps.Keys(groups)) {
		child := newTree(groups[value], serviceID, labels[1:])
		child.order = i
		b.children = append(b.children, child)
	}
	heap.Init(&b.children)
	return b
}

// label reads one label of a node; a missing one is empty.
type label func(*state.Node) string

// labelOf returns the label that a spread descriptor names. Descriptors that
// name something else are ignored, as in Swarm.
func labelOf(descriptor string) (label, bool) {
	if key, ok := cutPrefixFold(descriptor, "node.labels."); ok {
		return func(n *state.Node) string { return n.Spec.Labels[key] }, true
	}
	if key, ok := cutPrefixFold(descriptor, "engine.labels."); ok {
		return func(n *state.Node) string { return n.Description.Engine.Labels[key] }, true
	}
	return nil, false
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) <= len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

func tie(serviceID, nodeID string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(serviceID))
	h.Write([]byte(nodeID))
	return h.Sum64()
}

// branches is a heap of branches, the one with the fewest tasks first.
type branches []*branch

func (b branches) Len() int { return len(b) }
func (b branches) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(b[i].tasks, b[j].tasks), cmp.Compare(b[i].order, b[j].order)) < 0
}
func (b branches) Swap(i, j int) { b[i], b[j] = b[j], b[i] }
func (b *branches) Push(x any)   { *b = append(*b, x.(*branch)) }
func (b *branches) Pop() any {
	last := (*b)[len(*b)-1]
	*b = (*b)[:len(*b)-1]
	return last
}

// leaf is a heap of candidates, the best first.
type leaf struct {
	serviceID  string
	candidates []*candidate
}

func (l *leaf) Len() int           { return len(l.candidates) }
func (l *leaf) Less(i, j int) bool { return l.candidates[i].less(l.candidates[j], l.serviceID) }
func (l *leaf) Swap(i, j int) {
	l.candidates[i], l.candidates[j] = l.candidates[j], l.candidates[i]
}
func (l *leaf) Push(x any) { l.candidates = append(l.candidates, x.(*candidate)) }
func (l *leaf) Pop() any {
	last := l.candidates[len(l.candidates)-1]
	l.candidates = l.candidates[:len(l.candidates)-1]
	return last
}
