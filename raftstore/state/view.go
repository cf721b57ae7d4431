package state

import (
	"iter"
	"strings"

	"shoal/internal/runspec"
)

// View is the state at one index. It is immutable and safe for concurrent use;
// the objects it returns must not be changed.
type View struct {
	tables tables
	index  uint64
	log    *changelog // nil in drafts
}

func newView(t tables, index uint64, log *changelog) *View {
	return &View{tables: t, index: index, log: log}
}

// Index is the number of the last update that the view contains; 0 is the
// empty state.
func (v *View) Index() uint64 { return v.index }

func first[T any](seq iter.Seq[T]) (found T) {
	for o := range seq {
		return o
	}
	return found
}

// Cluster returns the cluster object, nil before it is initialised.
func (v *View) Cluster() *Cluster { return v.tables.clusters.get("cluster") }

// Node returns the node with this id, or nil.
func (v *View) Node(id string) *Node { return v.tables.nodes.get(id) }

// Nodes yields all nodes by id.
func (v *View) Nodes() iter.Seq[*Node] { return v.NodesByPrefix("") }

// NodesByPrefix yields the nodes whose id begins with prefix.
func (v *View) NodesByPrefix(prefix string) iter.Seq[*Node] {
	return v.tables.nodes.prefix(prefix)
}

// Service returns the service with this id, or nil.
func (v *View) Service(id string) *Service { return v.tables.services.get(id) }

// ServiceByName returns the service with this name, upper and lower case
// being the same, or nil.
func (v *View) ServiceByName(name string) *Service {
	return first(v.tables.services.indexes[byName].equal(strings.ToLower(name)))
}

// Services yields all services by id.
func (v *View) Services() iter.Seq[*Service] { return v.ServicesByPrefix("") }

// ServicesByPrefix yields the services whose id begins with prefix.
func (v *View) ServicesByPrefix(prefix string) iter.Seq[*Service] {
	return v.tables.services.prefix(prefix)
}

// Revision returns revision n of a service, or nil.
func (v *View) Revision(serviceID string, n uint64) *Revision {
	return v.tables.revisions.get(RevisionKey(serviceID, n))
}

// Revisions yields the stored revisions of a service, oldest first.
func (v *View) Revisions(serviceID string) iter.Seq[*Revision] {
	return v.tables.revisions.prefix(serviceID + "/")
}

// AllRevisions yields the revisions of all services.
func (v *View) AllRevisions() iter.Seq[*Revision] {
	return v.tables.revisions.prefix("")
}

// Task returns the task with this id, or nil.
func (v *View) Task(id string) *Task { return v.tables.tasks.get(id) }

// Tasks yields all tasks by id.
func (v *View) Tasks() iter.Seq[*Task] { return v.TasksByPrefix("") }

// TasksByPrefix yields the tasks whose id begins with prefix.
func (v *View) TasksByPrefix(prefix string) iter.Seq[*Task] {
	return v.tables.tasks.prefix(prefix)
}

// TasksOfService yields the tasks of a service by slot, then id.
func (v *View) TasksOfService(serviceID string) iter.Seq[*Task] {
	return v.tables.tasks.indexes[byService].equal(serviceID)
}

// TasksOfSlot yields the tasks of one slot of a service by id.
func (v *View) TasksOfSlot(serviceID string, slot int) iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		for t := range v.tables.tasks.indexes[byService].from(serviceID, &Task{Slot: slot}) {
			if t.Slot != slot || !yield(t) {
				return
			}
		}
	}
}

// TasksOfNode yields the tasks that have been given to a node by id.
func (v *View) TasksOfNode(nodeID string) iter.Seq[*Task] {
	return v.tables.tasks.indexes[byNode].equal(nodeID)
}

// TasksNew yields the tasks whose status is New: the allocator's work.
func (v *View) TasksNew() iter.Seq[*Task] {
	return v.tables.tasks.indexes[byStage].equal(stageNew)
}

// TasksPending yields the tasks whose status is Pending: the scheduler's work.
func (v *View) TasksPending() iter.Seq[*Task] {
	return v.tables.tasks.indexes[byStage].equal(stagePending)
}

// Network returns the network with this id, or nil.
func (v *View) Network(id string) *Network { return v.tables.networks.get(id) }

// NetworkByName returns the network with this name, or nil.
func (v *View) NetworkByName(name string) *Network {
	return first(v.tables.networks.indexes[byName].equal(name))
}

// NetworksByPrefix yields the networks whose id begins with prefix.
func (v *View) NetworksByPrefix(prefix string) iter.Seq[*Network] {
	return v.tables.networks.prefix(prefix)
}

// Volume returns the volume with this name, or nil.
func (v *View) Volume(name string) *Volume { return v.tables.volumes.get(name) }

// Volumes yields all volumes by name.
func (v *View) Volumes() iter.Seq[*Volume] { return v.tables.volumes.prefix("") }

// Request returns the outcome of the request with this id, or nil.
func (v *View) Request(id string) *Request { return v.tables.requests.get(id) }

// RequestsByAge yields the remembered requests, oldest first.
func (v *View) RequestsByAge() iter.Seq[*Request] {
	return v.tables.requests.indexes[byAge].equal("")
}

// RunOf is what the service's spec cannot say of its containers; nil: nothing.
// Like the credentials, it is part of the revision.
func (v *View) RunOf(s *Service) *runspec.Spec { return v.runAt(s.ID, s.Revision) }

// PreviousRunOf is RunOf for the service's previous spec.
func (v *View) PreviousRunOf(s *Service) *runspec.Spec { return v.runAt(s.ID, s.PreviousRevision) }

func (v *View) runAt(serviceID string, number uint64) *runspec.Spec {
	if r := v.Revision(serviceID, number); r != nil {
		return r.Run
	}
	return nil
}
