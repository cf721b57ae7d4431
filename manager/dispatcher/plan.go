package dispatcher

import (
	"net"
	"reflect"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// What node and task messages say.
const (
	messageDown     = "heartbeat failure"
	messageBraked   = "not heard from; not declared down, because too many nodes vanished at once"
	messageOrphaned = "node is gone for good"
)

// planNodes writes down what was heard of nodes: opened sessions, changed
// descriptions, and the nodes in revived, which are not ready but alive.
func planNodes(v *state.View, opened []Opened, described []Description, revived []string, now time.Time) []state.Change {
	d := nodeDrafts(v)
	for _, o := range opened {
		d.edit(o.NodeID, func(n *state.Node) { applyOpened(n, o, now) })
	}
	for _, x := range described {
		d.edit(x.NodeID, func(n *state.Node) { describe(n, x.Description) })
	}
	for _, id := range revived {
		d.edit(id, func(n *state.Node) { markReady(n, now) })
	}
	return d.changes()
}

func applyOpened(n *state.Node, o Opened, now time.Time) {
	markReady(n, now)
	n.Boot = o.Boot
	if len(o.TunnelKey) > 0 {
		n.TunnelKey = o.TunnelKey
	}
	if o.Addr != "" {
		n.Addr = o.Addr
		if host, _, err := net.SplitHostPort(o.Addr); err == nil {
			n.Status.Addr = host
		}
	}
	if o.Description.Hostname != "" {
		describe(n, o.Description)
	}
}

// describe writes down what a node says of itself. What issued its certificate
// is known since it joined.
func describe(n *state.Node, d swarm.NodeDescription) {
	if d.TLSInfo.TrustRoot == "" {
		d.TLSInfo = n.Description.TLSInfo
	}
	n.Description = d
}

func markReady(n *state.Node, now time.Time) {
	if n.Status.State == swarm.NodeStateDown {
		n.ReturnedAt = now.UTC().Round(0)
	}
	n.Status.State = swarm.NodeStateReady
	n.Status.Message = ""
	n.DownSince = time.Time{}
}

// planDown declares nodes down.
func planDown(v *state.View, ids []string, now time.Time) []state.Change {
	d := nodeDrafts(v)
	for _, id := range ids {
		d.edit(id, func(n *state.Node) {
			if n.Status.State == swarm.NodeStateDown {
				return
			}
			n.Status.State = swarm.NodeStateDown
			n.Status.Message = messageDown
			n.DownSince = now.UTC().Round(0)
		})
	}
	return d.changes()
}

// planBraked says of silent nodes why they are not declared down.
func planBraked(v *state.View, ids []string) []state.Change {
	d := nodeDrafts(v)
	for _, id := range ids {
		d.edit(id, func(n *state.Node) { n.Status.Message = messageBraked })
	}
	return d.changes()
}

// planStatuses writes down what workers say of their tasks. Ignored are unknown
// tasks, workers that do not have the task, steps back, and anything about a
// task that has ended.
func planStatuses(v *state.View, statuses []Status) []state.Change {
	d := drafts[*state.Task]{get: v.Task, clone: func(t *state.Task) *state.Task { c := *t; return &c }}
	for _, s := range statuses {
		d.edit(s.TaskID, func(t *state.Task) {
			if t.NodeID == s.NodeID && follows(t.Status.State, s.Status.State) {
				t.Status = s.Status
				t.Status.At = s.Status.At.UTC().Round(0)
			}
		})
	}
	return d.changes()
}

// follows reports whether a worker may move a task from one state to another.
func follows(from, to taskstate.State) bool {
	return from >= taskstate.Assigned && !from.Terminal() &&
		to >= taskstate.Accepted && to <= taskstate.Rejected && to >= from
}

// planOrphans gives up the unfinished tasks of nodes that have been down for
// long, at most limit of them.
func planOrphans(v *state.View, now time.Time, limit int) (changes []state.Change) {
	for n := range v.Nodes() {
		if n.Status.State != swarm.NodeStateDown || n.DownSince.IsZero() || now.Sub(n.DownSince) < OrphanAfter {
			continue
		}
		for t := range v.TasksOfNode(n.ID) {
			if len(changes) == limit {
				return changes
			}
			if !t.Status.State.Terminal() {
				changes = append(changes, orphan(t, now))
			}
		}
	}
	return changes
}

// planRemoved gives up the unfinished tasks among these whose node is not in
// the cluster any more, at most limit of them.
func planRemoved(v *state.View, tasks func(yield func(*state.Task) bool), now time.Time, limit int) (changes []state.Change) {
	for t := range tasks {
		if len(changes) == limit {
			break
		}
		if t.NodeID != "" && !t.Status.State.Terminal() && v.Node(t.NodeID) == nil {
			changes = append(changes, orphan(t, now))
		}
	}
	return changes
}

func orphan(t *state.Task, now time.Time) state.Change {
	c := *t
	c.Status.State = taskstate.Orphaned
	c.Status.At = now.UTC().Round(0)
	c.Status.Message = messageOrphaned
	return state.Put(&c)
}

// drafts collects edited copies of objects, in the order of first touch.
type drafts[T state.Object] struct {
	get   func(id string) T
	clone func(T) T
	order []*draft[T]
	byID  map[string]*draft[T]
}

type draft[T state.Object] struct{ stored, edited T }

func nodeDrafts(v *state.View) *drafts[*state.Node] {
	return &drafts[*state.Node]{get: v.Node, clone: func(n *state.Node) *state.Node { c := *n; return &c }}
}

// edit applies change to a copy of the object, if there is one.
func (d *drafts[T]) edit(id string, change func(T)) {
	c, ok := d.byID[id]
	if !ok {
		stored := d.get(id)
		if reflect.ValueOf(stored).IsNil() {
			return
		}
		if d.byID == nil {
			d.byID = map[string]*draft[T]{}
		}
		c = &draft[T]{stored, d.clone(stored)}
		d.byID[id] = c
		d.order = append(d.order, c)
	}
	change(c.edited)
}

// changes returns the copies that differ from what is stored.
func (d *drafts[T]) changes() (list []state.Change) {
	for _, c := range d.order {
		if !reflect.DeepEqual(c.stored, c.edited) {
			list = append(list, state.Put(c.edited))
		}
	}
	return list
}
