package state

import (
	"iter"
	"strings"

	"github.com/hashicorp/go-memdb"
)

// View is the state at one index. It is immutable and safe for concurrent use;
// the objects it returns must not be changed.
type View struct {
	mem   *memdb.MemDB
	txn   *memdb.Txn // read only
	index uint64
	log   *changelog // nil in drafts
}

func newView(mem *memdb.MemDB, index uint64, log *changelog) *View {
	return &View{mem: mem, txn: mem.Txn(false), index: index, log: log}
}

func (v *View) detached() *View { return newView(v.mem, v.index, nil) }

// Index is the number of the last update that the view contains; 0 is the
// empty state.
func (v *View) Index() uint64 { return v.index }

func (v *View) get(k Kind, key string) Object {
	raw, err := v.txn.First(string(k), byID, key)
	if err != nil {
		panic("state: " + err.Error()) // the schema is constant
	}
	if raw == nil {
		return nil
	}
	return raw.(Object)
}

func get[T Object](v *View, k Kind, key string) (found T) {
	if o := v.get(k, key); o != nil {
		found = o.(T)
	}
	return found
}

// scan yields the objects whose key in the named index begins with prefix, in
// the order of that index.
func scan[T Object](v *View, k Kind, index, prefix string) iter.Seq[T] {
	return func(yield func(T) bool) {
		it, err := v.txn.Get(string(k), index+"_prefix", prefix)
		if err != nil {
			panic("state: " + err.Error())
		}
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if !yield(raw.(T)) {
				return
			}
		}
	}
}

func first[T any](seq iter.Seq[T]) (found T) {
	for o := range seq {
		return o
	}
	return found
}

// Cluster returns the cluster object, nil before it is initialised.
func (v *View) Cluster() *Cluster { return get[*Cluster](v, KindCluster, "cluster") }

// Node returns the node with this id, or nil.
func (v *View) Node(id string) *Node { return get[*Node](v, KindNode, id) }

// Nodes yields all nodes by id.
func (v *View) Nodes() iter.Seq[*Node] { return v.NodesByPrefix("") }

// NodesByPrefix yields the nodes whose id begins with prefix.
func (v *View) NodesByPrefix(prefix string) iter.Seq[*Node] {
	return scan[*Node](v, KindNode, byID, prefix)
}

// Service returns the service with this id, or nil.
func (v *View) Service(id string) *Service { return get[*Service](v, KindService, id) }

// ServiceByName returns the service with this name, upper and lower case
// being the same, or nil.
func (v *View) ServiceByName(name string) *Service {
	return first(scan[*Service](v, KindService, byName, group(strings.ToLower(name))))
}

// Services yields all services by id.
func (v *View) Services() iter.Seq[*Service] { return v.ServicesByPrefix("") }

// ServicesByPrefix yields the services whose id begins with prefix.
func (v *View) ServicesByPrefix(prefix string) iter.Seq[*Service] {
	return scan[*Service](v, KindService, byID, prefix)
}

// Revision returns revision n of a service, or nil.
func (v *View) Revision(serviceID string, n uint64) *Revision {
	return get[*Revision](v, KindRevision, RevisionKey(serviceID, n))
}

// Revisions yields the stored revisions of a service, oldest first.
func (v *View) Revisions(serviceID string) iter.Seq[*Revision] {
	return scan[*Revision](v, KindRevision, byID, serviceID+"/")
}

// AllRevisions yields the revisions of all services.
func (v *View) AllRevisions() iter.Seq[*Revision] {
	return scan[*Revision](v, KindRevision, byID, "")
}

// Task returns the task with this id, or nil.
func (v *View) Task(id string) *Task { return get[*Task](v, KindTask, id) }

// Tasks yields all tasks by id.
func (v *View) Tasks() iter.Seq[*Task] { return v.TasksByPrefix("") }

// TasksByPrefix yields the tasks whose id begins with prefix.
func (v *View) TasksByPrefix(prefix string) iter.Seq[*Task] {
	return scan[*Task](v, KindTask, byID, prefix)
}

// TasksOfService yields the tasks of a service by slot, then id.
func (v *View) TasksOfService(serviceID string) iter.Seq[*Task] {
	return scan[*Task](v, KindTask, byService, group(serviceID))
}

// TasksOfSlot yields the tasks of one slot of a service by id.
func (v *View) TasksOfSlot(serviceID string, slot int) iter.Seq[*Task] {
	return scan[*Task](v, KindTask, byService, group(serviceID, slotKey(slot)))
}

// TasksOfNode yields the tasks that have been given to a node by id.
func (v *View) TasksOfNode(nodeID string) iter.Seq[*Task] {
	return scan[*Task](v, KindTask, byNode, group(nodeID))
}

// TasksNew yields the tasks whose status is New: the allocator's work.
func (v *View) TasksNew() iter.Seq[*Task] {
	return scan[*Task](v, KindTask, byStage, group(stageNew))
}

// TasksPending yields the tasks whose status is Pending: the scheduler's work.
func (v *View) TasksPending() iter.Seq[*Task] {
	return scan[*Task](v, KindTask, byStage, group(stagePending))
}

// Network returns the network with this id, or nil.
func (v *View) Network(id string) *Network { return get[*Network](v, KindNetwork, id) }

// NetworkByName returns the network with this name, or nil.
func (v *View) NetworkByName(name string) *Network {
	return first(scan[*Network](v, KindNetwork, byName, group(name)))
}

// NetworksByPrefix yields the networks whose id begins with prefix.
func (v *View) NetworksByPrefix(prefix string) iter.Seq[*Network] {
	return scan[*Network](v, KindNetwork, byID, prefix)
}

// Secret returns the secret with this id, or nil.
func (v *View) Secret(id string) *Secret { return get[*Secret](v, KindSecret, id) }

// SecretByName returns the secret with this name, or nil.
func (v *View) SecretByName(name string) *Secret {
	return first(scan[*Secret](v, KindSecret, byName, group(name)))
}

// SecretsByPrefix yields the secrets whose id begins with prefix.
func (v *View) SecretsByPrefix(prefix string) iter.Seq[*Secret] {
	return scan[*Secret](v, KindSecret, byID, prefix)
}

// Config returns the config with this id, or nil.
func (v *View) Config(id string) *Config { return get[*Config](v, KindConfig, id) }

// ConfigByName returns the config with this name, or nil.
func (v *View) ConfigByName(name string) *Config {
	return first(scan[*Config](v, KindConfig, byName, group(name)))
}

// ConfigsByPrefix yields the configs whose id begins with prefix.
func (v *View) ConfigsByPrefix(prefix string) iter.Seq[*Config] {
	return scan[*Config](v, KindConfig, byID, prefix)
}

// Volume returns the volume with this name, or nil.
func (v *View) Volume(name string) *Volume { return get[*Volume](v, KindVolume, name) }

// Volumes yields all volumes by name.
func (v *View) Volumes() iter.Seq[*Volume] { return scan[*Volume](v, KindVolume, byID, "") }

// Request returns the outcome of the request with this id, or nil.
func (v *View) Request(id string) *Request { return get[*Request](v, KindRequest, id) }

// RequestsByAge yields the remembered requests, oldest first.
func (v *View) RequestsByAge() iter.Seq[*Request] {
	return scan[*Request](v, KindRequest, byAge, "")
}
