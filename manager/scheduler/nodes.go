package scheduler

import (
	"time"

	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/taskstate"
	"shoal/raftstore/state"
)

// A node on which a revision of a service failed this often within the window
// comes after all others for it. The figures are SwarmKit's.
const (
	maxFailures   = 5
	failureWindow = 5 * time.Minute
)

// revisionKey names a revision of a service.
type revisionKey struct {
	serviceID string
	number    uint64
}

// nodeInfo is a node and what the tasks that were given to it take.
type nodeInfo struct {
	node *state.Node
	held int // tasks that take room, whatever they are meant to become
	// Tasks count while they are not meant to stop.
	tasks     int
	byService map[string]int
	// Resources count until a task has really ended.
	reserved resources
	claimed  map[string]int64 // discrete and named resources in use, by name
	named    map[swarm.NamedGenericResource]int
	ports    map[hostPort]int
	failures map[revisionKey][]time.Time
}

type resources struct{ nanoCPUs, memory int64 }

type hostPort struct {
	protocol swarm.PortConfigProtocol
	port     uint32
}

func newNodeInfo() *nodeInfo {
	return &nodeInfo{
		byService: map[string]int{}, claimed: map[string]int64{}, named: map[swarm.NamedGenericResource]int{},
		ports: map[hostPort]int{}, failures: map[revisionKey][]time.Time{},
	}
}

// nodeSet is what all nodes carry, at one view.
type nodeSet struct {
	view    *state.View
	nodes   map[string]*nodeInfo
	demands map[revisionKey]*demand
	moving  map[string]*state.Task // tasks that are to be moved, by id
}

func newNodeSet() *nodeSet { return &nodeSet{} }

// sync moves the set to view. It reports whether something changed that may
// let a task be placed: a task that is waiting, room that became free, a node.
func (s *nodeSet) sync(view *state.View, now time.Time) bool {
	var events []state.Event
	known := s.view != nil
	if known {
		events, known = view.Since(s.view.Index())
	}
	s.view = view
	if !known {
		s.reset(now)
		return true
	}
	relevant := false
	for _, e := range events {
		if s.apply(e, now) {
			relevant = true
		}
	}
	return relevant
}

func (s *nodeSet) reset(now time.Time) {
	s.nodes, s.demands, s.moving = map[string]*nodeInfo{}, map[revisionKey]*demand{}, map[string]*state.Task{}
	for n := range s.view.Nodes() {
		s.info(n.ID).node = n
	}
	for t := range s.view.Tasks() {
		s.count(t, +1)
		s.noteFailure(nil, t, now)
	}
}

func (s *nodeSet) apply(e state.Event, now time.Time) (relevant bool) {
	switch e.Object().(type) {
	case *state.Node:
		return s.applyNode(e)
	case *state.Task:
		before, _ := e.Old.(*state.Task)
		after, _ := e.New.(*state.Task)
		if before != nil {
			s.count(before, -1)
		}
		if after != nil {
			s.count(after, +1)
			s.noteFailure(before, after, now)
		}
		return waiting(after) && !waiting(before) || takes(before) && !takes(after)
	case *state.Revision:
		if r, ok := e.Old.(*state.Revision); ok && e.New == nil {
			delete(s.demands, revisionKey{r.ServiceID, r.Number})
		}
	}
	return false
}

func (s *nodeSet) applyNode(e state.Event) (relevant bool) {
	after, _ := e.New.(*state.Node)
	s.info(e.Object().Key()).node = after
	s.forget(e.Object().Key())
	return true
}

// waiting reports whether a task waits for the scheduler.
func waiting(t *state.Task) bool {
	return t != nil && t.Status.State == taskstate.Pending && t.Desired <= taskstate.Complete
}

// takes reports whether a task takes room on its node.
func takes(t *state.Task) bool {
	return t != nil && t.NodeID != "" && t.Status.State >= taskstate.Assigned && !t.Status.State.Terminal()
}

func (s *nodeSet) info(nodeID string) *nodeInfo {
	info := s.nodes[nodeID]
	if info == nil {
		info = newNodeInfo()
		s.nodes[nodeID] = info
	}
	return info
}

// count adds a task to its node, or takes it away, sign being +1 or -1. A task
// that was bound to a node beforehand counts once it is confirmed.
func (s *nodeSet) count(t *state.Task, sign int) {
	if !takes(t) {
		return
	}
	info := s.info(t.NodeID)
	info.held += sign
	info.countTask(t.ServiceID, t.Desired, sign)
	if d := s.demand(revisionKey{t.ServiceID, t.Revision}); d != nil {
		info.take(d, sign)
	}
	info.claim(t.GenericResources, sign)
	if t.MoveTo != "" && t.Desired <= taskstate.Complete {
		if delete(s.moving, t.ID); sign > 0 {
			s.moving[t.ID] = t
		}
	}
	s.forget(t.NodeID)
}

// forget drops a node that was removed, once nothing is left on it.
func (s *nodeSet) forget(nodeID string) {
	if info := s.nodes[nodeID]; info != nil && info.node == nil && info.held <= 0 {
		delete(s.nodes, nodeID)
	}
}

// demand returns what a revision's tasks ask for, nil if it was never seen.
// It is kept until the deletion of the revision has been seen, which comes
// after that of its last task.
func (s *nodeSet) demand(key revisionKey) *demand {
	d := s.demands[key]
	if d == nil {
		if r := s.view.Revision(key.serviceID, key.number); r != nil {
			d = newDemand(r)
			s.demands[key] = d
		}
	}
	return d
}

func (n *nodeInfo) countTask(serviceID string, desired taskstate.State, sign int) {
	if desired > taskstate.Complete {
		return
	}
	n.tasks += sign
	n.byService[serviceID] += sign
	if n.byService[serviceID] == 0 {
		delete(n.byService, serviceID)
	}
}

// take adds or removes what a task demands, generic resources apart.
func (n *nodeInfo) take(d *demand, sign int) {
	n.reserved.nanoCPUs += int64(sign) * d.resources.nanoCPUs
	n.reserved.memory += int64(sign) * d.resources.memory
	for _, p := range d.hostPorts {
		n.ports[p] += sign
		if n.ports[p] == 0 {
			delete(n.ports, p)
		}
	}
}

// noteFailure remembers that a task ended badly, when that is news.
func (s *nodeSet) noteFailure(before, after *state.Task, now time.Time) {
	failed := func(t *state.Task) bool {
		return t != nil && (t.Status.State == taskstate.Failed || t.Status.State == taskstate.Rejected)
	}
	if !failed(after) || failed(before) || after.NodeID == "" || now.Sub(after.UpdatedAt) > failureWindow {
		return
	}
	info, key := s.info(after.NodeID), revisionKey{after.ServiceID, after.Revision}
	recent := recentFailures(info.failures[key], now)
	info.failures[key] = append(recent, after.UpdatedAt)
}

func recentFailures(times []time.Time, now time.Time) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) > failureWindow {
		times = times[1:]
	}
	return times
}

// failing reports whether the node is one to avoid for a revision.
func (n *nodeInfo) failing(key revisionKey, now time.Time) bool {
	return len(recentFailures(n.failures[key], now)) >= maxFailures
}

// failedUntil is when a node that is failing is no longer, if nothing fails
// there any more.
func (n *nodeInfo) failedUntil(key revisionKey, now time.Time) time.Time {
	recent := recentFailures(n.failures[key], now)
	return recent[len(recent)-maxFailures].Add(failureWindow + time.Second)
}
